"""Tokens of an identity provider: what opens, and a table of what must not."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from fastapi.testclient import TestClient
from pydantic import ValidationError

from app import config, oidc
from app.config import Settings
from app.errors import Unavailable
from app.jwks import KeySet
from app.main import app
from app.oidc import Refused, Verifier
from app.scopes import Scope
from tests.app import story
from tests.app.issuer import AUDIENCE, RSA_KEY, STRANGER, WEAK, Issuer, forged, running
from tests.app.test_throttle import Clock

ROLES = {"reader": ["deletions:read"], "boss": ["admin"], "auditor": ["audit:read", "deletions:read"]}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with running() as made:
        yield made


def settings_for(issuer: Issuer, **replaced: Any) -> Settings:
    told = {"issuer": issuer.issuer, "audience": AUDIENCE, "jwks_url": issuer.jwks_url, "roles": ROLES}
    told |= {"algorithms": ("RS256", "ES256", "EdDSA")} | replaced
    return Settings(**{f"oidc_{name}": value for name, value in told.items()})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verifier(issuer: Issuer, clock: Clock) -> Verifier:
    return Verifier(settings_for(issuer), KeySet(issuer.jwks_url, clock))


@pytest.mark.parametrize("kid", ["r", "e", "d"])
def test_a_good_token_of_each_kind_of_key(issuer: Issuer, verifier: Verifier, kid: str) -> None:
    assert verifier.verify(issuer.token(kid)) == ("oidc:alice", frozenset({Scope.DELETIONS_READ}))


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"roles": "reader auditor"}, {"deletions:read", "audit:read"}),
        ({"roles": ["boss"]}, {"admin"}),
        ({"roles": ["unknown", 7, None, {"boss": 1}]}, set()),
        ({"roles": None}, set()),
        ({"roles": {"boss": True}}, set()),
        ({"scope": "admin", "roles": []}, set()),
    ],
)
def test_roles_become_scopes(issuer: Issuer, verifier: Verifier, claims: dict[str, Any], scopes: set[str]) -> None:
    assert verifier.verify(issuer.token(**claims))[1] == scopes


def test_roles_of_a_claim_within_a_claim(issuer: Issuer) -> None:
    conf = settings_for(issuer, roles_claim="realm_access.roles")
    verifier = Verifier(conf, KeySet(issuer.jwks_url))
    assert verifier.verify(issuer.token(realm_access={"roles": ["boss"]}))[1] == {"admin"}
    assert verifier.verify(issuer.token(realm_access=["boss"]))[1] == set()


def hmac_with_the_public_key(issuer: Issuer, algorithm: str = "HS256") -> str:
    """The classic: the public key taken for a shared secret."""
    pem = RSA_KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    unsigned = forged({"alg": algorithm, "kid": "r", "typ": "JWT"}, issuer.claims()).rpartition(".")[0]
    signature = hmac.new(pem, unsigned.encode(), hashlib.sha256).digest()
    return f"{unsigned}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def tampered(issuer: Issuer) -> str:
    header, payload, signature = issuer.token().split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "==")) | {"roles": ["boss"]}
    changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"{header}.{changed}.{signature}"


NOW = time.time()
ATTACKS: dict[str, Callable[[Issuer], str]] = {
    "alg none": lambda i: forged({"alg": "none", "kid": "r"}, i.claims()),
    "alg None in other letters": lambda i: forged({"alg": "NoNe", "kid": "r"}, i.claims()),
    "no alg": lambda i: forged({"kid": "r"}, i.claims()),
    "alg that is no word": lambda i: forged({"alg": ["RS256"], "kid": "r"}, i.claims()),
    "HS256 with the public key": hmac_with_the_public_key,
    "an algorithm named, another used": lambda i: hmac_with_the_public_key(i, "RS256"),
    "HS256 with the shared secret of the set": lambda i: i.token("shared", {"alg": "HS256"}, b"x" * 32),
    "RSA token for the EC key": lambda i: i.token("r", {"kid": "e"}),
    "an algorithm that was not set": lambda i: i.token("r", {"alg": "PS256"}),
    "a weak key": lambda i: i.token("weak", {"alg": "RS256"}, WEAK),
    "a key for other uses": lambda i: i.token("wrapping", {"alg": "RS256"}, RSA_KEY),
    "a stranger's signature": lambda i: i.token(key=STRANGER),
    "no signature": lambda i: i.token().rpartition(".")[0] + ".",
    "changed after signing": tampered,
    "another audience": lambda i: i.token(aud="other"),
    "no audience": lambda i: i.token(aud=None),
    "another issuer": lambda i: i.token(iss="https://evil.example"),
    "an issuer that begins alike": lambda i: i.token(iss=i.issuer + "/evil"),
    "no issuer": lambda i: i.token(iss=None),
    "expired": lambda i: i.token(iat=int(NOW) - 700, exp=int(NOW) - 100),
    "never expires": lambda i: i.token(exp=None),
    "not yet": lambda i: i.token(nbf=int(NOW) + 3600),
    "made in the future": lambda i: i.token(iat=int(NOW) + 3600, exp=int(NOW) + 3700),
    "no time of making": lambda i: i.token(iat=None),
    "lives too long": lambda i: i.token(exp=int(NOW) + 100_000),
    "times that are no numbers": lambda i: i.token(exp=str(int(NOW) + 600)),
    "exp infinite": lambda i: forged({"alg": "RS256", "kid": "r"}, i.claims(exp=float("inf"))),
    "an unknown key": lambda i: i.token("nobody"),
    "no kid": lambda i: i.token("r", {"kid": None}),
    "kid that is a path": lambda i: i.token("../../etc/passwd"),
    "kid that is SQL": lambda i: i.token("' OR 1=1 --"),
    "key in the header": lambda i: i.token("x", {"jwk": {"kty": "oct", "k": "eA"}}, STRANGER),
    "jku elsewhere": lambda i: i.token("x", {"jku": "https://evil.example/jwks"}, STRANGER),
    "x5u elsewhere": lambda i: i.token("x", {"x5u": "https://evil.example/x"}, STRANGER),
    "jku elsewhere, known kid": lambda i: i.token("r", {"jku": "https://evil.example/jwks"}, STRANGER),
    "a critical header": lambda i: i.token("r", {"crit": ["b64"], "b64": True}),
    "another type of token": lambda i: i.token("r", {"typ": "logout+jwt"}),
    "no subject": lambda i: i.token(sub=None),
    "an empty subject": lambda i: i.token(sub=""),
    "a subject that no log could show": lambda i: i.token(sub="a\nb"),
    "a subject without an end": lambda i: i.token(sub="x" * 1000),
    "oversized": lambda i: i.token(padding="x" * 10_000),
    "no JSON": lambda i: "a.b.c",
    "empty parts": lambda i: "..",
    "a list for claims": lambda i: forged({"alg": "RS256", "kid": "r"}, [1]),  # type: ignore[arg-type]  # what a forger sends
    "a list for a header": lambda i: forged([1], {}),  # type: ignore[arg-type]  # what a forger sends
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_must_not_open(issuer: Issuer, verifier: Verifier, attack: str) -> None:
    verifier.verify(issuer.token())
    token = ATTACKS[attack](issuer)
    with pytest.raises(Refused) as refused:
        verifier.verify(token)
    assert issuer.asked == 1, "no token makes the service ask anybody else, nor the issuer more often"
    assert "alice" not in str(refused.value)


def test_a_little_difference_of_clocks_is_borne(issuer: Issuer, verifier: Verifier) -> None:
    now = int(time.time())
    verifier.verify(issuer.token(iat=now + 15, nbf=now + 15))
    verifier.verify(issuer.token(iat=now - 500, exp=now - 15))


class TestKeys:
    def test_a_new_key_is_found_and_a_withdrawn_one_forgotten(
        self, issuer: Issuer, verifier: Verifier, clock: Clock
    ) -> None:
        verifier.verify(issuer.token())
        issuer.keys = [key | {"kid": "new"} for key in issuer.keys if key["kid"] == "r"]
        with pytest.raises(Refused):
            verifier.verify(issuer.token("new", key=RSA_KEY))
        clock.now += 61
        verifier.verify(issuer.token("new", key=RSA_KEY))
        with pytest.raises(Refused):
            verifier.verify(issuer.token())
        assert issuer.asked == 2

    def test_made_up_key_ids_make_one_fetch_a_minute(self, issuer: Issuer, verifier: Verifier, clock: Clock) -> None:
        for number in range(20):
            with pytest.raises(Refused):
                verifier.verify(issuer.token(f"made-up-{number}", key=STRANGER))
            clock.now += 6
        assert issuer.asked == 2

    def test_keys_are_looked_at_again_after_a_while(self, issuer: Issuer, verifier: Verifier, clock: Clock) -> None:
        for _ in range(3):
            verifier.verify(issuer.token())
            clock.now += 601
        assert issuer.asked == 3

    @pytest.mark.parametrize("how", ["500", "redirect", "no JSON", "no key set", "endless"])
    def test_while_the_issuer_is_away_known_keys_go_on_for_a_day(
        self, issuer: Issuer, verifier: Verifier, clock: Clock, how: str
    ) -> None:
        verifier.verify(issuer.token())
        issuer.status = {"500": 500, "redirect": 302}.get(how, 200)
        issuer.body = {"no JSON": b"<html>", "no key set": b"[]", "endless": b" " * 300_000}.get(how, b"")
        clock.now += 3600
        verifier.verify(issuer.token())
        with pytest.raises(Unavailable):
            verifier.verify(issuer.token("unheard-of", key=STRANGER))
        clock.now += 24 * 3600
        with pytest.raises(Unavailable):
            verifier.verify(issuer.token())

    def test_without_ever_having_had_keys_it_is_503(self, clock: Clock) -> None:
        with running() as gone:
            pass
        verifier = Verifier(settings_for(gone), KeySet(gone.jwks_url, clock))
        with pytest.raises(Unavailable):
            verifier.verify(gone.token())


class TestOverHttp:
    @pytest.fixture
    def http(self, database: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
        told = {"ISSUER": issuer.issuer, "AUDIENCE": AUDIENCE, "JWKS_URL": issuer.jwks_url, "ROLES": json.dumps(ROLES)}
        for name, value in told.items():
            monkeypatch.setenv(f"EXPUNGE_OIDC_{name}", value)
        config.settings.cache_clear()
        oidc.verifier.cache_clear()
        with TestClient(app) as made:
            yield made

    def ask(self, http: TestClient, token: str) -> int:
        return http.get("/deletions", headers={"Authorization": f"Bearer {token}"}).status_code

    def test_a_token_opens_what_its_roles_map_to(self, http: TestClient, issuer: Issuer) -> None:
        assert self.ask(http, issuer.token()) == 200
        assert self.ask(http, issuer.token(roles=[])) == 403
        assert self.ask(http, story.key("tool")) == 200, "keys go on beside tokens"

    def test_a_subject_is_no_keys_client(self, http: TestClient, issuer: Issuer) -> None:
        """Whatever the subject's name, it sees no key's tickets; only an administrator's role sees all."""
        story.dataset()
        ticket = story.submit(0, client="tool")
        for name in ("tool", "oidc:tool", "Tool"):
            headers = {"Authorization": f"Bearer {issuer.token(sub=name)}"}
            assert http.get("/deletions", headers=headers).json()["items"] == []
            assert http.get(f"/deletions/{ticket}", headers=headers).status_code == 404
        headers = {"Authorization": f"Bearer {issuer.token(roles=['boss'])}"}
        assert http.get(f"/deletions/{ticket}", headers=headers).status_code == 200

    def test_a_refusal_says_no_more_than_that_of_a_key(self, http: TestClient, issuer: Issuer) -> None:
        bad = http.get("/deletions", headers={"Authorization": f"Bearer {issuer.token(aud='other')}"})
        key = http.get("/deletions", headers={"Authorization": "Bearer exp_x_y"})
        assert bad.status_code == 401
        assert bad.json() | {"request_id": ""} == key.json() | {"request_id": ""}
        for _ in range(25):
            last = self.ask(http, "a.b.c")
        assert last == 429
        assert self.ask(http, issuer.token()) == 200, "a good token is not held up by the bad ones of its address"

    def test_the_issuer_away_is_503(self, http: TestClient, issuer: Issuer) -> None:
        issuer.status = 500
        answer = http.get("/deletions", headers={"Authorization": f"Bearer {issuer.token()}"})
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "60"


@pytest.mark.parametrize(
    "wrong",
    [
        {"algorithms": ("HS256",)},
        {"algorithms": ("none",)},
        {"algorithms": ()},
        {"jwks_url": "http://idp.example/jwks"},
        {"jwks_url": None},
        {"audience": ""},
        {"roles": {}},
        {"roles": {"boss": ["root"]}},
    ],
)
def test_settings_that_would_leave_a_door_open(issuer: Issuer, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings_for(issuer, **wrong)


def test_without_an_issuer_a_token_is_a_key_that_is_none(database: str, issuer: Issuer) -> None:
    with TestClient(app) as http:
        answer = http.get("/deletions", headers={"Authorization": f"Bearer {issuer.token()}"})
    assert answer.status_code == 401
    assert issuer.asked == 0
