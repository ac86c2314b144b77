"""Signed notes and checkpoints, against the example of the specification."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from expunge.evidence import notes
from expunge.evidence.keys import PublicKeys, SigningKeys

# From c2sp.org/signed-note: a text, its note and the key that verifies it.
TEXT = "This is an example message.\n"
NOTE = (
    TEXT
    + "\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
PUBLIC = base64.b64decode("AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")[1:]
PAIR = SigningKeys(b"a secret of an installation that has 32 bytes")
HEAD = notes.Checkpoint("example.com/log", 7, bytes(range(32)))


def verify(message: bytes, signature: bytes) -> bool:
    public = Ed25519PublicKey.from_public_bytes(PUBLIC)
    return PublicKeys(public, PAIR.public.weights).verify(message, signature)


def signed(text: str = HEAD.text, name: str = "example.com/log") -> str:
    return notes.sign(text, name, PAIR.public.raw, PAIR.sign)


def opened(note: str, name: str = "example.com/log") -> str:
    return notes.opened(note, name, PAIR.public.raw, PAIR.public.verify)


def test_the_example_of_the_specification_is_read() -> None:
    assert notes.opened(NOTE, "example.com/foo", PUBLIC, verify) == TEXT
    assert notes.verifier_key("example.com/foo", PUBLIC) == (
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    )


def test_a_checkpoint_goes_there_and_back() -> None:
    assert notes.read(opened(signed())) == HEAD


def test_other_keys_signatures_are_passed_over() -> None:
    other = SigningKeys(b"another secret of 32 bytes, or some more of them")
    cosigned = signed() + notes.sign(HEAD.text, "witness.example", other.public.raw, other.sign).rpartition("\n\n")[2]
    assert opened(cosigned) == HEAD.text
    with pytest.raises(ValueError, match="not signed by the key of elsewhere"):
        opened(cosigned, "elsewhere")


def test_any_changed_character_is_found() -> None:
    note = signed()
    for at in range(len(note)):
        changed = note[:at] + chr(ord(note[at]) ^ 1) + note[at + 1 :]
        with pytest.raises(ValueError, match=r"note|signature"):
            opened(changed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "only\n",
        "a\n1\n" + base64.b64encode(bytes(32)).decode(),
        "a\n01\n" + base64.b64encode(bytes(32)).decode() + "\n",
        "a\n-1\n" + base64.b64encode(bytes(32)).decode() + "\n",
        "a\n1\n" + base64.b64encode(bytes(31)).decode() + "\n",
        "a\n1\n" + "*" * 44 + "\n",
        "\n1\n" + base64.b64encode(bytes(32)).decode() + "\n",
        "a\n1\n" + base64.b64encode(bytes(32)).decode() + "\nextension\n",
    ],
    ids=["empty", "one-line", "no-newline", "leading-zero", "negative", "short", "no-base64", "no-origin", "extension"],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no checkpoint"):
        notes.read(text)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\nb"])
def test_a_name_that_a_note_would_take_for_something_else_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="neither spaces nor plus"):
        notes.check_name(name)


def test_keys_follow_from_the_secret_alone() -> None:
    again = SigningKeys(b"a secret of an installation that has 32 bytes")
    assert again.public.fingerprint == PAIR.public.fingerprint
    assert again.sign_weights(b"x") == PAIR.sign_weights(b"x")
    assert (
        SigningKeys(b"another secret of 32 bytes, or some more of them").public.fingerprint != PAIR.public.fingerprint
    )
