"""Read the public keys of an identity provider from a file: a JSON Web Key Set (RFC 7517).

Knows one file and what a key must be; knows nothing of tokens. The file is read again when it
changes, which is how keys are rotated: the next one is added, and the last one taken out when no
token of it is good any more.
"""

import json
import os
import stat
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jwt import PyJWK
from jwt.exceptions import PyJWTError

from app.security.access import KeyRefused

MAX_BYTES = 1_000_000
MAX_KEYS = 100
MIN_RSA_BITS = 2048
CURVES = {("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
# Members of private and of shared keys, RFC 7518 section 6.
SECRET_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class PublicKeys(NamedTuple):
    """Keys by their `kid`, and the stamp of the file that held them."""

    stamp: tuple[int, int, int]
    by_id: Mapping[str, PyJWK]


class JwksFile:
    """The keys of one file. Safe to use from several threads; a change is seen at once."""

    def __init__(self, file: Path, algorithms: Sequence[str]) -> None:
        """Name the file and the algorithms whose keys are taken; nothing is read yet."""
        self.file = file
        self._place = str(file)
        self._algorithms = frozenset(algorithms)
        self._lock = threading.Lock()
        self._keys: PublicKeys | None = None

    def current(self) -> PublicKeys:
        """Give the keys as they stand in the file now. Raises KeyRefused for an unsafe file."""
        try:
            found = os.stat(self._place)  # noqa: PTH116 - half the time of Path.stat, each request.
        except OSError as error:
            raise KeyRefused(
                f"{self.file}: cannot be read ({error.strerror}); save the provider's public keys "
                "there, or set serving.tokens.jwks"
            ) from None
        # The time of change, not that of writing: nobody can put it back, and chmod moves it too.
        keys, stamp = self._keys, (found.st_ctime_ns, found.st_ino, found.st_size)
        if keys is not None and keys.stamp == stamp:
            return keys
        with self._lock:
            if self._keys is None or self._keys.stamp != stamp:
                self._keys = PublicKeys(stamp, self._read(found))
            return self._keys

    def _read(self, found: os.stat_result) -> dict[str, PyJWK]:
        mode = stat.S_IMODE(found.st_mode)
        if mode & 0o022:
            raise KeyRefused(
                f"{self.file}: mode {mode:04o} lets others change whose tokens open; "
                "run chmod go-w on it"
            )
        if found.st_size > MAX_BYTES:
            raise KeyRefused(f"{self.file}: {found.st_size} bytes, at most {MAX_BYTES}")
        try:
            return read_keys(self.file.read_bytes(), self._algorithms)
        except KeyRefused as refusal:
            raise KeyRefused(f"{self.file}: {refusal}") from None


def read_keys(content: bytes, algorithms: frozenset[str]) -> dict[str, PyJWK]:
    """Read a key set: the keys that sign with one of the algorithms, by their `kid`.

    Keys for encryption and of other algorithms are passed over. Raises KeyRefused for what is no
    key set, for a key that is secret, weak, or has no name of its own, and when none is left.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise KeyRefused("is no JSON; save the provider's key set as it is") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise KeyRefused(f"is no key set: expected an object with a list keys, {MAX_KEYS} at most")
    keys: dict[str, PyJWK] = {}
    for place, entry in enumerate(entries):
        key_id, key = _read_key(entry, place, algorithms)
        if key is None:
            continue
        if key_id in keys:
            raise KeyRefused(f"keys.{place}: another key has this kid; give each its own")
        keys[key_id] = key
    if not keys:
        told = ", ".join(sorted(algorithms))
        raise KeyRefused(f"holds no key that signs with {told}; add one, or change the algorithms")
    return keys


def _read_key(entry: object, place: int, algorithms: frozenset[str]) -> tuple[str, PyJWK | None]:
    """Read one key; None for one that is of no use here."""
    if not isinstance(entry, dict):
        raise KeyRefused(f"keys.{place}: expected an object, got {type(entry).__name__}")
    secret = sorted(SECRET_MEMBERS & entry.keys())
    if secret or entry.get("kty") == "oct":
        raise KeyRefused(
            f"keys.{place}: holds a secret ({', '.join(secret) or 'kty oct'}); who reads it can "
            "make tokens. Replace that key at the provider and save public keys only"
        )
    algorithm = _algorithm(entry)
    operations = entry.get("key_ops", ["verify"])
    verifies = isinstance(operations, list) and "verify" in operations
    if entry.get("use", "sig") != "sig" or not verifies or algorithm not in algorithms:
        return "", None
    key_id = entry.get("kid")
    if not isinstance(key_id, str) or not 1 <= len(key_id) <= 200:
        raise KeyRefused(f"keys.{place}: needs a kid of 1 to 200 characters")
    try:
        key = PyJWK(entry, algorithm)
    except (PyJWTError, ValueError, TypeError):
        raise KeyRefused(f"keys.{place}: is no {entry.get('kty')} key; save it again") from None
    bits = getattr(key.key, "key_size", MIN_RSA_BITS) if algorithm == "RS256" else MIN_RSA_BITS
    if bits < MIN_RSA_BITS:
        raise KeyRefused(f"keys.{place}: {bits} bits of RSA, at least {MIN_RSA_BITS}")
    return key_id, key


def _algorithm(entry: Mapping[str, Any]) -> str | None:
    """Say what a key signs with: its type decides, and what it says itself must agree.

    >>> _algorithm({"kty": "EC", "crv": "P-256"})
    'ES256'
    >>> _algorithm({"kty": "RSA", "alg": "HS256"})
    """
    kind, curve, said = entry.get("kty"), entry.get("crv"), entry.get("alg")
    if kind == "RSA":
        found: str | None = "RS256"
    else:
        found = CURVES.get((str(kind), str(curve)))
    # RFC 9864 names the curve where RFC 8037 did not.
    agrees = said is None or said == found or (found == "EdDSA" and said == "Ed25519")
    return found if agrees else None
