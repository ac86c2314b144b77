"""An identity provider for tests: real keys, a real HTTP server that can be down, slow or lying."""

import base64
import hashlib
import json
import secrets
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.warnings import InsecureKeyLengthWarning
from typing_extensions import override

AUDIENCE = "expunge"
CLIENT, SECRET = "pages", "what only the two of them know"
RSA_KEY = rsa.generate_private_key(65537, 2048)
STRANGER = rsa.generate_private_key(65537, 2048)
WEAK = rsa.generate_private_key(65537, 1024)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
KEYS: dict[str, tuple[str, Any]] = {"r": ("RS256", RSA_KEY), "e": ("ES256", EC_KEY), "d": ("EdDSA", ED_KEY)}


def public(kid: str, algorithm: str, key: Any, **more: Any) -> dict[str, Any]:
    """A key as the set shows it."""
    algorithms = jwt.algorithms.get_default_algorithms()
    made: dict[str, Any] = json.loads(algorithms[algorithm].to_jwk(key.public_key()))
    return made | {"kid": kid, "use": "sig"} | more


class Issuer:
    """What the provider says, and how often it was asked."""

    def __init__(self, port: int) -> None:
        self.issuer = f"http://127.0.0.1:{port}"
        self.keys = [public(kid, algorithm, key) for kid, (algorithm, key) in KEYS.items()]
        self.keys.append(public("weak", "RS256", WEAK))
        self.keys.append(
            {"kty": "oct", "kid": "shared", "k": base64.urlsafe_b64encode(b"x" * 32).decode(), "alg": "HS256"}
        )
        self.keys.append(public("wrapping", "RS256", RSA_KEY, use="enc"))
        self.status, self.body, self.asked = 200, b"", 0
        self.codes: dict[str, dict[str, str]] = {}
        self.redeemed: list[str] = []
        self.said: dict[str, Any] = {}
        """Claims that differ from what a sign-in asked for, or an answer of the token endpoint: `status`, `body`."""

    @property
    def jwks_url(self) -> str:
        return f"{self.issuer}/jwks"

    @property
    def authorize_url(self) -> str:
        return f"{self.issuer}/authorize"

    @property
    def token_url(self) -> str:
        return f"{self.issuer}/token"

    def authorize(self, query: str) -> str:
        """Where a browser that said who it is is sent back to."""
        asked = {name: values[0] for name, values in parse_qs(query).items()}
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def redeem(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        """What the token endpoint answers: each code once, to whoever began and can show the verifier and the secret."""
        self.redeemed.append(form.get("code", ""))
        asked = self.codes.pop(self.redeemed[-1], None)
        if asked is None or asked["redirect_uri"] != form.get("redirect_uri"):
            return 400, {"error": "invalid_grant"}
        proof = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(proof).decode().rstrip("=") != asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        if authorization != "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode():
            return 401, {"error": "invalid_client"}
        claims = {"aud": asked["client_id"], "nonce": asked["nonce"]} | self.said
        return 200, {"token_type": "Bearer", "id_token": self.token(**claims)}

    def claims(self, **replaced: Any) -> dict[str, Any]:
        now = int(time.time())
        made = {"iss": self.issuer, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 600, "roles": ["reader"]}
        return {name: value for name, value in (made | replaced).items() if value is not None}

    def token(self, kid: str = "r", header: dict[str, Any] | None = None, key: Any = None, **replaced: Any) -> str:
        """A token that is good, except for what is replaced; a claim that is None is left out."""
        algorithm, known = KEYS.get(kid, KEYS["r"])
        headers = {name: value for name, value in ({"kid": kid} | (header or {})).items() if value is not None}
        algorithm = headers.pop("alg", algorithm)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InsecureKeyLengthWarning)
            return jwt.encode(self.claims(**replaced), key or known, algorithm=algorithm, headers=headers)


def forged(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """A token that no library would make."""
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@contextmanager
def running() -> Iterator[Issuer]:
    """An issuer on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if path == "/authorize":
                self.answer(303, b"", {"Location": made.authorize(query)})
                return
            made.asked += 1
            self.answer(made.status, made.body or json.dumps({"keys": made.keys}).encode(), {})

        def do_POST(self) -> None:
            sent = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            form = {name: values[0] for name, values in sent.items()}
            status, said = made.redeem(form, self.headers.get("Authorization", ""))
            self.answer(status, json.dumps(said).encode(), {})

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Issuer(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
