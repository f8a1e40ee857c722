"""Bring in a user's own torch module by its import path, and know its source again.

A bundle holds weights and the digest of the module's source file, never code: the code must be
importable where the model is loaded, and be the same. Knows import paths; knows nothing of what a
module computes.
"""

import hashlib
import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from app.data.features import InputShape


@dataclass(frozen=True)
class LoadedModule:
    """A class of torch modules and the digest of the file that defines it."""

    path: str
    module_class: type[nn.Module]
    source_digest: str

    def make(self, shape: InputShape, num_outputs: int, options: Mapping[str, object]) -> nn.Module:
        """Make the module. Raises ValueError when the class does not take what it is given."""
        try:
            made = self.module_class(shape, num_outputs, **options)
        except TypeError as error:
            raise ValueError(
                f"training.network.module: {self.path} was called with (shape, num_outputs, "
                f"{', '.join(options) or 'no options'}) and failed: {error}"
            ) from error
        if next(made.parameters(), None) is None:
            raise ValueError(f"training.network.module: {self.path} has nothing to learn")
        return made


def load_module(path: str, expected_digest: str | None = None) -> LoadedModule:
    """Import `package.module:Class`.

    The digest is compared before the file is run. Raises ValueError when the file is not found, is
    another than expected, or when the name is no class of torch modules.
    """
    name, _, class_name = path.partition(":")
    digest = _source_digest(path, name)
    if expected_digest is not None and digest != expected_digest:
        raise ValueError(
            f"{path}: the source here is {digest}, the model was made with {expected_digest}; "
            "check out the code that it was trained with"
        )
    try:
        found = getattr(importlib.import_module(name), class_name, None)
    except ImportError as error:
        raise ValueError(f"training.network.module: {path} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(
            f"training.network.module: {path} is {found!r}, expected a class of torch.nn.Module"
        )
    return LoadedModule(path, found, digest)


def _source_digest(path: str, name: str) -> str:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise ValueError(
            f"training.network.module: no source file of {path} is found; put it where Python "
            "looks, on every node (ray job submit --working-dir . takes the folder along)"
        )
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
