"""What evidence is signed with. One secret of the installation gives two keys: Ed25519 for checkpoints and statements, and
ECDSA on P-256 for weights, because `model_signing` takes no other kind.

Public halves travel as PEM. A key's fingerprint is the SHA-256 of its DER encoding: what two people compare by telephone.
"""

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

# The order of P-256's group: a private key lies between 1 and this less 1.
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True)
class PublicKeys:
    """The public halves: whoever has them checks everything that the installation signed."""

    statements: Ed25519PublicKey
    weights: ec.EllipticCurvePublicKey

    @classmethod
    def read(cls, statements: bytes, weights: bytes) -> "PublicKeys":
        """From two PEM texts. Raises `ValueError` where one is none, or of another kind."""
        second = loaded(weights)
        if not isinstance(second, ec.EllipticCurvePublicKey) or second.curve.name != "secp256r1":
            raise ValueError("weights are signed with a key on P-256, and this is none")
        return cls(statements_key(statements), second)

    @property
    def raw(self) -> bytes:
        """The Ed25519 key's 32 bytes, as signed notes have them."""
        return raw(self.statements)

    @property
    def fingerprint(self) -> str:
        """Of the key for statements and checkpoints, in hexadecimal."""
        return fingerprint(self.statements)

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether an Ed25519 signature is over this message."""
        return signed_by(self.statements, message, signature)

    def verify_weights(self, message: bytes, signature: bytes) -> bool:
        """Whether an ECDSA signature with SHA-256 is over this message."""
        try:
            self.weights.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


class SigningKeys:
    """Both private keys, derived from the installation's secret. Whoever has it signs in the installation's name."""

    def __init__(self, secret: bytes) -> None:
        self.statements = Ed25519PrivateKey.from_private_bytes(derived(secret, b"expunge evidence ed25519", 32))
        # 16 bytes more than the order has, so that the remainder prefers no key over another (FIPS 186-5, A.2.1).
        drawn = int.from_bytes(derived(secret, b"expunge evidence p-256", 48), "big")
        self.weights = ec.derive_private_key(drawn % (ORDER - 1) + 1, ec.SECP256R1())

    @property
    def public(self) -> PublicKeys:
        return PublicKeys(self.statements.public_key(), self.weights.public_key())

    def sign(self, message: bytes) -> bytes:
        return self.statements.sign(message)

    def sign_weights(self, message: bytes) -> bytes:
        """Deterministic (RFC 6979), so that what is signed twice is the same file twice."""
        return self.weights.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


def derived(secret: bytes, purpose: bytes, length: int) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=purpose).derive(secret)


def loaded(pem: bytes) -> PublicKeyTypes:
    """The public key of a PEM text. Raises `ValueError` where it is none that is known here."""
    try:
        return serialization.load_pem_public_key(pem)
    except UnsupportedAlgorithm:
        raise ValueError("this is a key of a kind that nothing here is signed with") from None


def statements_key(pem: bytes) -> Ed25519PublicKey:
    """The key for statements and checkpoints out of its PEM text. Raises `ValueError` where it is none."""
    key = loaded(pem)
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("statements are signed with an Ed25519 key, and this is none")  # noqa: TRY004 - of bytes, not types
    return key


def raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def signed_by(key: Ed25519PublicKey, message: bytes, signature: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def pem(key: Ed25519PublicKey | ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def fingerprint(key: Ed25519PublicKey | ec.EllipticCurvePublicKey) -> str:
    encoded = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()
