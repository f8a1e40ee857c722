"""What a team would write by hand to score files with one model: a plain loop of pyarrow and torch.

No row is checked, no id is looked at, nothing can be resumed. The network is the bundle's own torch
module on one thread; encoder and calibrator are plain code over their edges and vocabularies.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from app.data.categories import FIRST_KNOWN, NULL, UNSEEN
from app.model.bundle import ModelBundle
from benchmarks.scoring.data import CATEGORIES, NUMBERS

READ_ROWS = 65_536
# The fastest of 1,024 to 65,536: larger ones leave the processor's cache.
BATCH_ROWS = 2048


class Plain:
    """The network with its encoder and calibrator, from the folder of a bundle."""

    def __init__(self, folder: Path) -> None:
        """Read the bundle and take its parts."""
        torch.set_num_threads(1)
        bundle = ModelBundle.load(folder)
        assert [each.name for each in bundle.encoder.numbers] == list(NUMBERS)
        assert [each.name for each in bundle.encoder.categories] == list(CATEGORIES)
        self.network: Any = bundle.network
        self._edges = [np.array(each.edges) for each in bundle.encoder.numbers]
        self._nulls = [each.null_position for each in bundle.encoder.numbers]
        self._codes = [
            {value: code for code, value in enumerate(each.vocabulary, FIRST_KNOWN)}
            for each in bundle.encoder.categories
        ]
        self._slope = float(getattr(bundle.calibrator, "slope", 1.0))
        self._intercept = float(getattr(bundle.calibrator, "intercept", 0.0))

    def predict(self, batch: pa.RecordBatch) -> np.ndarray:
        """Give the probabilities of a batch."""
        numbers_BF = np.empty((batch.num_rows, len(NUMBERS)), np.float32)
        for i, (name, edges, null) in enumerate(
            zip(NUMBERS, self._edges, self._nulls, strict=True)
        ):
            values = batch[name].to_numpy(zero_copy_only=False)
            places = np.interp(values, edges, np.arange(float(len(edges))))
            numbers_BF[:, i] = np.where(np.isnan(places), null, places)
        codes_BC = np.empty((batch.num_rows, len(CATEGORIES)), np.int64)
        for i, (name, known) in enumerate(zip(CATEGORIES, self._codes, strict=True)):
            texts = batch[name]
            codes = [*(known.get(text, UNSEEN) for text in texts.dictionary.to_pylist()), NULL]
            places = pc.fill_null(texts.indices, len(texts.dictionary)).to_numpy()
            codes_BC[:, i] = np.array(codes)[places]
        numbers, codes = torch.from_numpy(numbers_BF), torch.from_numpy(codes_BC)
        with torch.inference_mode():
            parts = [
                self.network.prediction(numbers[i : i + BATCH_ROWS], codes[i : i + BATCH_ROWS])
                for i in range(0, batch.num_rows, BATCH_ROWS)
            ]
        raw = torch.cat(parts).numpy().astype(np.float64)
        logits = self._slope * np.log(raw / (1 - raw)) + self._intercept
        return 1 / (1 + np.exp(-logits))


@lru_cache(maxsize=1)
def _loaded(bundle: str) -> Plain:
    pa.set_cpu_count(1)
    return Plain(Path(bundle))


def score_files(files: Sequence[str], into: str, bundle: str) -> None:
    """Score some files, each to one of its own."""
    plain = _loaded(bundle)
    columns = ["order_id", *NUMBERS, *CATEGORIES]
    schema = pa.schema([("order_id", pa.string()), ("probability", pa.float64())])
    for file in files:
        opened = pq.ParquetFile(file, read_dictionary=list(CATEGORIES))
        with pq.ParquetWriter(Path(into) / Path(file).name, schema) as writer:
            for batch in opened.iter_batches(READ_ROWS, columns=columns):
                scores = [batch["order_id"], pa.array(plain.predict(batch))]
                writer.write_batch(pa.record_batch(scores, schema=schema))
