"""The bundle's container: a ZIP that any tool opens, of which there is exactly one for given files.

Nothing is compressed, every entry has the same date and mode, and entries lie in order of their names without gaps. So whoever
reads one writes it again and compares: a changed byte is found wherever it is, also between the files.
"""

import io
import struct
import zipfile
import zlib

LOCAL = struct.Struct("<4s5H3I2H")
CENTRAL = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
VERSION, STORED, UTF8 = 20, 0, 0x0800
EPOCH = (0, (1980 - 1980) << 9 | 1 << 5 | 1)
"""Midnight of 1 January 1980, where the format's time begins."""
MADE_ON_UNIX = 3 << 8 | VERSION
MODE = 0o100644 << 16
LARGEST, MOST = 2**32 - 1, 2**16 - 1
UNREADABLE = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    UnicodeError,
    zlib.error,
    struct.error,
)
"""What reading an archive raises that somebody has altered."""


def pack(files: dict[str, bytes]) -> bytes:
    """The archive. Raises `ValueError` when it would be larger than the format's 4 GiB, or have more files than it counts."""
    if len(files) > MOST:
        raise ValueError(f"a bundle has {MOST} files at most")
    out, index = io.BytesIO(), io.BytesIO()
    for name in sorted(files):
        data, encoded, offset = files[name], name.encode(), out.tell()
        if offset + len(data) > LARGEST:
            raise ValueError("a bundle has 4 GiB at most")
        crc, sizes = zlib.crc32(data), (len(data), len(data))
        out.write(LOCAL.pack(b"PK\x03\x04", VERSION, UTF8, STORED, *EPOCH, crc, *sizes, len(encoded), 0))
        out.write(encoded + data)
        entry = (MADE_ON_UNIX, VERSION, UTF8, STORED, *EPOCH, crc, *sizes, len(encoded), 0, 0, 0, 0, MODE, offset)
        index.write(CENTRAL.pack(b"PK\x01\x02", *entry) + encoded)
    listed, begins = index.getvalue(), out.tell()
    count = len(files)
    out.write(listed + END.pack(b"PK\x05\x06", 0, 0, count, count, len(listed), begins, 0))
    return out.getvalue()


def unpack(data: bytes) -> dict[str, bytes]:
    """The files of an archive that `pack` made. Raises `ValueError` for any other."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != STORED for entry in entries):
                raise ValueError("the archive is not as it was made: something in it is compressed")
            if sum(entry.file_size for entry in entries) > len(data):
                raise ValueError("the archive says that its files are larger than it is")
            found = {entry.filename: archive.read(entry) for entry in entries}
        again = pack(found)
    except UNREADABLE as error:
        raise ValueError(f"this is no archive that can be read ({type(error).__name__})") from None
    if again != data:
        raise ValueError("the archive is not as it was made: a byte outside its files was changed")
    return found
