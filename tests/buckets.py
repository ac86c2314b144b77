"""An S3 on this machine, spoken to over HTTP, and a wire to it that can be cut."""

import os
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer

from tests.databases import forget_settings

BUCKET, PREFIX = "expunge-artifacts", "of/tests"
KEYS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "hush", "AWS_REGION": "eu-central-1"}


class Wire(socketserver.ThreadingTCPServer):
    """Passes bytes on to a server. Once `up` bytes have gone up, or `down` bytes come down, every connection is cut."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, host: str, upstream: int) -> None:
        super().__init__((host, 0), Passing)
        self.host, self.upstream = host, upstream
        self.up: int | None = None
        self.down: int | None = None
        self.cuts = 0
        self.heard = b""
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.server_address[1]}"


class Passing(socketserver.BaseRequestHandler):
    server: Wire

    def handle(self) -> None:
        with suppress(OSError), socket.create_connection((self.server.host, self.server.upstream)) as other:
            back = threading.Thread(target=self.copy, args=(other, self.request, "down"), daemon=True)
            back.start()
            self.copy(self.request, other, "up")
            back.join()

    def copy(self, source: socket.socket, target: socket.socket, way: str) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if way == "up":
                    self.server.heard += data[:4096]
                left = getattr(self.server, way)
                if left is not None:
                    setattr(self.server, way, max(0, left - len(data)))
                    if left < len(data):
                        target.sendall(data[:left])
                        self.server.cuts += 1
                        break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Bucket:
    """A bucket on a server of its own."""

    def __init__(self, server: ThreadedMotoServer) -> None:
        host, port = server.get_host_and_port()
        self.url = f"http://{host}:{port}"
        self.wire = Wire(host, port)
        credentials = {"aws_access_key_id": "t", "aws_secret_access_key": "t", "region_name": KEYS["AWS_REGION"]}
        self.client: Any = boto3.client("s3", endpoint_url=self.url, **credentials)
        httpx.post(f"{self.url}/moto-api/reset").raise_for_status()  # servers of one process share their buckets
        place = {"LocationConstraint": KEYS["AWS_REGION"]}
        self.client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration=place)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to keep its artifacts here, over the wire."""
        address = f"s3://{BUCKET}/{PREFIX}"
        return KEYS | {"ARTIFACT_URL": address, "AWS_ENDPOINT_URL": self.wire.url, "AWS_ALLOW_HTTP": "true"}

    def names(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def heard(self) -> str:
        """The heads of what was asked so far."""
        return self.wire.heard.decode("latin-1")

    def write(self, name: str, data: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=f"{PREFIX}/{name}", Body=data)


@contextmanager
def bucket(address: str = "127.0.0.1") -> Iterator[Bucket]:
    """A server with one empty bucket at an address of this machine."""
    server = ThreadedMotoServer(ip_address=address, port=0, verbose=False)
    server.start()
    try:
        made = Bucket(server)
        yield made
        made.wire.shutdown()
        made.wire.server_close()
        made.client.close()
    finally:
        server.stop()


@contextmanager
def used(patch: pytest.MonkeyPatch, **more: str) -> Iterator[Bucket]:
    """This process keeps its artifacts in a bucket from here on."""
    with bucket() as made:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in (made.environment | more).items():
            patch.setenv(name, value)
        forget_settings()
        yield made
        forget_settings()
