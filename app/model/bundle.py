"""A model, whole: contract, encoder, network, calibrator, profile, card; and the only prediction.

Knows how to turn accepted rows into probabilities and how to be written and read back verified,
without pickle. Knows nothing of HTTP, Ray, roles or storage beyond one folder.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from app.contracts.rows import Contract
from app.data.features import Encoded, Encoder, InputShape
from app.data.profile import Profile
from app.model.calibration import Correction, read_calibrator
from app.model.manifest import ArtifactAltered, digest_of, read_folder, write_folder
from app.model.networks import TabularNetwork
from app.sections import NetworkConfig

__all__ = ["ArtifactAltered", "ModelBundle", "member_mean"]

# Keeps the widened batch within the processor's cache and memory bounded for any table.
PREDICT_ROWS = 2048
FILES = (
    "contract.json",
    "encoder.json",
    "network.json",
    "weights.safetensors",
    "calibrator.json",
    "profile.json",
    "card.json",
)


@dataclass(frozen=True)
class ModelBundle:
    """One immutable model. Changing a part means making another bundle, with another digest."""

    contract: Contract
    encoder: Encoder
    network: TabularNetwork
    calibrator: Correction
    profile: Profile
    card: Mapping[str, object]

    def predict(self, table: pa.Table) -> NDArray[np.float64]:
        """Give the probability of the label for each row; the only definition of a prediction.

        Takes accepted rows with the contract's feature columns; others are ignored. A row's figure
        does not depend on its neighbours beyond 1e-6. The number of torch threads is the caller's.
        Raises ValueError when a column is missing.
        """
        return self.calibrator.apply(self.uncalibrated(table))

    def uncalibrated(self, table: pa.Table) -> NDArray[np.float64]:
        """Give probabilities before calibration: what a calibrator is fitted on."""
        return member_mean(self.network, self.encoder.transform(table))

    def with_calibrator(self, calibrator: Correction, card: Mapping[str, object]) -> Self:
        """Give the same model with another calibrator and card."""
        return replace(self, calibrator=calibrator, card=card)

    @cached_property
    def digest(self) -> str:
        """Digest of the manifest that `save` writes."""
        return digest_of(self.files)

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The content of every file but the manifest: equal bundles give equal bytes."""
        network = {
            "config": self.network.config.model_dump(),
            "shape": self.network.shape.model_dump(),
        }
        weights = {
            name: tensor.cpu().contiguous() for name, tensor in self.network.state_dict().items()
        }
        contents = (
            self.contract.model_dump_json(indent=1).encode(),
            self.encoder.to_json(),
            _json(network),
            save(weights),
            self.calibrator.to_json(),
            self.profile.to_json(),
            _json(self.card),
        )
        return dict(zip(FILES, contents, strict=True))

    def save(self, folder: Path) -> str:
        """Write all files, the manifest last, and return the digest."""
        return write_folder(folder, self.files)

    @classmethod
    def load(cls, folder: Path, digest: str | None = None) -> Self:
        """Read a bundle after verifying every file.

        Raises ArtifactAltered when a file is missing, added, changed or not what its name says.
        """
        files = read_folder(folder, digest)
        if sorted(files) != sorted(FILES):
            raise ArtifactAltered(f"{folder}: is no model bundle; got {', '.join(sorted(files))}")
        try:
            return cls._from_files(files)
        except (ValidationError, SafetensorError, RuntimeError, KeyError) as error:
            raise ArtifactAltered(f"{folder}: its files do not fit together: {error}") from error

    @classmethod
    def _from_files(cls, files: Mapping[str, bytes]) -> Self:
        document = json.loads(files["network.json"])
        network = TabularNetwork(
            NetworkConfig.model_validate(document["config"]),
            InputShape.model_validate(document["shape"]),
        )
        network.load_state_dict(load(files["weights.safetensors"]))
        network.eval().requires_grad_(False)
        return cls(
            contract=Contract.model_validate_json(files["contract.json"]),
            encoder=Encoder.from_json(files["encoder.json"]),
            network=network,
            calibrator=read_calibrator(files["calibrator.json"]),
            profile=Profile.from_json(files["profile.json"]),
            card=json.loads(files["card.json"]),
        )


def member_mean(network: TabularNetwork, encoded: Encoded) -> NDArray[np.float64]:
    """Score encoded rows in pieces, with dropout off and the network left as it was."""
    device = network.head_KH.device
    numbers, categories = torch.from_numpy(encoded.numbers), torch.from_numpy(encoded.categories)
    was_training = network.training
    if was_training:
        network.eval()
    with torch.inference_mode():
        parts = [
            network.probability(
                numbers[i : i + PREDICT_ROWS].to(device),
                categories[i : i + PREDICT_ROWS].to(device),
            )
            for i in range(0, len(encoded), PREDICT_ROWS)
        ]
    if was_training:
        network.train()
    if not parts:
        return np.empty(0, np.float64)
    return torch.cat(parts).cpu().numpy().astype(np.float64)


def _json(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, indent=1, sort_keys=True).encode()
