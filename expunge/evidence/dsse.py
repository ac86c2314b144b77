"""Signed statements: Dead Simple Signing Envelopes (DSSE 1.0) around JSON, most of it in-toto Statements v1."""

import base64
import binascii
import json
from collections.abc import Callable
from typing import Any

IN_TOTO = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"


def canonical(value: Any) -> bytes:
    """JSON with sorted keys, no spaces, no NaN: one text for one value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def encoding(kind: str, payload: bytes) -> bytes:
    """The bytes that are signed (PAE)."""
    name = kind.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


def envelope(kind: str, payload: bytes, key: str, signer: Callable[[bytes], bytes]) -> dict[str, Any]:
    """The envelope of a payload, with one signature. `key` is the signing key's fingerprint, or nothing."""
    signature = base64.b64encode(signer(encoding(kind, payload))).decode()
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": kind,
        "signatures": [{"keyid": key, "sig": signature}],
    }


def opened(found: Any, kind: str, verify: Callable[[bytes, bytes], bool]) -> Any:
    """The JSON inside, once one of its signatures holds.

    Raises:
        ValueError: it is no envelope, it holds another kind of payload or no JSON, or no signature on it is by this key.
    """
    try:
        named, payload = found["payloadType"], base64.b64decode(found["payload"], validate=True)
        signatures = [base64.b64decode(each["sig"], validate=True) for each in found["signatures"]]
    except (TypeError, KeyError, binascii.Error):
        raise ValueError("this is no DSSE envelope") from None
    if named != kind:
        raise ValueError(f"the envelope holds {named}, not {kind}")
    if not any(verify(encoding(named, payload), signature) for signature in signatures):
        raise ValueError("no signature on the envelope is by this key")
    try:
        return json.loads(payload)
    except RecursionError:
        raise ValueError("what is signed is nested too deeply to be read") from None


def statement(name: str, sha256: str, predicate_type: str, predicate: dict[str, Any]) -> dict[str, Any]:
    """An in-toto statement about one file."""
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": sha256}}],
        "predicateType": predicate_type,
        "predicate": predicate,
    }
