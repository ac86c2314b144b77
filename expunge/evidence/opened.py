"""An evidence bundle as far as it was checked."""

import json
from dataclasses import dataclass, field
from typing import Any

from expunge.evidence import dsse
from expunge.evidence.fault import Fault
from expunge.evidence.given import Options
from expunge.evidence.keys import PublicKeys
from expunge.evidence.notes import Checkpoint


@dataclass
class Opened:
    """The bundle as far as it was checked."""

    raw: bytes
    options: Options
    files: dict[str, bytes] = field(default_factory=dict)
    public: PublicKeys | None = None
    manifest: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    attested: dict[str, dict[str, Any]] = field(default_factory=dict)
    head: Checkpoint | None = None
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def keys(self) -> PublicKeys:
        assert self.public is not None
        return self.public

    def read(self, name: str) -> Any:
        """A file's JSON."""
        try:
            return json.loads(self.part(name))
        except (ValueError, RecursionError):
            raise Fault(f"{name} is no JSON") from None

    def part(self, name: str) -> bytes:
        if name not in self.files:
            raise Fault(f"{name} is missing")
        return self.files[name]

    def envelope(self, name: str, kind: str) -> Any:
        """What is signed in a file, once the bundle's key has signed it."""
        try:
            return dsse.opened(self.read(name), kind, self.keys.verify)
        except ValueError as error:
            raise Fault(f"{name}: {error}") from None
