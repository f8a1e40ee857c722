"""A model, whole: contract, encoder, network, calibrator, profile, card; and the only prediction.

Knows how to turn accepted rows into probabilities and how to be written and read back verified,
without pickle. Knows nothing of HTTP, Ray, roles or storage beyond one folder.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError

from app.contracts.rows import Contract
from app.data.features import Encoded, Encoder
from app.data.profile import Profile
from app.model import networks, trees
from app.model.calibration import Correction, read_calibrator
from app.model.deciding import DEFAULT_THRESHOLD, hanging
from app.model.manifest import ArtifactAltered, digest_of, read_folder, write_folder
from app.model.tasks import LearningTask, Top

__all__ = ["ArtifactAltered", "ModelBundle"]

# Files of every bundle. One more holds what was learned: a network's weights, or trees.
DESCRIPTIONS = (
    "contract.json",
    "encoder.json",
    "network.json",
    "calibrator.json",
    "profile.json",
    "card.json",
)
LEARNED = (networks.WEIGHTS, trees.TREES)


class Learned(Protocol):
    """What was learned from encoded rows, whatever kind of model it is."""

    task: LearningTask

    def predict(self, encoded: Encoded) -> NDArray[np.float64]:
        """Predict before calibration: [B], of several classes [B, C]."""

    @property
    def size(self) -> Mapping[str, int]:
        """Say how large it is, by what it is large in."""

    def description(self) -> dict[str, object]:
        """Say what it is made from, as JSON."""

    def content(self) -> tuple[str, bytes]:
        """Give the name and the bytes of the file that holds what was learned."""


@dataclass(frozen=True)
class ModelBundle:
    """One immutable model. Changing a part means making another bundle, with another digest."""

    contract: Contract
    encoder: Encoder
    network: Learned
    calibrator: Correction
    profile: Profile
    card: Mapping[str, object]

    def predict(self, table: pa.Table) -> NDArray[np.float64]:
        """Predict each row; the only definition of a prediction.

        Of a binary label the probability [B], of several classes the probability of each [B, C] in
        the contract's order, of a number its value [B], of a ranking a score [B] whose order within
        a list is all that it means. Takes accepted rows with the contract's feature columns; others
        are ignored. A row's figure does not depend on its neighbours beyond 1e-6 (before
        calibration), and its decision not at all: whether it reaches `threshold`, which class is
        the likeliest. The number of torch threads is the caller's. Raises ValueError when a column
        is missing.
        """
        return self.predict_encoded(self.encoder.transform(table))

    def predict_encoded(self, encoded: Encoded) -> NDArray[np.float64]:
        """Predict rows that are encoded already: what `predict` gives of the rows they were."""
        raw = self.network.predict(encoded)
        if len(raw) > 1 and isinstance(self.network, networks.Network):
            for place in hanging(raw, self.calibrator.apply, self.threshold):
                raw[place] = self.network.predict(encoded.row(place))[0]
        return self.calibrator.apply(raw)

    @cached_property
    def threshold(self) -> float | None:
        """From which probability on rows are flagged, as the card says; by default from 0.5 on.

        None where nothing is flagged: for other tasks, and where a share of rows is.
        """
        if self.contract.task != "binary":
            return None
        threshold = self.card.get("threshold", DEFAULT_THRESHOLD)
        return float(threshold) if isinstance(threshold, float | int) else None

    def predict_rows(
        self, rows: Sequence[Sequence[Any]], names: Sequence[str]
    ) -> NDArray[np.float64]:
        """Predict a few rows of plain values in columns of these names; see transform_rows.

        What `predict` gives for the same rows: only the tables on the way there are left out.
        Raises ValueError when a column is missing.
        """
        return self.predict_encoded(self.encoder.transform_rows(rows, names))

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
        if not len(lists):
            return []
        starts = np.searchsorted(np.sort(lists), np.arange(1, len(column.dictionary)))
        tops = []
        for rows in np.split(np.argsort(lists, kind="stable"), starts):
            top = Top.of(predictions[rows], k)
            tops.append(top.model_copy(update={"places": tuple(rows[list(top.places)].tolist())}))
        return tops

    def uncalibrated(self, table: pa.Table) -> NDArray[np.float64]:
        """Give predictions before calibration: what a calibrator is fitted on."""
        return self.network.predict(self.encoder.transform(table))

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
        contents = (
            self.contract.model_dump_json(indent=1).encode(),
            self.encoder.to_json(),
            _json(self.network.description()),
            self.calibrator.to_json(),
            self.profile.to_json(),
            _json(self.card),
        )
        name, learned = self.network.content()
        return {**dict(zip(DESCRIPTIONS, contents, strict=True)), name: learned}

    def save(self, folder: Path) -> str:
        """Write all files, the manifest last, and return the digest."""
        return write_folder(folder, self.files)

    @classmethod
    def load(cls, folder: Path, digest: str | None = None) -> Self:
        """Read a bundle after verifying every file.

        Raises ArtifactAltered when a file is missing, added, changed or not what its name says.
        """
        files = read_folder(folder, digest)
        if not any(set(files) == {*DESCRIPTIONS, name} for name in LEARNED):
            raise ArtifactAltered(f"{folder}: is no model bundle; got {', '.join(sorted(files))}")
        try:
            return cls._from_files(files)
        except (ValidationError, SafetensorError, RuntimeError, KeyError) as error:
            raise ArtifactAltered(f"{folder}: its files do not fit together: {error}") from error

    @classmethod
    def _from_files(cls, files: Mapping[str, bytes]) -> Self:
        return cls(
            contract=Contract.model_validate_json(files["contract.json"]),
            encoder=Encoder.from_json(files["encoder.json"]),
            network=_learned(files),
            calibrator=read_calibrator(files["calibrator.json"]),
            profile=Profile.from_json(files["profile.json"]),
            card=json.loads(files["card.json"]),
        )


def _learned(files: Mapping[str, bytes]) -> Learned:
    document = json.loads(files["network.json"])
    if networks.WEIGHTS in files:
        return networks.restore_network(document, files[networks.WEIGHTS])
    return trees.Trees.restore(document, files[trees.TREES])


def _json(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, indent=1, sort_keys=True).encode()
