"""Content-addressed artifact folders: put once, named by their digest, verified on every use.

Knows folders with a manifest; knows nothing of models, versions or roles.
"""

import shutil
import uuid
from pathlib import Path

from app.model.manifest import (
    DIGEST,
    ArtifactAltered,
    digest_of,
    read_folder,
    sync_folder,
    write_folder,
)


class ArtifactMissing(ValueError):
    """No artifact of that digest is stored."""


class Artifacts:
    """A store of immutable folders below one root."""

    def __init__(self, root: Path) -> None:
        """Use the store below root, which need not exist yet."""
        self._root = root

    def put(self, folder: Path) -> str:
        """Store a copy of a verified folder and return its digest.

        Idempotent, and safe beside others that put the same. Raises ArtifactAltered when the folder
        does not match its manifest.
        """
        files = read_folder(folder)
        digest = digest_of(files)
        target = self._root / digest
        if target.exists():
            read_folder(target, digest)
            return digest
        aside = self._root / f".{digest}.{uuid.uuid4().hex}"
        try:
            written = write_folder(aside, files)
            if written != digest:
                raise ArtifactAltered(
                    f"{folder}: its manifest is not in the form this version writes"
                )
            self._rename(aside, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return digest

    def path(self, digest: str) -> Path:
        """Give the verified folder of a digest.

        Raises ArtifactMissing when there is none, ArtifactAltered when it is not what was put.
        """
        if not DIGEST.fullmatch(digest):
            raise ArtifactMissing(
                f"{digest!r} is no artifact digest; expected 64 hexadecimal characters"
            )
        target = self._root / digest
        if not target.is_dir():
            raise ArtifactMissing(f"{target}: no such artifact; train or restore it")
        read_folder(target, digest)
        return target

    def _rename(self, aside: Path, target: Path) -> None:
        try:
            aside.rename(target)
        except OSError:
            # Another put was first: the same bytes are there, or it is a real error.
            if not target.exists():
                raise
        sync_folder(self._root)
