"""Divide texts without end among a few buckets, the same everywhere and for ever.

Source: Weinberger et al., Feature hashing for large scale multitask learning (2009). Knows texts;
knows nothing of what a bucket stands for.
"""

from hashlib import blake2b

# A digest this wide, taken modulo any number of buckets in use, favours none of them.
DIGEST_BYTES = 8


class Buckets:
    """The bucket of any text.

    Which texts meet in a bucket differs from key to key, so that two columns that hold the same
    texts do not confuse the same ones. BLAKE2b of the UTF-8 text under the key, read as a
    little-endian integer, modulo the number of buckets: no machine, version or seed of a process
    has a part in it.

    >>> Buckets("depot", 100).one("north")
    39
    """

    def __init__(self, key: str, number: int) -> None:
        """Take a key, of which 64 bytes count, and a number of buckets from 1 on."""
        self._key, self._number = key.encode()[: blake2b.MAX_KEY_SIZE], number

    def one(self, text: str) -> int:
        """Give the bucket of one text, from 0 on."""
        digest = blake2b(text.encode(), digest_size=DIGEST_BYTES, key=self._key).digest()
        return int.from_bytes(digest, "little") % self._number
