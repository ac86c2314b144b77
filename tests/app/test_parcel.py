"""The evidence bundle: what is in it, that it verifies without the service, and that any changed byte is found."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from app.config import settings
from app.db import transaction
from app import checkpoints, versions
from app.evidence import parcel
from app.tables import VersionKind
from expunge.evidence import archive, bundle, dsse
from expunge.evidence.keys import SigningKeys
from expunge.evidence.verify import Fault, Options, verify
from tests.app import story

SECRET = "a secret for tests that has thirty-two characters"


@pytest.fixture
def signing(monkeypatch: pytest.MonkeyPatch) -> Iterator[SigningKeys]:
    monkeypatch.setenv("EXPUNGE_SIGNING_SECRET", SECRET)
    settings.cache_clear()
    yield SigningKeys(SECRET.encode())
    settings.cache_clear()


@pytest.fixture
def line(database: str, signing: SigningKeys) -> int:
    """v1 trained, v2 unlearned, v3 retrained; a checkpoint before v2."""
    story.dataset()
    model_id = story.trained()
    with transaction() as session:
        checkpoints.sign(session)
    story.submit(1, 2)
    story.work(model_id)
    story.submit(3, subjects=["p-5"])
    lease = story.closed(model_id)
    story.record(lease, b"rejected", story.ESCALATE)
    story.publish(lease, b"retrained", VersionKind.RETRAINED)
    return model_id


def made(reference: str) -> bytes:
    with transaction() as session:
        found = parcel.gather(session, versions.resolve(session, reference))
    return parcel.build(found)


@pytest.mark.parametrize("reference", ["m-v1", "m-v2", "m-v3"])
def test_a_bundle_holds(line: int, signing: SigningKeys, reference: str) -> None:
    data = made(reference)
    found = dict(verify(data, Options(fingerprint=signing.public.fingerprint)))
    print(found)
    assert list(found) == ["container", "signature", "contents", "weights", "attestations", "checkpoint", "log", "story"]
    Path(f"/tmp/{reference}.zip").write_bytes(data)
