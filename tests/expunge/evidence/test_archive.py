"""The bundle's container: what is packed comes back, and whatever else a ZIP may be is refused in a sentence."""

import io
import zipfile

import pytest

from expunge.evidence.archive import pack, unpack

FILES = {"a.txt": b"some text", "keys/b.pem": b"", "é.json": b"{}"}


def zipped(method: int = zipfile.ZIP_STORED, files: dict[str, bytes] = FILES) -> bytes:
    """As another tool would."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def test_what_is_packed_comes_back() -> None:
    assert unpack(pack(FILES)) == FILES


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_is_compressed_is_refused_unread(method: int) -> None:
    with pytest.raises(ValueError, match="something in it is compressed"):
        unpack(zipped(method))


@pytest.mark.parametrize("method", [1, 8, 12, 14, 99])
def test_a_method_that_the_content_is_not_of_is_refused(method: int) -> None:
    """Both places that name it are altered, and a reader that believes them fails in its own way with each."""
    data = bytearray(pack({"a.txt": b"some text, and enough of it for a header"}))
    data[8:10] = method.to_bytes(2, "little")
    at = data.index(b"PK\x01\x02")
    data[at + 10 : at + 12] = method.to_bytes(2, "little")
    with pytest.raises(ValueError, match="archive"):
        unpack(bytes(data))


def test_more_files_than_can_be_counted_are_refused() -> None:
    many = {f"{number:05x}": b"" for number in range(2**16)}
    with pytest.raises(ValueError, match="65535 files at most"):
        pack(many)
    with pytest.raises(ValueError, match="65535 files at most"):
        unpack(zipped(files=many))


def test_any_changed_bit_is_refused() -> None:
    data = pack(FILES)
    for at in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[at] ^= 1 << bit
            try:
                found = unpack(bytes(changed))
            except ValueError:
                continue
            assert found != FILES, "the contents are held against the manifest"
