"""Say who asks: a credential becomes a principal with roles, or is refused.

Knows keys, roles and one file of the workspace; knows nothing of HTTP. Only hashes of keys are
kept. The file stands beside the other keys rather than in the ledger: serving goes on while SQL is
away, and so does knowing whom to serve.
"""

import hashlib
import hmac
import os
import re
import secrets
import stat
import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

from pydantic import AwareDatetime, Field, SecretStr, ValidationError

from app.contracts.rows import Frozen

Role = Literal["predict", "label", "explain", "train", "promote", "audit"]
ROLES: tuple[Role, ...] = get_args(Role)
PREFIX = "msk_"
KEY_BYTES = 32
KEY = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"


class AccessDenied(Exception):
    """A credential that opens nothing; the message says why and holds no part of it."""


class KeyRefused(ValueError):
    """A key that cannot be made or revoked, or a file of keys that cannot be used."""


class ApiKey(Frozen):
    """What is kept of a key: everything but the key."""

    name: str = Field(pattern=NAME)
    roles: tuple[Role, ...] = Field(min_length=1)
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the key.")
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
    revoked_at: AwareDatetime | None = None

    def is_open(self, now: datetime) -> bool:
        """Tell whether the key opens anything at a time."""
        expired = self.expires_at is not None and now >= self.expires_at
        return self.revoked_at is None and not expired


class Principal(Frozen):
    """Who asks, and what they may."""

    name: str
    roles: tuple[Role, ...]

    def may(self, role: Role) -> bool:
        """Tell whether a role is among theirs."""
        return role in self.roles


class _Keys(Frozen):
    """The file of keys."""

    keys: tuple[ApiKey, ...] = ()


class Keyring:
    """The keys of one workspace. Safe to use from several threads; a change is seen at once.

    One process writes at a time, people do it by hand; any number of processes read.
    """

    def __init__(self, workspace: Path) -> None:
        """Name the file; it is made with the first key."""
        self.file = workspace / "keys" / "api_keys.json"
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._keys: tuple[ApiKey, ...] = ()

    def create(
        self, name: str, roles: Sequence[Role], now: datetime, expires_at: datetime | None = None
    ) -> SecretStr:
        """Make a key and return it, the only time that it can be seen.

        Raises KeyRefused when an open key has the name already, or for a time that has passed.
        """
        if any(key.name == name and key.is_open(now) for key in self.list()):
            raise KeyRefused(
                f"keys: {name} has an open key already; revoke it or take another name"
            )
        if expires_at is not None and expires_at <= now:
            raise KeyRefused(f"keys: {expires_at.isoformat()} has passed; let {name} expire later")
        key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
        try:
            entry = ApiKey(
                name=name,
                roles=tuple(sorted(set(roles), key=ROLES.index)),
                digest=_digest(key),
                created_at=now,
                expires_at=expires_at,
            )
        except (ValidationError, ValueError):
            raise KeyRefused(
                f"keys: {name} with {', '.join(roles) or 'no role'} cannot be; a name has letters, "
                f"digits, dots and dashes, a role is one of {', '.join(ROLES)}"
            ) from None
        self._write((*self.list(), entry))
        return SecretStr(key)

    def revoke(self, name: str, now: datetime) -> int:
        """Close the open keys of a name; return how many they were."""
        keys = self.list()
        chosen = [key for key in keys if key.name == name and key.is_open(now)]
        if chosen:
            closed = [k.model_copy(update={"revoked_at": now}) if k in chosen else k for k in keys]
            self._write(tuple(closed))
        return len(chosen)

    def list(self) -> tuple[ApiKey, ...]:
        """Give all keys that were ever made, oldest first. Raises KeyRefused for an unsafe file."""
        with self._lock:
            try:
                found = self.file.stat()
            except FileNotFoundError:
                self._stamp, self._keys = None, ()
                return ()
            stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
            if stamp != self._stamp:
                self._keys, self._stamp = self._read(found.st_mode), stamp
            return self._keys

    def authenticate(self, credential: str, now: datetime) -> Principal:
        """Say whose a credential is. Raises AccessDenied; takes as long whichever key it is.

        A key is 256 random bits, so that a plain hash of it cannot be tried out.
        """
        if not KEY.fullmatch(credential):
            raise AccessDenied("this is no key; keys begin with msk_")
        digest = _digest(credential)
        found = None
        for key in self.list():
            if hmac.compare_digest(key.digest, digest):
                found = key
        if found is None:
            raise AccessDenied("this key is not known")
        if not found.is_open(now):
            raise AccessDenied("this key was revoked" if found.revoked_at else "this key expired")
        return Principal(name=found.name, roles=found.roles)

    def _read(self, mode: int) -> tuple[ApiKey, ...]:
        if stat.S_IMODE(mode) & 0o077:
            raise KeyRefused(
                f"{self.file}: mode {stat.S_IMODE(mode):04o} lets others at the keys; run chmod 600"
            )
        try:
            return _Keys.model_validate_json(self.file.read_bytes()).keys
        except ValidationError as error:
            raise KeyRefused(
                f"{self.file}: {error.error_count()} entries are no keys; restore the file or "
                "remove it and make new keys"
            ) from None

    def _write(self, keys: tuple[ApiKey, ...]) -> None:
        """Write aside, sync, rename: the file is whole at any time, and never others' to read."""
        self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = self.file.with_name(f".{self.file.name}.{secrets.token_hex(4)}")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as output:
            output.write(_Keys(keys=keys).model_dump_json(indent=1))
            output.flush()
            os.fsync(output.fileno())
        aside.replace(self.file)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
