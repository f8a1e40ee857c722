"""Find and open files by path or URI: on a local disk, or on S3, GCS or Azure by pyarrow.

Knows names, sizes and bytes; knows nothing of what is in a file, or of how a store is reached.
"""

import functools
import glob
import hashlib
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import pyarrow as pa
import pyarrow.fs as pafs

from app.data.globs import WILD, decoded, matches
from app.data.pieces import SourceError
from app.data.stores import URI, connect, first_line, shown

LOCAL_WILD = re.compile(r"[*?\[]")
# Names that writers give to files that are not whole yet, and to their own bookkeeping.
UNFINISHED = (".tmp", ".temp", ".part", ".partial", ".crdownload", ".inprogress", "._copying_")
DIGEST_CHARACTERS = 32
READ_BYTES = 2**20


class Found(NamedTuple):
    """A file as a store lists it: its path or URI, bytes, and when it changed (ns since 1970)."""

    path: str
    size: int
    modified: int


def find(given: str, endings: tuple[str, ...]) -> list[Found]:
    """List the files that a path, a folder (or prefix) or a glob names, in order of name.

    In a folder and by a glob, hidden and unfinished files are passed over: names that begin with a
    dot or an underscore, or end like `.tmp`.
    """
    if URI.match(given):
        return _find_remote(given, endings)
    path = Path(given).expanduser().absolute()
    if path.is_dir():
        names = [p.relative_to(path) for p in path.rglob("*") if p.name.lower().endswith(endings)]
        files = [path / name for name in names if not unfinished(name.as_posix())]
    elif path.exists():
        files = [path]
    else:
        wild = LOCAL_WILD.search(str(path))
        # The pattern may be absolute, which Path.glob refuses.
        matches = glob.glob(str(path), recursive=True)  # noqa: PTH207
        fixed = len(str(path)[: wild.start()].rpartition(os.sep)[0]) if wild else 0
        files = [Path(match) for match in matches if not unfinished(match[fixed:].lstrip(os.sep))]
    return [look_at(str(file)) for file in sorted(files) if file.is_file()]


def look_at(path: str) -> Found:
    """Ask for a file's size and time. Raises SourceError when it is gone."""
    if not URI.match(path):
        try:
            status = Path(path).stat()
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror or error}; was the file moved?") from error
        return Found(path, status.st_size, status.st_mtime_ns)
    store, place = locate(path)
    info = _ask(store.get_file_info, place, path)
    if info.type != pafs.FileType.File:
        raise SourceError(f"{shown(path)}: no such file; was it moved?")
    return Found(path, info.size, info.mtime_ns or 0)


def open_file(path: str) -> Any:
    """Open a file for reading at any place; close it with `with`."""
    store, place = locate(path)
    return _ask(store.open_input_file, place, path)


def open_stream(path: str) -> Any:
    """Open a file for reading from its beginning, unpacked when its name ends like `.gz`."""
    store, place = locate(path)
    return _ask(functools.partial(store.open_input_stream, compression="detect"), place, path)


def digest_file(path: str) -> str:
    """Digest a file's bytes."""
    digest = hashlib.sha256()
    store, place = locate(path)
    with _ask(functools.partial(store.open_input_stream, compression=None), place, path) as content:
        while block := content.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()[:DIGEST_CHARACTERS]


def locate(path: str) -> tuple[pafs.FileSystem, str]:
    """Return the store of a path or URI, and the path in it."""
    if not URI.match(path):
        return pafs.LocalFileSystem(), path
    store = connect(path)
    return store.files, f"{store.bucket}/{unquote(urlsplit(path).path).lstrip('/')}"


def beside(folder: str, name: str) -> str:
    """Name a file in a folder or prefix; what a store is asked for by a URI's query stays."""
    if not URI.match(folder):
        return str(Path(folder) / name)
    parts = urlsplit(folder)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}"))


def unfinished(name: str) -> bool:
    """Tell from its name that a file is hidden, or still being written.

    >>> unfinished("day=1/rows.parquet"), unfinished("_tmp/rows.parquet"), unfinished("a.csv.part")
    (False, True, True)
    """
    parts = PurePosixPath(name).parts
    return any(p.startswith((".", "_")) for p in parts) or name.lower().endswith(UNFINISHED)


def _find_remote(given: str, endings: tuple[str, ...]) -> list[Found]:
    parts, (store, bucket) = urlsplit(given), connect(given)
    # What is encoded is no wildcard.
    wild = WILD.search(parts.path)
    fixed = parts.path[: wild.start()].rpartition("/")[0] if wild else parts.path
    base = f"{bucket}/{unquote(fixed).strip('/')}".rstrip("/")
    pattern = f"{bucket}/{decoded(parts.path).lstrip('/')}"
    if not wild and not parts.path.endswith("/"):
        info = _ask(store.get_file_info, base, given)
        if info.type == pafs.FileType.File:
            return [Found(given, info.size, info.mtime_ns or 0)]
    selector = pafs.FileSelector(base, recursive=True, allow_not_found=True)
    found = []
    # In the order of a disk: folder by folder, by their names and not by how these are encoded.
    listed = sorted(_ask(store.get_file_info, selector, given), key=lambda i: i.path.split("/"))
    for info in listed:
        name = info.path.removeprefix(base).lstrip("/")
        chosen = matches(info.path, pattern) if wild else name.lower().endswith(endings)
        if info.type == pafs.FileType.File and chosen and not unfinished(name):
            path = f"/{quote(info.path.removeprefix(bucket).lstrip('/'))}"
            uri = urlunsplit(parts._replace(path=path))
            found.append(Found(uri, info.size, info.mtime_ns or 0))
    if not found and bucket and _is_missing(store, bucket):
        raise SourceError(f"{shown(given)}: no bucket or container {bucket}; is the name right?")
    return found


def _is_missing(store: pafs.FileSystem, bucket: str) -> bool:
    try:
        return bool(store.get_file_info(bucket).type == pafs.FileType.NotFound)
    except (pa.ArrowException, OSError):
        # One may be allowed to list a bucket, and not to ask about it.
        return False


def _ask(question: Any, place: Any, path: str) -> Any:
    """Ask a store; its error becomes one line that names the file."""
    try:
        return question(place)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{shown(path)}: {first_line(error)}") from error
