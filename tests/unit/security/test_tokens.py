"""Signed tokens: who shows a good one, and every way in which one is not good."""

import base64
import hashlib
import hmac
import json
import threading
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.sections import TokensConfig
from app.security import tokens as tokens_file
from app.security.access import AccessDenied, KeyRefused
from app.security.tokens import MAX_BYTES, Tokens, judge
from tests.token_world import AUDIENCE, CONFIG, ISSUED, ISSUER, Provider, standard

NOW = ISSUED + 60.0


@pytest.fixture
def provider(workspace: Path) -> Provider:
    provider = Provider(workspace)
    provider.publish()
    return provider


@pytest.fixture
def tokens(workspace: Path, provider: Provider) -> Tokens:
    return Tokens(CONFIG, workspace)


def refusal(tokens: Tokens, token: str | bytes, now: float = NOW) -> str:
    """Show a token that must be refused; give the words, which hold nothing of it."""
    shown = token.encode() if isinstance(token, str) else token
    with pytest.raises(AccessDenied) as caught:
        tokens.admit(shown, now)
    said = str(caught.value)
    assert caught.value.__cause__ is None
    for part in shown.split(b"."):
        assert len(part) < 12 or part.decode("latin-1") not in said
    for secret in ("shop-backend", "SECRET"):
        assert secret not in said
    return said


