"""Keep master keys, and wrap the keys of files with them; a master key never leaves its ring.

Knows keys and where they are kept; knows nothing of what they protect. A file is sealed with a
fresh data key of its own, which lies in the file wrapped by a master key. Another provider (a key
management service) is a class with the methods of Keyring.
"""

import contextlib
import fcntl
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretBytes, ValidationError, field_serializer, model_validator

from app.config import Config
from app.contracts.rows import Frozen
from app.security.secrets import (
    SecretError,
    StaysHere,
    create_secret_file,
    decode_key,
    refuse_open_permissions,
    replace_secret_file,
)

MASTER_KEYS_VARIABLE = "MAINSPRING_MASTER_KEYS"
KEY_ID = re.compile(r"[a-z0-9]{1,20}")
KEY_BYTES = 32
NONCE_BYTES = 12


class Keyring(Protocol):
    """A provider of master keys. Ids match KEY_ID; one of them is for what is new."""

    def current(self) -> str:
        """Return the id of the master key that new files are sealed with."""
        ...

    def ids(self) -> tuple[str, ...]:
        """Return the ids of all master keys that there are, oldest first."""
        ...

    def wrap(self, key: bytes, key_id: str) -> bytes:
        """Encrypt and authenticate a data key. Raises SecretError for an id that is not there."""
        ...

    def unwrap(self, wrapped: bytes, key_id: str) -> bytes:
        """Give a data key back. Raises SecretError for an absent id, or when it does not fit."""
        ...

    def renew(self) -> str:
        """Begin a rotation, or find the one that was begun; return the id of the key to go to."""
        ...

    def retire(self, key_id: str) -> bool:
        """Destroy a key that nothing needs; False where only the ring's owner can do it."""
        ...


class MasterKeys(Frozen):
    """The content of a ring: keys by id, oldest first."""

    current: str
    keys: dict[str, SecretBytes]

    @model_validator(mode="before")
    @classmethod
    def _decode(cls, content: object) -> object:
        if isinstance(content, dict) and isinstance(content.get("keys"), dict):
            keys = {
                key_id: decode_key(key, f"master key {key_id}") if isinstance(key, str) else key
                for key_id, key in content["keys"].items()
            }
            return {**content, "keys": keys}
        return content

    @model_validator(mode="after")
    def _keys_fit(self) -> "MasterKeys":
        for key_id, key in self.keys.items():
            if not KEY_ID.fullmatch(key_id):
                raise ValueError(f"a key's id must be 1 to 20 of a-z, 0-9, got {key_id!r}")
            if len(key.get_secret_value()) != KEY_BYTES:
                raise ValueError(
                    f"master key {key_id} must have {KEY_BYTES} bytes, "
                    f"got {len(key.get_secret_value())}"
                )
        if self.current not in self.keys:
            raise ValueError(f"the current key {self.current} is not among the keys")
        return self

    @field_serializer("keys", when_used="json")
    def _encode(self, keys: dict[str, SecretBytes]) -> dict[str, str]:
        return {key_id: key.get_secret_value().hex() for key_id, key in keys.items()}


class EnvironmentKeyring(StaysHere):
    """Master keys from MAINSPRING_MASTER_KEYS: `id:hexadecimal,id:hexadecimal`, the newest last."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Read the keys. Raises SecretError when they cannot be used."""
        keys: dict[str, str] = {}
        for item in environment[MASTER_KEYS_VARIABLE].split(","):
            key_id, separator, text = item.strip().partition(":")
            if not separator or key_id in keys:
                raise SecretError(f"{MASTER_KEYS_VARIABLE}: expected id:hexadecimal, ids only once")
            keys[key_id] = text
        self._keys = _parsed({"current": key_id, "keys": keys}, MASTER_KEYS_VARIABLE)

    def current(self) -> str:
        """Return the id of the last key of the list."""
        return self._keys.current

    def ids(self) -> tuple[str, ...]:
        """Return the ids in the order of the list."""
        return tuple(self._keys.keys)

    def wrap(self, key: bytes, key_id: str) -> bytes:
        """Encrypt a data key."""
        return _wrap(_master(self._keys, key_id, MASTER_KEYS_VARIABLE), key, key_id)

    def unwrap(self, wrapped: bytes, key_id: str) -> bytes:
        """Give a data key back."""
        master = _master(self._keys, key_id, MASTER_KEYS_VARIABLE)
        return _unwrap(master, wrapped, key_id, MASTER_KEYS_VARIABLE)

    def renew(self) -> str:
        """Return the last key: its owner adds a new one behind it before a rotation."""
        return self.current()

    def retire(self, key_id: str) -> bool:
        """Leave it to the variable's owner."""
        return False


