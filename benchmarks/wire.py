"""A load client that costs next to nothing, so that a server is measured and not its client: one kept-alive socket."""

import json
import socket
from typing import Any
from urllib.parse import urlsplit


class Wire:
    """One connection. Understands exactly what uvicorn answers: a status line, headers, a body of Content-Length bytes."""

    def __init__(self, url: str, key: str) -> None:
        place = urlsplit(url)
        self.socket = socket.create_connection((place.hostname, place.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.head = f"Host: {place.netloc}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"

    def post(self, path: str, body: dict[str, Any], idempotency_key: str) -> Any:
        """Send and read to the end: the answer's JSON; anything but 202 is an error."""
        payload = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\n{self.head}Idempotency-Key: {idempotency_key}\r\nContent-Length: {len(payload)}\r\n\r\n"
        return json.loads(self.exchange(head.encode() + payload, b"202"))

    def get(self, path: str) -> Any:
        """Ask and read to the end: the answer's JSON; anything but 200 is an error."""
        return json.loads(self.exchange(f"GET {path} HTTP/1.1\r\n{self.head}\r\n".encode(), b"200"))

    def exchange(self, request: bytes, expected: bytes) -> bytes:
        """One request and the body of its answer."""
        self.socket.sendall(request)
        answer = self.socket.recv(65536)
        while not complete(answer):
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionError("the server hung up")
            answer += more
        if not answer.startswith(b"HTTP/1.1 " + expected):
            raise ValueError(answer.decode())
        return answer.partition(b"\r\n\r\n")[2]


def complete(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return len(body) >= int(lengths[0].partition(b":")[2])