def segment(document: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("key_id", ["rsa1", "ec1", "ed1"])
def test_a_token_of_each_algorithm_names_its_subject_and_roles(
    tokens: Tokens, provider: Provider, key_id: str
) -> None:
    who = tokens.admit(provider.token(key_id).encode(), NOW)

    assert (who.name, who.kind, who.roles) == ("shop-backend", "token", ("predict", "label"))
    assert who.account == "token:shop-backend"


def test_an_unsigned_token_opens_nothing(tokens: Tokens) -> None:
    for name in ("none", "None", "NONE", ""):
        header = {"alg": name, "kid": "ec1", "typ": "JWT"}
        token = f"{segment(header)}.{segment(standard())}."
        assert "not signed with the algorithm of its key" in refusal(tokens, token)
    assert "cannot be read" in refusal(tokens, f"{segment({'alg': 'none'})}.{segment(standard())}")


def test_a_public_key_is_no_shared_secret(tokens: Tokens, provider: Provider) -> None:
    """The confusion of algorithms: HMAC keyed with what everybody may read."""
    public = provider.keys["rsa1"].public_key()
    secrets = [
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(provider.public("rsa1")).encode(),
    ]
    for secret in secrets:
        signed = f"{segment({'alg': 'HS256', 'kid': 'rsa1'})}.{segment(standard())}"
        mac = hmac.digest(secret, signed.encode(), hashlib.sha256)
        token = f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
        assert "not signed with the algorithm of its key" in refusal(tokens, token)


def test_a_key_checks_its_own_algorithm_only(tokens: Tokens, provider: Provider) -> None:
    stolen = provider.token("ed1").split(".")
    for algorithm, key_id in (("ES256", "rsa1"), ("RS256", "ec1"), ("RS384", "rsa1")):
        token = f"{segment({'alg': algorithm, 'kid': key_id})}.{stolen[1]}.{stolen[2]}"
        assert "algorithm of its key" in refusal(tokens, token)
    strong = jwt.encode(standard(), provider.keys["rsa1"], "PS256", headers={"kid": "rsa1"})
    assert "algorithm of its key" in refusal(tokens, strong)


def test_a_token_may_not_bring_or_point_to_its_own_key(tokens: Tokens, workspace: Path) -> None:
    stranger = Provider(workspace, "9")
    brought = {
        "jwk": stranger.public("ec9"),
        "jku": "https://evil.example/jwks.json",
        "x5u": "https://evil.example/cert",
    }
    for header in (brought, {**brought, "kid": "ec1"}):
        token = jwt.encode(standard(), stranger.keys["ec9"], "ES256", headers=header)
        assert "not known" in refusal(tokens, token) or "its key's" in refusal(tokens, token)


def test_another_key_s_signature_and_an_altered_token_open_nothing(
    tokens: Tokens, provider: Provider, workspace: Path
) -> None:
    forged = jwt.encode(
        standard(), Provider(workspace, "9").keys["ec9"], "ES256", headers={"kid": "ec1"}
    )
    header, _, signature = provider.token().split(".")
    altered = f"{header}.{segment(standard() | {'roles': ['promote']})}.{signature}"
    cut = provider.token()[:-2]

    assert "signature that is not its key's" in refusal(tokens, forged)
    assert "signature that is not its key's" in refusal(tokens, altered)
    assert "signature that is not its key's" in refusal(tokens, cut)


def test_a_token_whose_key_is_not_named_or_not_known_opens_nothing(
    tokens: Tokens, provider: Provider
) -> None:
    key = provider.keys["ec1"]
    for header in ({}, {"kid": "ec2"}, {"kid": ""}, {"kid": "../../etc/passwd"}):
        token = jwt.encode(standard(), key, "ES256", headers=header)
        assert "kid is none of the key set" in refusal(tokens, token)
    odd = f"{segment({'alg': 'ES256', 'kid': ['ec1']})}.{segment(standard())}.AAAA"
    assert "cannot be read" in refusal(tokens, odd)


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": ISSUED + 49}, "expired"),
        ({"exp": ISSUED + 50}, "expired"),
        ({"exp": None}, "needs an exp"),
        ({"exp": "4000000000"}, "exp that is no time"),
        ({"exp": True}, "exp that is no time"),
        ({"exp": 1e300}, "exp that is no time"),
        ({"exp": -5}, "exp that is no time"),
        ({"nbf": ISSUED + 71}, "not good yet"),
        ({"iat": ISSUED + 71, "exp": ISSUED + 3600}, "issued in the future"),
        ({"exp": ISSUED + 86401}, "good for longer than 86400 seconds"),
        ({"iat": None, "exp": ISSUED + 60 + 86411}, "good for longer"),
        ({"iss": "https://id.example"}, "another issuer"),
        ({"iss": None}, "another issuer"),
        ({"iss": [ISSUER]}, "another issuer"),
        ({"aud": "boats"}, "another audience"),
        ({"aud": None}, "another audience"),
        ({"aud": []}, "another audience"),
        ({"aud": {"flights": 1}}, "another audience"),
        ({"aud": "flights-and-more"}, "another audience"),
        ({"sub": None}, "needs a sub"),
        ({"sub": ""}, "needs a sub"),
        ({"sub": 7}, "needs a sub"),
        ({"sub": "x" * 201}, "needs a sub"),
        ({"sub": "a\nb"}, "needs a sub"),
        ({"roles": None}, "gives no role"),
        ({"roles": []}, "gives no role"),
        ({"roles": ["root", "admin"]}, "gives no role"),
        ({"roles": {"predict": True}}, "gives no role"),
        ({"roles": [["predict"], 3]}, "gives no role"),
    ],
)
def test_a_claim_that_is_wrong_is_named(
    tokens: Tokens, provider: Provider, claims: dict[str, Any], reason: str
) -> None:
    # PyJWT signs no claims that are plainly wrong: the payload is signed as bytes.
    left = {name: value for name, value in (standard() | claims).items() if value is not None}
    signed = jwt.PyJWS().encode(
        json.dumps(left).encode(), provider.keys["ec1"], "ES256", headers={"kid": "ec1"}
    )
    assert reason in refusal(tokens, signed)


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": ISSUED + 51},
        {"nbf": ISSUED + 70},
        {"iat": ISSUED + 70},
        {"exp": ISSUED + 86400},
        {"iat": None, "exp": ISSUED + 86400},
        {"aud": ["boats", "flights"]},
        {"roles": "label predict", "scope": "anything"},
        {"roles": ["predict", "label", "admin", 5]},
    ],
)
def test_what_is_just_within_its_bounds_is_good(
    tokens: Tokens, provider: Provider, claims: dict[str, Any]
) -> None:
    assert tokens.admit(provider.token(**claims).encode(), NOW).roles == ("predict", "label")


def test_roles_come_from_the_claim_and_by_the_words_that_are_configured() -> None:
    words = {"scorer": ("predict", "explain"), "auditor": ("audit",), "idle": ()}
    nested = TokensConfig(
        issuer=ISSUER, audience=AUDIENCE, roles_claim=("realm_access", "roles"), roles=words
    )
    claims = standard() | {"realm_access": {"roles": ["auditor", "scorer", "predict"]}}

    assert judge(claims, nested, NOW).roles == ("predict", "explain", "audit")
    for held in ({"roles": ["idle"]}, {"roles": ["predict"]}, "scorer", None):
        with pytest.raises(AccessDenied, match=r"claim realm_access\.roles must hold one"):
            judge(claims | {"realm_access": held}, nested, NOW)
    with pytest.raises(ValidationError, match="no word opens anything"):
        TokensConfig(issuer=ISSUER, audience=AUDIENCE, roles={"idle": ()})


