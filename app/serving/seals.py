"""Seal the records of one spool segment with a data key of its own, which its first bytes hold.

A record's number is its nonce, which a fresh key sees once, and the wrapped key is bound to every
record: one that was moved, altered or brought from another segment does not open. Knows bytes and a
ring of keys; knows nothing of rows or files.
"""

import secrets
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.data.sealing import SealBroken
from app.security.keyring import KEY_BYTES, NONCE_BYTES, Keyring
from app.security.secrets import SecretError


class SegmentSeal:
    """What closes the records of a segment in their order, or opens them in the same order."""

    def __init__(self, key: bytes, wrapped: bytes) -> None:
        """Take the data key, and how the segment names and holds it."""
        self.wrapped = wrapped
        self._cipher = AESGCM(key)
        self._number = 0

    @classmethod
    def make(cls, keyring: Keyring, key_id: str) -> Self:
        """Make the seal of a new segment. Raises SecretError for a key that is not there."""
        key = secrets.token_bytes(KEY_BYTES)
        return cls(key, key_id.encode() + b"\0" + keyring.wrap(key, key_id))

    @classmethod
    def of(cls, wrapped: bytes, keyring: Keyring | None) -> Self:
        """Find the seal of a segment that is there. Raises SecretError without its key."""
        if keyring is None:
            raise SecretError("a segment is sealed and no keyring was given; give it")
        key_id, _, content = wrapped.partition(b"\0")
        return cls(keyring.unwrap(content, key_id.decode(errors="replace")), wrapped)

    def close(self, record: bytes) -> bytes:
        """Seal the next record: 16 bytes longer."""
        return self._cipher.encrypt(self._next(), record, self.wrapped)

    def open(self, content: bytes | memoryview) -> bytes:
        """Open the next record. Raises SealBroken for another one, or an altered one."""
        try:
            return self._cipher.decrypt(self._next(), content, self.wrapped)
        except InvalidTag:
            raise SealBroken("a record is not the one that was sealed here") from None

    def _next(self) -> bytes:
        self._number += 1
        return self._number.to_bytes(NONCE_BYTES, "big")
