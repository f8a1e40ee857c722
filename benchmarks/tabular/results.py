"""Remember every trial and every fold, so that a run that was interrupted goes on.

One JSON line a result, appended and flushed at once, in a file for each set: several processes may
work on different sets. A result's key names settings, rows and the code that made it.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Record = Mapping[str, Any]


class Results:
    """The results of one set."""

    def __init__(self, file: Path) -> None:
        """Read what is there; a line that was left half-written counts for nothing."""
        self._file = file
        self._records: dict[str, Record] = {}
        text = file.read_text() if file.exists() else ""
        self._is_torn = bool(text) and not text.endswith("\n")
        for line in text.splitlines():
            record = _read(line)
            self._records |= {record["key"]: record} if record else {}

    def get(self, key: str) -> Record | None:
        """Give a result, if it is there."""
        return self._records.get(key)

    def add(self, key: str, record: Record) -> Record:
        """Append a result."""
        kept = {"key": key, **record}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a") as file:
            # A line that an interrupted run left unfinished must not swallow this one.
            file.write("\n" * self._is_torn + json.dumps(kept) + "\n")
        self._is_torn = False
        self._records[key] = kept
        return kept


def key_of(*parts: object) -> str:
    """Name a result by all that decides it.

    >>> key_of("titanic", 0, {"b": 1, "a": 2}) == key_of("titanic", 0, {"a": 2, "b": 1})
    True
    """
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def code_digest(*files: Path) -> str:
    """Digest source files: results of other code are not taken for results of this one."""
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def pack(scores: NDArray[np.float64]) -> str:
    """Write scores as text: float32, little-endian, base64."""
    return base64.b64encode(scores.astype("<f4").tobytes()).decode()


def unpack(text: str) -> NDArray[np.float64]:
    """Read what pack wrote.

    >>> unpack(pack(np.array([0.25, 0.5]))).tolist()
    [0.25, 0.5]
    """
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float64)


def _read(line: str) -> Record | None:
    try:
        record: Record = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record
