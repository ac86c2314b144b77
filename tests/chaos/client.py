"""The clients: they submit, repeat, cancel and order over HTTP, and note what they were answered, as a client would.

A request that gets no answer, or a 5xx, is sent again until it gets one; that is what a client has an `Idempotency-Key`
for. The notes are all that a client knows of its tickets: the checker holds the service to them.
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

PATIENCE = 240.0
PAUSE = 0.05


class Unanswered(TimeoutError):
    """The service gave no answer in all the time that a client waits."""


@dataclass
class Client:
    """One client with its key. Safe to use from several threads."""

    url: str
    secret: str
    notes: Path
    idle: Callable[[], None] = lambda: None
    """Called before a request is sent again."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        limits = httpx.Limits(max_keepalive_connections=0)  # the server may have died since
        headers = {"Authorization": f"Bearer {self.secret}"}
        self.http = httpx.Client(base_url=self.url, headers=headers, timeout=5, limits=limits)

    def ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, **headers: str
    ) -> tuple[httpx.Response, int]:
        """The answer, and how often there was none before it: then the request may have been carried out all the same."""
        lost, begun = 0, time.monotonic()
        while time.monotonic() - begun < PATIENCE:
            try:
                response = self.http.request(method, path, json=body, headers=headers)
            except httpx.TransportError:
                lost += 1
            else:
                in_flight = response.status_code == 409 and response.json().get("code") == "in_flight"
                if response.status_code < 500 and not in_flight:
                    return response, lost
                lost += response.status_code >= 500
            self.wait()
        raise Unanswered(f"{method} {path}: no answer in {PATIENCE:g} s")

    def wait(self) -> None:
        self.idle()
        time.sleep(PAUSE)

    def note(self, kind: str, **what: Any) -> None:
        line = json.dumps({"kind": kind, "at": time.time()} | what) + "\n"
        with self.lock, self.notes.open("a") as file:
            file.write(line)

    def submit(self, dataset: str, key: str, ordinals: list[int], **more: Any) -> str | None:
        """A ticket over these samples; its id, or None where it was refused."""
        named = {"sample_ids": [f"train-{ordinal:04d}" for ordinal in ordinals]}
        return self.send(dataset, key, ordinals, named | more)

    def submit_subjects(self, dataset: str, key: str, subjects: list[int], **more: Any) -> str | None:
        """A ticket over all samples of these subjects."""
        ordinals = [20 * subject + each for subject in subjects for each in range(20)]
        named = {"subject_ids": [f"train-subject-{subject:03d}" for subject in subjects]}
        return self.send(dataset, key, ordinals, named | more)

    def send(self, dataset: str, key: str, ordinals: list[int], more: dict[str, Any]) -> str | None:
        body = {"dataset": dataset, "reason": "other"} | more
        response, lost = self.ask("POST", "/deletions", body, **{"Idempotency-Key": key})
        told = response.json()
        ticket = told.get("id") if response.status_code == 202 else None
        self.note(
            "submit",
            dataset=dataset,
            key=key,
            status=response.status_code,
            ticket=ticket,
            code=told.get("code"),
            replayed=response.headers.get("Idempotency-Replayed") == "true",
            lost=lost,
            ordinals=ordinals,
            reason=body["reason"],
        )
        return ticket

    def cancel(self, ticket: str) -> int:
        response, lost = self.ask("POST", f"/deletions/{ticket}/cancel")
        self.note("cancel", ticket=ticket, status=response.status_code, lost=lost)
        return response.status_code

    def order(self, path: str, body: dict[str, Any]) -> Any:
        """Something an operator asks for. What was carried out without an answer is answered with a conflict."""
        response, lost = self.ask("POST", path, body)
        if response.is_error and not (lost and response.status_code == 409):
            raise RuntimeError(f"POST {path}: {response.status_code} {response.text[:200]}")
        self.note("order", path=path, status=response.status_code, lost=lost)
        return response.json()

    def load(self, dataset: str, samples: int) -> None:
        """The manifest of `samples` samples, twenty a subject."""
        rows = "".join(f"train-{i:04d},train-subject-{i // 20:03d}\n" for i in range(samples))
        begun = time.monotonic()
        while time.monotonic() - begun < PATIENCE:
            try:
                content = ("id,subject\n" + rows).encode()
                response = self.http.put(f"/datasets/{dataset}", content=content, headers={"Content-Type": "text/csv"})
            except httpx.TransportError:
                self.wait()
                continue
            if response.status_code in (201, 409):
                return
            self.wait()
        raise Unanswered(f"PUT /datasets/{dataset}: no answer in {PATIENCE:g} s")

    def get(self, path: str) -> Any:
        response, _ = self.ask("GET", path)
        response.raise_for_status()
        return response.json()
