"""What a team would write by hand to serve one model: a row, an answer, and a prediction.

The network is the bundle's own, as a torch module on one thread; the encoder is plain code over its
edges and vocabularies. Nothing of Mainspring's row path is used, so that no peer pays for it.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, create_model

from app.config import load_config
from app.contracts.rows import Contract
from app.data.features import FIRST_KNOWN, NULL, UNSEEN, NumberFeature
from app.model.bundle import ModelBundle

CONFIG = Path(__file__).resolve().parent.parent.parent / "configs" / "flights.yaml"
TYPES: Mapping[str, type] = {"number": float, "time": datetime}


class Answer(BaseModel):
    """The answer for one row."""

    flight_id: str
    probability: float


class Answers(BaseModel):
    """The answers for several rows."""

    predictions: list[Answer]


def row_model(contract: Contract) -> type[BaseModel]:
    """Make the pydantic model of a row: the types of its columns, and nothing beyond them."""
    fields: dict[str, Any] = {}
    for column in contract.columns:
        kind: Any = TYPES.get(column.kind, str)
        fields[column.name] = (kind | None, None) if column.nullable else (kind, ...)
    return create_model("Row", **fields)


Row: Any = row_model(load_config(CONFIG).contract)


class Model:
    """A network with its encoder and calibrator, from the folder of a bundle."""

    def __init__(self, folder: Path) -> None:
        """Read the bundle and take its parts."""
        torch.set_num_threads(1)
        bundle = ModelBundle.load(folder)
        self.contract = bundle.contract
        self.network: Any = bundle.network
        self._numbers = [_Number(each) for each in bundle.encoder.numbers]
        self._categories = [
            (each.name, {value: code for code, value in enumerate(each.vocabulary, FIRST_KNOWN)})
            for each in bundle.encoder.categories
        ]
        for _, codes in self._categories:
            codes[None] = NULL
        assert not any(each.num_buckets for each in bundle.encoder.categories)
        assert not bundle.encoder.times
        self._slope = float(getattr(bundle.calibrator, "slope", 1.0))
        self._intercept = float(getattr(bundle.calibrator, "intercept", 0.0))

    def predict(self, row: Mapping[str, Any]) -> float:
        """Give the probability of one row."""
        numbers = [number.place(row[number.name]) for number in self._numbers]
        codes = [known.get(row[name], UNSEEN) for name, known in self._categories]
        with torch.inference_mode():
            raw = self.network.prediction(torch.tensor([numbers]), torch.tensor([codes])).item()
        logit = math.log(raw / (1 - raw))
        return 1 / (1 + math.exp(-self._slope * logit - self._intercept))

    def predict_many(self, rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """Give the probabilities of many rows, column by column."""
        columns = {
            each.name: np.array([row[each.name] for row in rows], np.float64)
            for each in self._numbers
        }
        texts = {name: [row[name] for row in rows] for name, _ in self._categories}
        return self.predict_columns(columns, texts).tolist()

    def predict_table(self, table: pa.Table) -> NDArray[np.float64]:
        """Give the probabilities of the rows of an Arrow table."""
        return self.predict_columns(
            {each.name: table[each.name].to_numpy() for each in self._numbers},
            {name: table[name].to_pylist() for name, _ in self._categories},
        )

    def predict_columns(
        self, numbers: Mapping[str, NDArray[np.float64]], texts: Mapping[str, list[str | None]]
    ) -> NDArray[np.float64]:
        """Give the probabilities of columns; a null number is NaN."""
        size = len(next(iter(numbers.values())))
        numbers_BF = np.empty((size, len(self._numbers)), np.float32)
        for i, number in enumerate(self._numbers):
            numbers_BF[:, i] = number.place_all(numbers[number.name])
        codes_BC = np.empty((size, len(self._categories)), np.int64)
        for i, (name, known) in enumerate(self._categories):
            codes_BC[:, i] = [known.get(text, UNSEEN) for text in texts[name]]
        with torch.inference_mode():
            raw = self.network.prediction(torch.from_numpy(numbers_BF), torch.from_numpy(codes_BC))
        raw = raw.numpy().astype(np.float64)
        logits = self._slope * np.log(raw / (1 - raw)) + self._intercept
        return 1 / (1 + np.exp(-logits))


class _Number:
    """Where a value stands among edges, linearly within a bin."""

    def __init__(self, feature: NumberFeature) -> None:
        self.name = feature.name
        self._edges = list(feature.edges)
        self._null = feature.null_position
        self._last = float(feature.num_bins)

    def place(self, value: float | None) -> float:
        if value is None:
            return self._null
        edges = self._edges
        i = bisect_right(edges, value) - 1
        if i < 0:
            return 0.0
        if i >= self._last:
            return self._last
        return i + (value - edges[i]) / (edges[i + 1] - edges[i])

    def place_all(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        places = np.interp(values, self._edges, np.arange(len(self._edges), dtype=np.float64))
        return np.where(np.isnan(values), self._null, places)
