"""Replace personal values by keyed pseudonyms before anything is stored, logged or counted.

Knows Arrow columns and a key; knows nothing of where rows come from or go to. The same value and
key always give the same pseudonym, so that rows stay joinable; without the key a pseudonym cannot
be tried out.
"""

import hashlib
import hmac
import re

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import SecretBytes

from app.contracts.rows import Contract
from app.security.secrets import StaysHere

PSEUDONYM_DIGITS = 16
PSEUDONYM = re.compile(rf"p_[0-9a-f]{{{PSEUDONYM_DIGITS}}}")


class Pseudonymiser(StaysHere):
    """Turn strings into pseudonyms `p_` + 16 hexadecimal digits of HMAC-SHA256.

    A null stays null, and a pseudonym stays itself, so that applying it twice is applying it once.
    """

    def __init__(self, key: SecretBytes) -> None:
        """Keep the key; it appears in no repr and no message."""
        # The key is worked in once: each value begins from a copy.
        self._begun = hmac.new(key.get_secret_value(), digestmod=hashlib.sha256)

    def one(self, value: str) -> str:
        """Return the pseudonym of one value."""
        if PSEUDONYM.fullmatch(value):
            return value
        mac = self._begun.copy()
        mac.update(value.encode())
        return f"p_{mac.hexdigest()[:PSEUDONYM_DIGITS]}"

    def apply(self, column: pa.Array | pa.ChunkedArray) -> pa.Array:
        """Return the pseudonyms of a column of strings; each distinct value is hashed once."""
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        encoded = pc.dictionary_encode(column.cast(pa.string()))
        pseudonyms = [self.one(value) for value in encoded.dictionary.to_pylist()]
        return pa.array(pseudonyms, pa.string()).take(encoded.indices)

    def protect(self, table: pa.Table, contract: Contract) -> pa.Table:
        """Return the table with the contract's personal columns, where it has them, replaced."""
        for name in contract.personal:
            position = table.schema.get_field_index(name)
            if position >= 0:
                field = table.schema.field(position).with_type(pa.string())
                table = table.set_column(position, field, self.apply(table[name]))
        return table