class FileKeyring(StaysHere):
    """Master keys in a file that only its owner reads, made when the first key is needed.

    Processes that already run see a new key at once: the file is looked at before each use.
    """

    def __init__(self, file: Path, sealed: Sequence[Path] = ()) -> None:
        """Name the file.

        `sealed` are folders: while they hold sealed files no new ring is made, since that would
        only hide that theirs is lost.
        """
        self._file = file
        self._sealed = sealed
        self._seen: tuple[int, int] | None = None
        self._keys: MasterKeys | None = None

    def current(self) -> str:
        """Return the id of the newest key; make the first one."""
        if not self._file.exists():
            self._create()
        return self._load().current

    def ids(self) -> tuple[str, ...]:
        """Return the ids of all keys, oldest first; none when there is no file yet."""
        return tuple(self._load().keys) if self._file.exists() else ()

    def wrap(self, key: bytes, key_id: str) -> bytes:
        """Encrypt a data key."""
        return _wrap(_master(self._load(), key_id, str(self._file)), key, key_id)

    def unwrap(self, wrapped: bytes, key_id: str) -> bytes:
        """Give a data key back."""
        master = _master(self._load(), key_id, str(self._file))
        return _unwrap(master, wrapped, key_id, str(self._file))

    def renew(self) -> str:
        """Make a new master key and use it from now on, unless an older one is still to retire."""
        self.current()
        with self._changing() as keys:
            if len(keys.keys) > 1:
                return keys.current
            key_id = _new_id(int(keys.current[1:].partition("x")[0]) + 1)
            key = SecretBytes(secrets.token_bytes(KEY_BYTES))
            self._write(MasterKeys(current=key_id, keys={**keys.keys, key_id: key}))
        return key_id

    def retire(self, key_id: str) -> bool:
        """Destroy a key that nothing needs any more; the current key is refused."""
        with self._changing() as keys:
            if key_id == keys.current:
                raise SecretError(f"{self._file}: key {key_id} is in use; renew it first")
            left = {other: key for other, key in keys.keys.items() if other != key_id}
            self._write(MasterKeys(current=keys.current, keys=left))
        return True

    @contextlib.contextmanager
    def _changing(self) -> Iterator[MasterKeys]:
        """Hand out the keys to whoever alone may write them now: a key overwritten is data lost."""
        lock = self._file.with_name(f".{self._file.name}.lock")
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield self._load()
        finally:
            os.close(descriptor)

    def _create(self) -> None:
        for folder in self._sealed:
            if next(folder.rglob("*.sealed-*"), None):
                raise SecretError(
                    f"{self._file}: no such keyring, but {folder} holds files sealed with its "
                    "keys; restore the keyring, or move those files away"
                )
        key_id = _new_id(1)
        keys = {key_id: SecretBytes(secrets.token_bytes(KEY_BYTES))}
        create_secret_file(
            self._file, MasterKeys(current=key_id, keys=keys).model_dump_json(indent=1)
        )

    def _write(self, keys: MasterKeys) -> None:
        replace_secret_file(self._file, keys.model_dump_json(indent=1))

    def _load(self) -> MasterKeys:
        if not self._file.exists():
            raise SecretError(f"{self._file}: no such keyring; restore it from where it was kept")
        status = self._file.stat()
        seen = (status.st_ino, status.st_mtime_ns)
        if self._keys is None or seen != self._seen:
            refuse_open_permissions(self._file)
            self._keys, self._seen = _parsed(self._file.read_text(), str(self._file)), seen
        return self._keys


def open_keyring(config: Config) -> Keyring:
    """Open the ring of a workspace: MAINSPRING_MASTER_KEYS wins over `<workspace>/keys`."""
    if MASTER_KEYS_VARIABLE in os.environ:
        return EnvironmentKeyring()
    return FileKeyring(
        config.workspace / "keys" / "keyring.json", sealed=(config.tables_path, config.spool_path)
    )


def _parsed(content: object, place: str) -> MasterKeys:
    try:
        return MasterKeys.model_validate(
            json.loads(content) if isinstance(content, str) else content
        )
    except json.JSONDecodeError:
        raise SecretError(f"{place}: not a keyring: it is no JSON") from None
    except ValidationError as error:
        # Only places and problems: the input holds keys.
        told = "; ".join(f"{item['loc']}: {item['msg']}" for item in error.errors())
        raise SecretError(f"{place}: not a keyring: {told}") from None


def _master(keys: MasterKeys, key_id: str, place: str) -> bytes:
    if key_id not in keys.keys:
        raise SecretError(
            f"{place}: has no master key {key_id}, only {', '.join(keys.keys)}; "
            "restore the keyring that the tables were sealed with"
        )
    return keys.keys[key_id].get_secret_value()


def _wrap(master: bytes, key: bytes, key_id: str) -> bytes:
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(master).encrypt(nonce, key, key_id.encode())


def _unwrap(master: bytes, wrapped: bytes, key_id: str, place: str) -> bytes:
    nonce, content = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
    try:
        return AESGCM(master).decrypt(nonce, content, key_id.encode())
    except (InvalidTag, ValueError):
        raise SecretError(
            f"{place}: master key {key_id} does not open the file's key; "
            "the file was altered, or the keyring is another one"
        ) from None


def _new_id(number: int) -> str:
    # Rings made apart never give one id to two keys.
    return f"k{number}x{secrets.token_hex(4)}"
