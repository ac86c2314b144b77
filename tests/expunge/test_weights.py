"""Weights on their way into a file: whole and right, or not there."""

import base64
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from expunge import Corrupt, Gone, NotUnderstood, Unavailable
from tests.expunge.driver import Driver, Script, problem

BYTES = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(BYTES).hexdigest()


def digest(content: bytes = BYTES) -> dict[str, str]:
    return {"Repr-Digest": f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"}


def test_they_come_into_a_file_and_in_the_place_of_another(driver: Driver, tmp_path: Path) -> None:
    to = tmp_path / "m.safetensors"
    to.write_bytes(b"older")
    script = Script(httpx.Response(200, content=BYTES, headers=digest()))
    got = driver.client(script.transport).models.weights("m@current", to, sha256=SHA256.upper())
    assert (got.path, got.sha256, got.size) == (to, SHA256, len(BYTES))
    assert to.read_bytes() == BYTES
    assert list(tmp_path.iterdir()) == [to]


@pytest.mark.parametrize(
    ("answer", "wanted", "kind"),
    [
        (httpx.Response(200, content=BYTES[:-1] + b"x", headers=digest()), None, Corrupt),
        (httpx.Response(200, content=BYTES[:-1], headers=digest()), None, Corrupt),
        (httpx.Response(200, content=BYTES, headers=digest()), "0" * 64, Corrupt),
        (httpx.Response(200, content=BYTES), None, NotUnderstood),
        (httpx.Response(200, content=BYTES, headers={"Repr-Digest": "sha-256=:AAAA:"}), None, NotUnderstood),
        (httpx.Response(200, content=BYTES, headers={"Repr-Digest": "sha-256=:A=A:"}), None, NotUnderstood),
        (problem(410, "gone"), None, Gone),
    ],
)
def test_what_is_not_right_leaves_all_as_it_was(
    driver: Driver, tmp_path: Path, answer: httpx.Response, wanted: str | None, kind: type[Exception]
) -> None:
    to = tmp_path / "m.safetensors"
    to.write_bytes(b"older")
    with pytest.raises(kind):
        driver.client(Script(answer).transport).models.weights("m-v2", to, sha256=wanted)
    assert to.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [to]


class Breaking(httpx.SyncByteStream, httpx.AsyncByteStream):
    """Half of the bytes, and then the connection is gone."""

    def __iter__(self) -> Iterator[bytes]:
        yield BYTES[: len(BYTES) // 2]
        raise httpx.ReadError("gone")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk


@pytest.mark.parametrize("breaks", [1, 2, 99])
def test_a_download_that_breaks_off_begins_again(driver: Driver, tmp_path: Path, breaks: int) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        content: Any = {"stream": Breaking()} if len(asked) <= breaks else {"content": BYTES}
        return httpx.Response(200, headers=digest(), **content)

    client, to = driver.client(httpx.MockTransport(answer)), tmp_path / "m.safetensors"
    if breaks == 99:
        with pytest.raises(Unavailable, match="broke off"):
            client.models.weights("m@current", to)
        assert len(asked) == 5
        assert list(tmp_path.iterdir()) == []
        return
    assert client.models.weights("m@current", to).size == len(BYTES)
    assert to.read_bytes() == BYTES
    assert list(tmp_path.iterdir()) == [to]


def test_a_download_that_breaks_off_after_minutes_begins_again(driver: Driver, tmp_path: Path) -> None:
    """However long it had gone well: the time of the tries begins when the first one fails."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        driver.clock.now += 300
        content: Any = {"stream": Breaking()} if len(asked) == 1 else {"content": BYTES}
        return httpx.Response(200, headers=digest(), **content)

    to = tmp_path / "m.safetensors"
    assert driver.client(httpx.MockTransport(answer)).models.weights("m@current", to).size == len(BYTES)
    assert len(asked) == 2


def test_a_folder_that_is_not_there_is_the_caller_s_error(driver: Driver, tmp_path: Path) -> None:
    script = Script(httpx.Response(200, content=BYTES, headers=digest()))
    with pytest.raises(FileNotFoundError):
        driver.client(script.transport).models.weights("m@current", tmp_path / "no" / "folder")
