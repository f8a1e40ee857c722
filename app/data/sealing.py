"""Seal the private columns of data files, or whole files, by Parquet's modular encryption.

Knows Parquet's encryption and a ring of keys; knows nothing of tables. Each sealed column of a file
is encrypted and authenticated (AES-GCM, 256 bits) with a key of its own, which the file holds
wrapped by a master key. The footer stays readable, and signed: whoever has no key reads the other
columns, and what is altered in a sealed column is noticed.

What a reader from outside sees (Ray Data's read_delta, polars, Spark): all rows with the columns
that are not sealed, if it names the columns that it wants; asked for a sealed one, or for all, it
fails. Plain columns are not authenticated: that they are as they were is for a snapshot's digest
to say.
"""

import base64
import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet.encryption as pe

from app.config import Config
from app.security.keyring import Keyring, open_keyring
from app.security.secrets import SecretError

CIPHER = {
    "encryption_algorithm": "AES_GCM_V1",
    "data_key_length_bits": 256,
    # The ring is near: one wrapping is enough, and nothing is cached.
    "double_wrapping": False,
}
SEALED = re.compile(r"\.sealed-([a-z0-9]{1,20})\.[a-z]+$")


class SealBroken(OSError):
    """A sealed column that is not what was written."""


class _Provider(pe.KmsClient):  # type: ignore[misc]  # pyarrow ships no types.
    """What Parquet asks for a file's keys; it takes and gives base64."""

    def __init__(self, keyring: Keyring) -> None:
        pe.KmsClient.__init__(self)
        self._keyring = keyring

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        return base64.b64encode(self._keyring.wrap(key_bytes, master_key_identifier))

    def unwrap_key(self, wrapped_key: bytes, master_key_identifier: str) -> bytes:
        return self._keyring.unwrap(base64.b64decode(wrapped_key), master_key_identifier)


class Sealing:
    """How the files of a workspace are sealed and opened. Without a ring only plain columns are."""

    def __init__(self, keyring: Keyring | None = None, *, at_rest: bool = False) -> None:
        """Take a ring of keys; `at_rest` says whether new files are sealed with it."""
        if at_rest and keyring is None:
            raise ValueError("files cannot be sealed without a keyring; give one")
        self.keyring = keyring
        self.at_rest = at_rest
        self._factory = pe.CryptoFactory(lambda _: _Provider(keyring)) if keyring else None
        self._connection = pe.KmsConnectionConfig()

    def current_key(self) -> str | None:
        """Return the id of the key that a new file is sealed with, None when it stays plain."""
        return self.keyring.current() if self.keyring and self.at_rest else None

    @property
    def for_new(self) -> Keyring | None:
        """The ring that what is new is sealed with; None where it stays plain."""
        return self.keyring if self.at_rest else None

    def to_write_whole(self, key_id: str) -> Any:
        """Return Parquet's encryption properties for a file of which nothing is to be read."""
        assert self._factory is not None
        settings = pe.EncryptionConfiguration(footer_key=key_id, uniform_encryption=True, **CIPHER)
        return self._factory.file_encryption_properties(self._connection, settings)

    def to_write(self, key_id: str, schema: pa.Schema, columns: Sequence[str]) -> Any:
        """Return Parquet's encryption properties for one file."""
        assert self._factory is not None
        settings = pe.EncryptionConfiguration(
            footer_key=key_id,
            column_keys={key_id: [leaf_of(schema.field(name)) for name in columns]},
            plaintext_footer=True,
            **CIPHER,
        )
        return self._factory.file_encryption_properties(self._connection, settings)

    def to_read(self) -> Any:
        """Return Parquet's decryption properties for one file, sealed or not; None without keys."""
        if self._factory is None:
            return None
        settings = pe.DecryptionConfiguration()
        return self._factory.file_decryption_properties(self._connection, settings)

    def to_scan(self) -> ds.ParquetFragmentScanOptions:
        """Return the options with which an Arrow dataset opens files, sealed or not."""
        if self._factory is None:
            return ds.ParquetFragmentScanOptions(pre_buffer=True)
        config = ds.ParquetDecryptionConfig(
            self._factory, self._connection, pe.DecryptionConfiguration()
        )
        return ds.ParquetFragmentScanOptions(pre_buffer=True, decryption_config=config)


def open_sealing(config: Config) -> Sealing:
    """Return how a workspace's files are sealed; no key is made or read before one is needed."""
    return Sealing(open_keyring(config), at_rest=config.encryption.at_rest)


def key_of(path: str) -> str | None:
    """Return the id of the master key that a file needs, by its name; None for a plain file.

    >>> key_of("part-0.sealed-k1x2f.parquet"), key_of("01.sealed-a.open"), key_of("part-0.parquet")
    ('k1x2f', 'a', None)
    """
    match = SEALED.search(path)
    return match[1] if match else None


@contextlib.contextmanager
def explained(where: str, columns: Sequence[str]) -> Iterator[None]:
    """Say what Parquet's complaints about keys mean.

    Raises SecretError where a key is needed and there is none, SealBroken for a column that was
    altered.
    """
    try:
        yield
    except OSError as error:
        told = str(error)
        if "Cannot decrypt ColumnMetadata" in told:
            raise SecretError(
                f"{where}: columns {', '.join(columns)} are sealed and no keyring was given; "
                "give it, or ask for other columns"
            ) from error
        if "ecrypt" in told:
            raise SealBroken(
                f"{where}: a sealed column was altered or damaged ({told}); restore the file"
            ) from error
        raise


def leaf_of(field: pa.Field) -> str:
    """Return the path of a column's values in Parquet."""
    return f"{field.name}.list.element" if pa.types.is_list(field.type) else str(field.name)
