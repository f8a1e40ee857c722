"""Say who asks: a credential becomes a principal with roles, or is refused.

Knows keys, roles and one file of the workspace; knows nothing of HTTP. Only hashes of keys are
kept. The file stands beside the other keys rather than in the ledger: serving goes on while SQL is
away, and so does knowing whom to serve.
"""

import hashlib
import os
import re
import secrets
import stat
import threading
from collections.abc import Sequence
from datetime import datetime
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import AwareDatetime, Field, SecretStr, ValidationError

from app.contracts.access import ROLES, Limits, Role
from app.contracts.rows import Frozen

__all__ = ["ROLES", "AccessDenied", "ApiKey", "KeyRefused", "Keyring", "Principal", "Role"]

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
    limits: Limits = Field(
        Limits(),
        exclude_if=lambda limits: limits == Limits(),
        description="Its own, in place of the configuration's.",
    )

    def is_open(self, now: datetime) -> bool:
        """Tell whether the key opens anything at a time."""
        expired = self.expires_at is not None and now >= self.expires_at
        return self.revoked_at is None and not expired


class Principal(Frozen):
    """Who asks, and what they may."""

    name: str
    roles: tuple[Role, ...]
    kind: Literal["key", "token"] = Field("key", description="What said so.")
    limits: Limits = Limits()

    @cached_property
    def account(self) -> str:
        """Under what is counted what they ask for: a key and a subject may have one name."""
        return f"{self.kind}:{self.name}"

    def may(self, role: Role) -> bool:
        """Tell whether a role is among theirs."""
        return role in self.roles


class _Keys(Frozen):
    """The file of keys."""

    keys: tuple[ApiKey, ...] = ()


class _Opened(NamedTuple):
    """A key as a request needs it."""

    principal: Principal
    is_revoked: bool
    until: float
    """Seconds since 1970."""


class _Content(NamedTuple):
    """What the file held when it had a stamp. Replaced whole, so that it is read without a lock."""

    stamp: tuple[int, int, int] | None
    keys: tuple[ApiKey, ...]
    opened: dict[bytes, _Opened]


class Keyring:
    """The keys of one workspace. Safe to use from several threads; a change is seen at once.

    One process writes at a time, people do it by hand; any number of processes read.
    """

    def __init__(self, workspace: Path) -> None:
        """Name the file; it is made with the first key."""
        self.file = workspace / "keys" / "api_keys.json"
        self._lock = threading.Lock()
        self._place = str(self.file)
        self._content = _Content(None, (), {})

    def create(
        self,
        name: str,
        roles: Sequence[Role],
        now: datetime,
        expires_at: datetime | None = None,
        limits: Limits | None = None,
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
                digest=hashlib.sha256(key.encode()).hexdigest(),
                created_at=now,
                expires_at=expires_at,
                limits=limits or Limits(),
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
        return self._current().keys

    def authenticate(self, credential: str, now: datetime) -> Principal:
        """Say whose a credential is. Raises AccessDenied."""
        return self.admit(credential.encode(errors="surrogatepass"), now.timestamp())

    def admit(self, credential: bytes, now: float) -> Principal:
        """Say whose a credential is, at a time in seconds since 1970. Raises AccessDenied.

        Costs a hash, a look at the file's stamp and one at a table. A key is 256 random bits, so
        that a plain hash of it cannot be tried out; and how long a hash is looked for says nothing
        of a key, since nobody can choose a key by its hash.
        """
        found = self._current().opened.get(hashlib.sha256(credential).digest())
        if found is None:
            if not KEY.fullmatch(credential.decode("latin-1")):
                raise AccessDenied("this is no key; keys begin with msk_")
            raise AccessDenied("this key is not known")
        if found.is_revoked:
            raise AccessDenied("this key was revoked")
        if now >= found.until:
            raise AccessDenied("this key expired")
        return found.principal

    def _current(self) -> _Content:
        try:
            found = os.stat(self._place)  # noqa: PTH116 - half the time of Path.stat, each request.
        except FileNotFoundError:
            self._content = _Content(None, (), {})
            return self._content
        content, stamp = self._content, (found.st_mtime_ns, found.st_ino, found.st_size)
        if content.stamp == stamp:
            return content
        with self._lock:
            if self._content.stamp != stamp:
                keys = self._read(found.st_mode)
                opened = {bytes.fromhex(key.digest): _opened(key) for key in keys}
                self._content = _Content(stamp, keys, opened)
            return self._content

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


def _opened(key: ApiKey) -> _Opened:
    principal = Principal(name=key.name, roles=key.roles, limits=key.limits)
    until = inf if key.expires_at is None else key.expires_at.timestamp()
    return _Opened(principal, key.revoked_at is not None, until)
