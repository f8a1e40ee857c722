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
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from app.contracts.rows import Contract
from app.data.features import Encoder, InputShape
from app.data.profile import Profile
from app.model.calibration import Calibrator
from app.model.manifest import ArtifactAltered, digest_of, read_folder, write_folder
from app.model.networks import Network, UserNetwork, build_network
from app.model.tasks import Top, task_from
from app.sections import NetworkConfig

__all__ = ["ArtifactAltered", "ModelBundle"]

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
    network: Network
    calibrator: Calibrator
    profile: Profile
    card: Mapping[str, object]

    def predict(self, table: pa.Table) -> NDArray[np.float64]:
        """Predict each row; the only definition of a prediction.

        Of a binary label the probability [B], of several classes the probability of each [B, C] in
        the contract's order, of a number its value [B], of a ranking a score [B] whose order within
        a list is all that it means. Takes accepted rows with the contract's feature columns; others
        are ignored. A row's figure does not depend on its neighbours beyond 1e-6. The number of
        torch threads is the caller's. Raises ValueError when a column is missing.
        """
        return self.calibrator.apply(self.uncalibrated(table))

    def top(self, table: pa.Table, k: int) -> list[Top]:
        """Give the first k, best first: classes of each row, or rows of each list.

        Lists come in the order in which they begin, and a place is a row of the table. Follows from
        `predict` alone. Raises ValueError for a task that has nothing to choose from.
        """
        task = self.contract.task
        if task not in ("multiclass", "ranking"):
            raise ValueError(f"{task} has no top {k}: it predicts one number a row; use predict")
        predictions = self.predict(table)
        if task == "multiclass":
            return [Top.of(row, k) for row in predictions]
        column = pc.dictionary_encode(table[self.contract.group].combine_chunks(), "encode")
        lists = column.indices.to_numpy()
        tops = []
        for number in range(len(column.dictionary)):
            rows = np.flatnonzero(lists == number)
            top = Top.of(predictions[rows], k)
            tops.append(top.model_copy(update={"places": tuple(rows[list(top.places)].tolist())}))
        return tops

    def uncalibrated(self, table: pa.Table) -> NDArray[np.float64]:
        """Give predictions before calibration: what a calibrator is fitted on."""
        return self.network.predict(self.encoder.transform(table))

    def with_calibrator(self, calibrator: Calibrator, card: Mapping[str, object]) -> Self:
        """Give the same model with another calibrator and card."""
        return replace(self, calibrator=calibrator, card=card)

    @cached_property
    def digest(self) -> str:
        """Digest of the manifest that `save` writes."""
        return digest_of(self.files)

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The content of every file but the manifest: equal bundles give equal bytes."""
        network: dict[str, object] = {
            "config": self.network.config.model_dump(),
            "shape": self.network.shape.model_dump(),
            "task": self.network.task.model_dump(),
        }
        if isinstance(self.network, UserNetwork):
            network["source"] = self.network.source_digest
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
        network = build_network(
            NetworkConfig.model_validate(document["config"]),
            InputShape.model_validate(document["shape"]),
            task_from(document["task"]),
            document.get("source"),
        )
        network.load_state_dict(load(files["weights.safetensors"]))
        network.eval().requires_grad_(False)
        return cls(
            contract=Contract.model_validate_json(files["contract.json"]),
            encoder=Encoder.from_json(files["encoder.json"]),
            network=network,
            calibrator=Calibrator.from_json(files["calibrator.json"]),
            profile=Profile.from_json(files["profile.json"]),
            card=json.loads(files["card.json"]),
        )


def _json(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, indent=1, sort_keys=True).encode()
