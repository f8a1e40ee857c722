"""Scores of every task: the columns that it asks for, and every row once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from pydantic import SecretBytes

from app.contracts.rows import Column, Contract
from app.data.inputs import find_pieces
from app.data.tables import Tables
from app.model.networks import TabularNetwork
from app.model.tasks import task_of
from app.sections import NetworkConfig
from app.security.privacy import Pseudonymiser
from app.serving.scoring import (
    Scoring,
    count_rows,
    prediction_columns,
    prediction_fields,
    score_piece,
)
from app.serving.sinks import write_scores
from tests.serving_world import make_bundle, make_table

TARGETS: dict[str, dict[str, Any]] = {
    "multiclass": {"task": "multiclass", "classes": ("early", "on time", "late")},
    "regression": {"task": "regression"},
    "ranking": {"task": "ranking", "group": "basket"},
}


class Doubler:
    """A model that is plain arithmetic: twice the weight, or shares of classes made from it."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract

    def predict(self, table: pa.Table) -> NDArray[np.float64]:
        weight = table["weight"].to_numpy()
        if self.contract.task != "multiclass":
            return 2 * weight
        return np.stack([weight, 0.75 - weight, np.full_like(weight, 0.25)], axis=1)


def contract_of(task: str) -> Contract:
    """Make the contract of some orders."""
    return Contract.model_validate(
        {
            "id": "order", "event_time": "due", "label": "late", **TARGETS[task],
            "columns": [
                Column(name="order", kind="identifier", feature=False),
                Column(name="basket", kind="identifier", feature=False),
                Column(name="due", kind="time", feature=False),
                Column(name="weight", kind="number"),
            ],
        }
    )  # fmt: skip


def scored(folder: Path, task: str, weights: list[str]) -> pa.Table:
    contract = contract_of(task)
    size = len(weights)
    table = pa.table(
        {
            "order": [f"O{i}" for i in range(size)],
            "basket": ["B"] * size,
            "due": ["2024-01-01T00:00:00Z"] * size,
            "weight": weights,
        }
    )
    pacsv.write_csv(table, folder / "rows.csv")
    (piece,) = find_pieces(str(folder / "rows.csv"), contract)
    scoring = Scoring(
        contract, Doubler(contract), Pseudonymiser(SecretBytes(b"k" * 32)), "v" * 64,
        Tables(folder / "tables", contract),
    )  # fmt: skip
    scores = score_piece(piece, scoring)
    write_scores(folder / "scores.parquet", scores.schema, [scores])
    assert pq.read_table(folder / "scores.parquet").equals(scores)
    return scores


@pytest.mark.parametrize(("task", "column"), [("regression", "prediction"), ("ranking", "score")])
def test_a_number_is_one_column(tmp_path: Path, task: str, column: str) -> None:
    scores = scored(tmp_path, task, ["0.5", "x", "-3"])
    assert scores.column_names == ["file", "position", "row_id", column, "reasons", "version"]
    assert scores[column].to_pylist() == [1.0, None, -6.0]
    assert count_rows(scores) == (2, 1)


def test_classes_are_a_column_each_and_the_likeliest_is_named(tmp_path: Path) -> None:
    scores = scored(tmp_path, "multiclass", ["0.5", "x", "0.25", "0.375"])
    shares = [scores[f"probability_{name}"].to_pylist() for name in ("early", "on time", "late")]
    assert shares == [[0.5, None, 0.25, 0.375], [0.25, None, 0.5, 0.375], [0.25, None, 0.25, 0.25]]
    assert scores["predicted"].to_pylist() == ["early", None, "on time", "early"]
    assert count_rows(scores) == (3, 1)


@pytest.mark.parametrize("task", list(TARGETS))
def test_a_file_without_an_acceptable_row_has_the_same_columns(tmp_path: Path, task: str) -> None:
    scores = scored(tmp_path, task, ["x", "y"])
    assert [len(reasons) for reasons in scores["reasons"].to_pylist()] == [1, 1]
    assert scores.schema == scored(tmp_path, task, ["1", "0"]).schema


def test_predictions_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected 4 rows of 3 classes, got \(4, 2\)"):
        prediction_columns(contract_of("multiclass"), np.zeros((4, 2)))


@pytest.mark.parametrize("task", list(TARGETS))
def test_what_a_network_predicts_is_what_is_written(tmp_path: Path, task: str) -> None:
    contract = contract_of(task)
    made = make_bundle(contract, seed=1)
    learned = task_of(contract, np.array([0.5, 1.0, 2.5]))
    network = TabularNetwork(NetworkConfig(hidden=8, num_layers=1), made.encoder.shape, learned)
    bundle = replace(made, network=network.eval())
    table = make_table(contract, 9)
    pq.write_table(table, tmp_path / "rows.parquet")
    (piece,) = find_pieces(str(tmp_path / "rows.parquet"), contract)
    secret, tables = Pseudonymiser(SecretBytes(b"k" * 32)), Tables(tmp_path / "tables", contract)
    scores = score_piece(piece, Scoring(contract, bundle, secret, "v" * 64, tables))

    names = [field.name for field in prediction_fields(contract) if field.type == pa.float64()]
    written = np.stack([scores[name].to_numpy() for name in names], axis=1)
    np.testing.assert_array_equal(written.squeeze(), bundle.predict(table))
    if task == "multiclass":
        np.testing.assert_allclose(written.sum(axis=1), 1.0, atol=1e-6)
        best = [contract.classes[place] for place in bundle.predict(table).argmax(axis=1)]
        assert scores["predicted"].to_pylist() == best