@pytest.mark.parametrize("name", ["HS256", "none", "ES256K", "RS512"])
def test_only_asymmetric_algorithms_of_the_list_can_be_configured(name: str) -> None:
    with pytest.raises(ValidationError):
        TokensConfig.model_validate({"issuer": ISSUER, "audience": AUDIENCE, "algorithms": [name]})


def test_an_algorithm_that_is_not_taken_is_that_of_no_key(
    workspace: Path, provider: Provider
) -> None:
    only_ec = Tokens(CONFIG.model_copy(update={"algorithms": ("ES256",)}), workspace)

    assert only_ec.admit(provider.token("ec1").encode(), NOW)
    assert "none of the key set" in refusal(only_ec, provider.token("rsa1"))


def test_a_token_that_is_too_long_or_claims_too_much_is_refused(
    tokens: Tokens, provider: Provider
) -> None:
    many = provider.token(**{f"c{i}": i for i in range(1000)})
    assert len(many) > MAX_BYTES
    assert refusal(tokens, many) == f"this token is longer than {MAX_BYTES} bytes"
    assert len(some := provider.token(**{f"c{i}": i for i in range(100)})) < MAX_BYTES
    assert refusal(tokens, some) == "this token holds more than 100 claims"
    with pytest.raises(AccessDenied, match="more than 100 claims"):
        judge(standard() | {f"c{i}": i for i in range(1000)}, CONFIG, NOW)


def test_nothing_that_is_no_token_is_read(tokens: Tokens, provider: Provider) -> None:
    good = provider.token()
    header = good.split(".")[0]
    deep = base64.urlsafe_b64encode(b"[" * 5000).rstrip(b"=").decode()
    shown = ["eyJ", "eyJ..", "eyJ.eyJ.eyJ", good + ".", "." + good, f"{header}.{deep}.AAAA"]
    shown += [f"{deep}.{deep[:100]}.AAAA", "eyJ\x00", good.replace(".", ".."), f"{header}.e30.!!"]
    for token in shown:
        refusal(tokens, token)
    refusal(tokens, b"eyJ\xff\xfe.\xff.\xff")
    for payload in (b"[]", b"null", b"1", b"{", b'"text"'):
        signed = jwt.PyJWS().encode(payload, provider.keys["ec1"], "ES256", headers={"kid": "ec1"})
        assert refusal(tokens, signed) in (
            "this token holds no claims",
            "this token cannot be read",
        )
    critical = jwt.encode(
        standard(), provider.keys["ec1"], "ES256", headers={"kid": "ec1", "crit": ["mine"]}
    )
    assert "cannot be read" in refusal(tokens, critical)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def admitting(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokens, bytes]:
    """What admits tokens, and one that is good: made once for all examples."""
    folder = tmp_path_factory.mktemp("provider")
    provider = Provider(folder)
    provider.publish()
    tokens, good = Tokens(CONFIG, folder), provider.token().encode()
    assert tokens.admit(good, NOW)
    return tokens, good


@given(given_bytes=st.binary(max_size=300), cut=st.integers(0, 400), header=JSON, payload=JSON)
def test_whatever_is_shown_is_denied_and_nothing_else_happens(
    admitting: tuple[Tokens, bytes], given_bytes: bytes, cut: int, header: Any, payload: Any
) -> None:
    tokens, good = admitting
    named = {"alg": "ES256", "kid": "ec1"} | (header if isinstance(header, dict) else {})
    shown = [given_bytes, good[:cut] + given_bytes + good[cut:], good[:cut]]
    shown += [f"{segment(part)}.{segment(payload)}.AAAA".encode() for part in (header, named)]
    for token in shown:
        if token != good:
            with pytest.raises(AccessDenied):
                tokens.admit(token, NOW)


@given(claims=st.dictionaries(st.sampled_from([*standard(), "nbf", "scope"]), JSON))
def test_whatever_a_token_claims_it_is_judged_or_denied(claims: dict[str, Any]) -> None:
    for given_claims in (claims, standard() | claims):
        try:
            judged = judge(given_claims, CONFIG, NOW)
        except AccessDenied:
            continue
        assert judged.roles
        assert NOW < judged.until <= NOW + CONFIG.max_lifetime_seconds + 2 * CONFIG.leeway_seconds


def test_a_remembered_token_expires_all_the_same(tokens: Tokens, provider: Provider) -> None:
    token = provider.token().encode()
    first = tokens.admit(token, NOW)

    assert tokens.admit(token, ISSUED + 3609) is first
    assert refusal(tokens, token, ISSUED + 3610) == "this token expired"


