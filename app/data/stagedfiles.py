"""Write and read the files of judged blocks: nothing in them can be read without the ring of keys.

A staged file is sealed whole, footer and all, with a fresh key that it holds wrapped by a master
key: whoever judges opens the ring where it is, so that no key travels. Knows Parquet and seals;
knows nothing of what rows mean.
"""

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from app.data.sealing import Sealing, explained, key_of
from app.security.secrets import SecretError


@dataclass(frozen=True)
class StagedFiles:
    """The files of one folder. Without a sealing they are plain."""

    folder: Path
    sealing: Sealing = field(default_factory=Sealing)

    def write(self, rows: pa.Table, name: str) -> str:
        """Write rows aside and rename them: the file is whole or absent. Returns its path."""
        key_id = self.sealing.current_key()
        seal = self.sealing.to_write_whole(key_id) if key_id else None
        ending = f".sealed-{key_id}.parquet" if key_id else ".parquet"
        aside = self.folder / f"{name}.{uuid.uuid4().hex}.tmp"
        pq.write_table(rows, aside, compression="lz4", encryption_properties=seal)
        return str(aside.replace(self.folder / f"{name}{ending}"))

    def note(self, content: bytes, name: str) -> str:
        """Write counts, which hold no private value, aside and rename them. Returns the path."""
        aside = self.folder / f"{name}.{uuid.uuid4().hex}.tmp"
        aside.write_bytes(content)
        return str(aside.replace(self.folder / f"{name}.json"))

    def read(self, path: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read a file, or some columns of it.

        Raises SecretError without the key of a sealed file, SealBroken for an altered one.
        """
        with self._opened(path) as opened:
            return opened.read(columns=None if columns is None else list(columns))

    def num_rows(self, path: str) -> int:
        """Count a file's rows by its footer."""
        with self._opened(path) as opened:
            return int(opened.metadata.num_rows)

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[pq.ParquetFile]:
        sealed = key_of(path) is not None
        if sealed and self.sealing.keyring is None:
            raise SecretError(f"{path}: is sealed and no keyring was given; give it")
        decryption = self.sealing.to_read() if sealed else None
        with (
            explained(path, ("of staged rows",)),
            pq.ParquetFile(path, decryption_properties=decryption) as opened,
        ):
            yield opened
