"""Folders that cannot change unseen: files written aside, synced, renamed; the manifest last.

The digest of such a folder is the SHA-256 of its manifest, which lists the SHA-256 of every other
file. Knows files and bytes; knows nothing of what they mean.
"""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Mapping
from pathlib import Path

MANIFEST = "manifest.json"
DIGEST = re.compile(r"[0-9a-f]{64}")


class ArtifactAltered(ValueError):
    """An artifact folder that is not, byte for byte, what was written."""


def manifest_of(files: Mapping[str, bytes]) -> bytes:
    """Describe files by their digests."""
    entries = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(files.items())
    }
    return json.dumps({"format": 1, "files": entries}, indent=1, sort_keys=True).encode()


def digest_of(files: Mapping[str, bytes]) -> str:
    """Give the digest that a folder of these files has."""
    return hashlib.sha256(manifest_of(files)).hexdigest()


def write_folder(folder: Path, files: Mapping[str, bytes]) -> str:
    """Write files, each synced before it gets its name, then the manifest; return the digest."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_file(folder / name, content)
    manifest = manifest_of(files)
    write_file(folder / MANIFEST, manifest)
    sync_folder(folder)
    return hashlib.sha256(manifest).hexdigest()


def read_folder(folder: Path, digest: str | None = None) -> dict[str, bytes]:
    """Read every file of a folder after checking all of them.

    Raises ArtifactAltered when a file is missing, added or changed, or when the digest is another.
    """
    manifest = _read(folder, MANIFEST)
    found = hashlib.sha256(manifest).hexdigest()
    if digest is not None and found != digest:
        raise ArtifactAltered(
            f"{folder}: digest is {found}, expected {digest}; restore it from a copy"
        )
    try:
        entries = {name: entry["sha256"] for name, entry in json.loads(manifest)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactAltered(
            f"{folder}/{MANIFEST}: no manifest of this format: {error}"
        ) from error
    present = {path.name for path in folder.iterdir()} - {MANIFEST}
    if unexpected := sorted(present - set(entries)):
        raise ArtifactAltered(
            f"{folder}: holds {', '.join(unexpected)}, which the manifest does not list"
        )
    files = {name: _read(folder, name) for name in entries}
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != entries[name]:
            raise ArtifactAltered(
                f"{folder}/{name}: does not match the manifest; restore it from a copy"
            )
    return files


def _read(folder: Path, name: str) -> bytes:
    # A manifest is data from outside: a name may not lead out of its folder.
    if Path(name).name != name:
        raise ArtifactAltered(f"{folder}/{MANIFEST}: lists {name!r}, which is no plain file name")
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise ArtifactAltered(f"{folder}/{name}: cannot be read: {error.strerror}") from error


def write_file(path: Path, content: bytes) -> None:
    """Write aside, sync, rename: readers see the old content or the new, never a part."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with aside.open("wb") as output:
        output.write(content)
        output.flush()
        os.fsync(output.fileno())
    aside.replace(path)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