def test_keys_are_rotated_by_changing_the_file(tokens: Tokens, provider: Provider) -> None:
    old = provider.token("ec1").encode()
    assert tokens.admit(old, NOW)
    other = Provider(provider.file.parent.parent, "2")

    provider.publish(other.public("ec2"))
    new = other.token("ec2").encode()
    assert tokens.admit(old, NOW)
    assert tokens.admit(new, NOW)

    other.publish()
    assert "none of the key set" in refusal(tokens, old)
    assert tokens.admit(new, NOW)


def test_what_is_remembered_is_bounded_and_no_refusal_is(
    tokens: Tokens, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens_file, "MAX_REMEMBERED", 3)
    shown = [provider.token(sub=f"caller-{i}").encode() for i in range(5)]
    for token in shown:
        tokens.admit(token, NOW)
        refusal(tokens, token[:-8] + b"AAAAAAAA")
    assert [entry.principal.name for entry in tokens._remembered.values()] == [
        f"caller-{i}" for i in (2, 3, 4)
    ]
    assert tokens.admit(shown[0], NOW).name == "caller-0"


def test_many_threads_and_a_rotation_never_admit_a_wrong_token(
    tokens: Tokens, provider: Provider
) -> None:
    good = [provider.token(sub=f"caller-{i}").encode() for i in range(20)]
    wrong: list[object] = []

    def ask(place: int) -> None:
        for i in range(60):
            token, name = good[(place + i) % 20], f"caller-{(place + i) % 20}"
            if tokens.admit(token, NOW).name != name:
                wrong.append(name)

    asking = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
    for thread in asking:
        thread.start()
    for _ in range(20):
        provider.publish()
    for thread in asking:
        thread.join()
    assert wrong == []


SECRET = "SECRET0123456789SECRET0123456789SECRET01234"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("no json", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[]", "is no key set"),
        ('{"keys": {}}', "is no key set"),
        ('{"keys": []}', "holds no key that signs"),
        ('{"keys": [5]}', r"keys\.0: expected an object"),
        ('{"keys": [{"kty": "RSA", "use": "enc", "kid": "a"}]}', "holds no key that signs"),
        ('{"keys": [{"kty": "RSA", "alg": "RS512", "kid": "a"}]}', "holds no key that signs"),
        ('{"keys": [{"kty": "RSA", "key_ops": ["sign"], "kid": "a"}]}', "holds no key that signs"),
        ('{"keys": [{"kty": "EC", "crv": "P-384", "kid": "a"}]}', "holds no key that signs"),
        (json.dumps({"keys": [{"kty": "oct", "k": SECRET, "kid": "a"}]}), "holds a secret"),
        ('{"keys": [{"kty": "oct", "kid": "a"}]}', "holds a secret"),
        (json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "d": SECRET}]}), "holds a secret"),
        ('{"keys": [{"kty": "EC", "crv": "P-256"}]}', "needs a kid"),
        ('{"keys": [{"kty": "EC", "crv": "P-256", "kid": 5}]}', "needs a kid"),
        ('{"keys": [{"kty": "EC", "crv": "P-256", "kid": "a", "x": "AA", "y": "AA"}]}', "is no EC"),
        ('{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": 5}]}', "is no OKP"),
    ],
)
def test_a_file_that_is_no_set_of_public_keys_opens_nothing(
    tokens: Tokens, provider: Provider, content: str, says: str
) -> None:
    token = provider.token().encode()
    assert tokens.admit(token, NOW)

    provider.write(content)

    with pytest.raises(KeyRefused, match=says) as caught:
        tokens.admit(token, NOW)
    assert SECRET not in str(caught.value)


def test_a_weak_key_and_two_of_one_name_are_refused(tokens: Tokens, provider: Provider) -> None:
    provider.keys["rsa8"] = rsa.generate_private_key(65537, 1024)
    provider.publish()
    with pytest.raises(KeyRefused, match="1024 bits of RSA, at least 2048"):
        tokens.admit(provider.token().encode(), NOW)
    del provider.keys["rsa8"]
    provider.publish(provider.public("ec1"))
    with pytest.raises(KeyRefused, match="another key has this kid"):
        tokens.admit(provider.token().encode(), NOW)


def test_a_file_that_others_may_change_or_that_is_gone_opens_nothing(
    tokens: Tokens, provider: Provider
) -> None:
    token = provider.token().encode()
    tokens.admit(token, NOW)
    provider.file.chmod(0o664)
    with pytest.raises(KeyRefused, match="chmod go-w"):
        tokens.admit(token, NOW)
    provider.file.unlink()
    with pytest.raises(KeyRefused, match="save the provider's public keys there"):
        tokens.admit(token, NOW)
