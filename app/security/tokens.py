"""Read a signed token (JWT) and say who shows it, and what they may.

Knows tokens, claims and keys; knows nothing of HTTP. PyJWT checks the form and the signature; the
claims are judged here, on a clock that is a parameter. A refusal says what is wrong in words of
ours and holds nothing of the token. Follows RFC 8725, best current practices for JWT.
"""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from jwt import PyJWS
from jwt.exceptions import InvalidAlgorithmError, InvalidSignatureError, PyJWTError

from app.contracts.access import ROLES, Role
from app.sections import TokensConfig
from app.security.access import AccessDenied, Principal
from app.security.jwks import JwksFile, PublicKeys

MAX_BYTES = 8192
MAX_CLAIMS = 100
MAX_REMEMBERED = 4096
# Of a token or of nothing else: the first bytes of {" in base64url.
START = b"eyJ"


class Claims(NamedTuple):
    """What a token says that counts here."""

    subject: str
    roles: tuple[Role, ...]
    until: float
    """Seconds since 1970, the leeway included."""


class _Remembered(NamedTuple):
    principal: Principal
    until: float
    stamp: tuple[int, int, int]


class Tokens:
    """Admits who shows a token. Safe to use from several threads.

    A token that was good is remembered by its SHA-256, because a signature costs a hundred times a
    hash to check: until it expires or the file of keys changes, and of so many the latest used. One
    that was refused is not remembered.
    """

    def __init__(self, config: TokensConfig, workspace: Path) -> None:
        """Name the file of keys; it is read with the first token."""
        self._config = config
        self.keys = JwksFile(workspace / config.jwks, config.algorithms)
        self._signatures = PyJWS()
        self._lock = threading.Lock()
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()

    def admit(self, token: bytes, now: float) -> Principal:
        """Say whose a token is, at a time in seconds since 1970.

        Raises AccessDenied, and KeyRefused when the file of keys cannot be used.
        """
        if len(token) > MAX_BYTES:
            raise AccessDenied(f"this token is longer than {MAX_BYTES} bytes")
        keys = self.keys.current()
        digest = hashlib.sha256(token).digest()
        with self._lock:
            found = self._remembered.get(digest)
            if found is not None and found.stamp == keys.stamp and now < found.until:
                self._remembered.move_to_end(digest)
                return found.principal
        claims = judge(self._verified(token, keys), self._config, now)
        principal = Principal(name=claims.subject, roles=claims.roles, kind="token")
        with self._lock:
            self._remembered[digest] = _Remembered(principal, claims.until, keys.stamp)
            self._remembered.move_to_end(digest)
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        return principal

    def _verified(self, token: bytes, keys: PublicKeys) -> Mapping[str, Any]:
        """Check a token's form and signature; give its claims."""
        try:
            header = self._signatures.get_unverified_header(token)
            key = keys.by_id.get(header.get("kid", ""))
            if key is None:
                _deny("is signed with a key that is not known; its kid is none of the key set")
            # One algorithm, that of the key: what the token names can only be refused.
            done = self._signatures.decode_complete(token, key, [key.algorithm_name])
            payload = json.loads(done["payload"])
        except InvalidAlgorithmError:
            _deny("is not signed with the algorithm of its key")
        except InvalidSignatureError:
            _deny("has a signature that is not its key's")
        except (PyJWTError, ValueError, TypeError, RecursionError):
            _deny("cannot be read")
        if not isinstance(payload, dict):
            _deny("holds no claims")
        return payload


def judge(claims: Mapping[str, Any], config: TokensConfig, now: float) -> Claims:
    """Judge the claims of a token whose signature is right, at a time in seconds since 1970.

    Needed are iss, aud, sub, exp and the claim of roles; nbf and iat count where they are. Raises
    AccessDenied with the first thing that is wrong.
    """
    if len(claims) > MAX_CLAIMS:
        _deny(f"holds more than {MAX_CLAIMS} claims")
    if claims.get("iss") != config.issuer:
        _deny("is of another issuer")
    audience = claims.get("aud")
    if config.audience not in (audience if isinstance(audience, list) else [audience]):
        _deny("is meant for another audience")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= 200 or not subject.isprintable():
        _deny("needs a sub of 1 to 200 printable characters")
    until = _judge_times(claims, config, now)
    return Claims(subject, _roles(claims, config), until)


def _judge_times(claims: Mapping[str, Any], config: TokensConfig, now: float) -> float:
    """Say until when a token is good."""
    leeway, lifetime = config.leeway_seconds, config.max_lifetime_seconds
    expires = _time(claims, "exp")
    if expires is None:
        _deny("needs an exp")
    begins, issued = _time(claims, "nbf"), _time(claims, "iat")
    if now >= expires + leeway:
        _deny("expired")
    if begins is not None and now < begins - leeway:
        _deny("is not good yet")
    if issued is not None and now < issued - leeway:
        _deny("was issued in the future")
    # Where it does not say since when it is good, it is so from now on.
    if expires - (now + leeway if issued is None else issued) > lifetime:
        _deny(f"is good for longer than {lifetime:g} seconds; ask for one that expires earlier")
    return expires + leeway


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    """Read a time in seconds since 1970; True is no number, and neither are texts."""
    value = claims.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value < 1e12:
        _deny(f"has an {name} that is no time in seconds")
    return float(value)


def _roles(claims: Mapping[str, Any], config: TokensConfig) -> tuple[Role, ...]:
    value: object = claims
    for name in config.roles_claim:
        value = value.get(name) if isinstance(value, Mapping) else None
    words = value.split() if isinstance(value, str) else value
    given = [word for word in words if isinstance(word, str)] if isinstance(words, list) else []
    opened = {role for word in given for role in config.roles.get(word, ())}
    if not opened:
        _deny(f"gives no role; its claim {'.'.join(config.roles_claim)} must hold one")
    return tuple(role for role in ROLES if role in opened)


def _deny(why: str) -> NoReturn:
    raise AccessDenied(f"this token {why}") from None
