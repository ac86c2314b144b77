"""Keys out of PEM texts: whatever was altered, it is another key or a `ValueError`."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from expunge.evidence.keys import PublicKeys, SigningKeys, pem, statements_key

PAIR = SigningKeys(b"a secret of an installation that has 32 bytes").public
STATEMENTS, WEIGHTS = pem(PAIR.statements), pem(PAIR.weights)


def altered(text: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(text)
    changed[at] ^= 1 << bit
    return bytes(changed)


@pytest.mark.parametrize("bit", range(8))
def test_any_changed_bit_of_a_key_file_is_refused_or_another_key(bit: int) -> None:
    for first, second in (
        *((altered(STATEMENTS, at, bit), WEIGHTS) for at in range(len(STATEMENTS))),
        *((STATEMENTS, altered(WEIGHTS, at, bit)) for at in range(len(WEIGHTS))),
    ):
        try:
            PublicKeys.read(first, second)
        except ValueError:
            continue


def test_a_key_of_an_unknown_kind_is_refused() -> None:
    """Its object identifier was changed: the library has an exception of its own for that."""
    kinds = set()
    for at in range(len(STATEMENTS)):
        try:
            statements_key(altered(STATEMENTS, at, 0))
        except ValueError as error:
            kinds.add(str(error))
    assert "this is a key of a kind that nothing here is signed with" in kinds


def test_keys_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="Ed25519"):
        statements_key(WEIGHTS)
    with pytest.raises(ValueError, match="P-256"):
        PublicKeys.read(STATEMENTS, STATEMENTS)
    with pytest.raises(ValueError, match="P-256"):
        PublicKeys.read(STATEMENTS, pem(ec.generate_private_key(ec.SECP384R1()).public_key()))
