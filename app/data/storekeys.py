"""Keep the data key of one SQLite file in a small file beside it, wrapped by a master key.

Knows a ring of keys and a file; knows nothing of SQLite. While the key is being changed the file
holds two, the newer first: whoever opens the store meanwhile tries both.
"""

import secrets
from pathlib import Path

from pydantic import Field, TypeAdapter, ValidationError

from app.contracts.rows import Frozen
from app.security.keyring import KEY_BYTES, Keyring
from app.security.secrets import SecretError, replace_secret_file

ENDING = ".key"


class WrappedKey(Frozen):
    """A data key as it lies on disk: hexadecimal, and the id of the master key that opens it."""

    master: str
    wrapped: str = Field(pattern="^([0-9a-f]{2})+$")


KEYS = TypeAdapter(tuple[WrappedKey, ...])


class StoreKeys:
    """The keys of one store. Not for several processes at once: its caller holds a lock."""

    def __init__(self, store: Path, keyring: Keyring) -> None:
        """Name the store; its keys lie beside it."""
        self.path = store.with_suffix(ENDING)
        self._keyring = keyring

    def read(self) -> list[bytes]:
        """Give the data keys that the ring opens, the newest first; none where there is no file.

        Raises SecretError when there are some and it opens none.
        """
        opened, problems = list[bytes](), list[SecretError]()
        for key in self._wrapped():
            try:
                opened.append(self._keyring.unwrap(bytes.fromhex(key.wrapped), key.master))
            except SecretError as error:
                problems.append(error)
        if problems and not opened:
            raise problems[0]
        return opened

    def masters(self) -> tuple[str, ...]:
        """Give the ids of the master keys that are needed. Raises SecretError for another file."""
        return tuple(key.master for key in self._wrapped())

    def add(self, *, keep: bool) -> bytes:
        """Make a data key under the current master key, before the others or in their place."""
        master, key = self._keyring.current(), secrets.token_bytes(KEY_BYTES)
        new = WrappedKey(master=master, wrapped=self._keyring.wrap(key, master).hex())
        self._write((new, *(self._wrapped() if keep else ())))
        return key

    def drop_older(self) -> None:
        """Keep the newest data key only."""
        self._write(self._wrapped()[:1])

    def _wrapped(self) -> tuple[WrappedKey, ...]:
        if not self.path.exists():
            return ()
        try:
            return KEYS.validate_json(self.path.read_bytes())
        except ValidationError:
            raise SecretError(f"{self.path}: holds no wrapped keys") from None

    def _write(self, keys: tuple[WrappedKey, ...]) -> None:
        replace_secret_file(self.path, KEYS.dump_json(keys).decode())
