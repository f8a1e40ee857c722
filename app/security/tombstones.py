"""Remember who was erased without remembering who it was: keyed hashes that can only be asked.

Knows a key, hashes and Arrow columns; knows nothing of tables, of the ledger or of why somebody is
forgotten. A tombstone answers "is this one of them?" for a value that is there; without the key it
names nobody. A subject's hash is that of its pseudonym, so it is found in any column, protected or
not; the rows that were erased with it have hashes of their own, since an outcome names only a row.
"""

import hashlib
import hmac
from collections.abc import Iterable
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import SecretBytes

from app.security.privacy import PSEUDONYM, Pseudonymiser
from app.security.secrets import StaysHere

TombstoneKind = Literal["subject", "row"]
Hashes = frozenset[tuple[TombstoneKind, str]]
KEY_PURPOSE = b"mainspring tombstones, version 1"
HASH_BYTES = 16


class Tombstones(StaysHere):
    """What was erased from one workspace. Immutable; safe to share between threads."""

    def __init__(self, key: SecretBytes, hashes: Iterable[tuple[TombstoneKind, str]] = ()) -> None:
        """Keep the workspace's pseudonym key, from which the hashes' own key is derived."""
        self._secret = key
        self._pseudonymiser = Pseudonymiser(key)
        derived = hmac.digest(key.get_secret_value(), KEY_PURPOSE, hashlib.sha256)
        self._key = SecretBytes(derived)
        self.hashes: Hashes = frozenset(hashes)

    def __bool__(self) -> bool:
        return bool(self.hashes)

    def __len__(self) -> int:
        return len(self.hashes)

    def having(self, hashes: Iterable[tuple[TombstoneKind, str]]) -> Self:
        """Give tombstones with these hashes, under the same key."""
        return type(self)(self._secret, hashes)

    def with_rows(self, row_ids: Iterable[str]) -> Self:
        """Give these tombstones and those of some rows."""
        rows: set[tuple[TombstoneKind, str]] = {("row", self.row(row_id)) for row_id in row_ids}
        return self.having(self.hashes | rows)

    def subject(self, value: str) -> str:
        """Hash a subject, given by its value or by its pseudonym: 32 hexadecimal digits."""
        return self._hash("subject", self._pseudonymiser.one(value))

    def row(self, row_id: str) -> str:
        """Hash a row's id."""
        return self._hash("row", row_id)

    def pseudonym(self, value: str) -> str:
        """Give the pseudonym under which a subject is stored in personal columns."""
        return self._pseudonymiser.one(value)

    def is_subject(self, value: str) -> bool:
        """Tell whether a value, or a pseudonym, is one of an erased subject."""
        return ("subject", self.subject(value)) in self.hashes

    def is_row(self, row_id: str) -> bool:
        """Tell whether a row's id is one of an erased row."""
        return ("row", self.row(row_id)) in self.hashes

    def subjects_in(self, column: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.bool_]:
        """Tell which rows of a column of strings name an erased subject; null names nobody."""
        return self._found(column, self.is_subject, "subject")

    def rows_in(self, column: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.bool_]:
        """Tell which rows of a column of row ids name an erased row."""
        return self._found(column, self.is_row, "row")

    def named_in(self, text: str) -> bool:
        """Tell whether a pseudonym of an erased subject stands anywhere in a text."""
        return any(self.is_subject(found) for found in set(PSEUDONYM.findall(text)))

    def _found(
        self, column: pa.Array | pa.ChunkedArray, is_erased: object, kind: TombstoneKind
    ) -> npt.NDArray[np.bool_]:
        """Ask once for each distinct value."""
        assert callable(is_erased)
        nobody = np.zeros(len(column), bool)
        if not any(of == kind for of, _ in self.hashes):
            return nobody
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        encoded = pc.dictionary_encode(column.cast(pa.string()))
        erased = [bool(is_erased(value)) for value in encoded.dictionary.to_pylist()]
        if not any(erased):
            return nobody
        # The last place answers for null.
        answers = np.array([*erased, False])
        places = encoded.indices.fill_null(len(erased)).to_numpy(zero_copy_only=False)
        found: npt.NDArray[np.bool_] = answers[places]
        return found

    def _hash(self, kind: TombstoneKind, name: str) -> str:
        key = self._key.get_secret_value()
        content = f"{kind}\0{name}".encode(errors="surrogatepass")
        return hashlib.blake2b(content, key=key, digest_size=HASH_BYTES).hexdigest()
