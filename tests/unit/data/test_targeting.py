"""What a stranger's label asks for: two outcomes, several classes, a number, or lists."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pydantic import SecretBytes

from app.data.files import Rows
from app.data.inline import Inline
from app.data.outcomes import LabelRefused
from app.data.proposal import Proposal, propose
from app.data.proposal_yaml import write_yaml
from app.data.survey import survey
from app.data.trial import try_out
from app.data.validation import validate_labels
from tests.unit.data.test_proposal import AT, load, uses

ROWS = 600
CHANCE = np.random.default_rng(5)
NOISE = CHANCE.normal(size=ROWS)


def propose_for(folder: Path, label: object, **asked: str) -> Proposal:
    file = folder / "table.parquet"
    table = pa.table(
        {
            "size": NOISE,
            "kind": np.where(NOISE > 0, "a", "b"),
            "query": [f"q{i // 6}" for i in range(ROWS)],
            "echo": pa.array([str(value) for value in label]),
            "outcome": label,
        }
    )
    pq.write_table(table, file)
    return propose(survey(file), "outcome", "m", **asked)


COLOURS = np.array(["red", "green", "blue"])[np.argsort(CHANCE.random((ROWS, 3)))[:, 0]]


def test_a_few_texts_are_proposed_as_classes_and_take_every_row(tmp_path: Path) -> None:
    label = [("Red" if i % 7 else "red") if c == "red" else c for i, c in enumerate(COLOURS)]
    found = propose_for(tmp_path, label)
    config = load(found, tmp_path)
    assert config.contract.task == "multiclass"
    assert config.contract.classes == ("Red", "blue", "green")
    assert config.source.inline is not None
    assert config.source.inline.classes == {"Red": ("Red", "red")}
    assert try_out(config, found.survey, AT).num_accepted == ROWS
    assert not {"loop", "monitoring"} & set(yaml.safe_load(write_yaml(found, "w")))


def test_small_whole_numbers_are_classes_in_their_order(tmp_path: Path) -> None:
    found = propose_for(tmp_path, CHANCE.integers(3, 11, ROWS))
    assert found.target == {"task": "multiclass", "classes": [str(n) for n in range(3, 11)]}
    assert list(found.outcome.classes) == [str(n) for n in range(3, 11)]
    assert sum(found.outcome.classes.values()) == ROWS


@pytest.mark.parametrize(
    "label",
    [CHANCE.normal(size=ROWS), CHANCE.integers(0, 10**6, ROWS), CHANCE.integers(0, 300, ROWS)],
)
def test_many_numbers_are_a_regression(tmp_path: Path, label: Sequence[float]) -> None:
    found = propose_for(tmp_path, label)
    assert found.target == {"task": "regression"}
    assert load(found, tmp_path).contract.label_type == pa.float64()
    assert {name: uses(found)[name] for name in ("size", "kind", "echo")} == {
        "size": "feature", "kind": "feature", "echo": "suspect",
    }  # fmt: skip


def test_numbers_are_read_as_the_file_writes_them(tmp_path: Path) -> None:
    written = [f"{value:,.2f}" for value in np.exp(NOISE + 8)]
    found = propose_for(tmp_path, written)
    assert found.target == {"task": "regression"}
    assert found.inline.numbers["outcome"] == "1,234.5"
    config = load(found, tmp_path)
    assert config.source.inline == found.inline


def test_a_column_that_knows_a_class_is_a_suspect_and_says_which(tmp_path: Path) -> None:
    found = propose_for(tmp_path, COLOURS)
    assert uses(found)["echo"] == "suspect"
    (echo,) = [guess for guess in found.guesses if guess.name == "echo"]
    assert "(class " in echo.why[0]


def test_lists_are_kept_whole_and_only_asked_for(tmp_path: Path) -> None:
    relevance = CHANCE.integers(0, 5, ROWS)
    assert propose_for(tmp_path, relevance).outcome.task == "multiclass"
    found = propose_for(tmp_path, relevance, task="ranking", group="Query")
    assert found.target == {"task": "ranking", "group": "query"}
    config = load(found, tmp_path)
    assert (config.contract.group, config.training.split.by) == ("query", "entity")
    assert config.contract.by_name["query"].feature is False


def test_a_task_can_be_asked_for(tmp_path: Path) -> None:
    whole = CHANCE.integers(0, 5, ROWS)
    assert propose_for(tmp_path, whole, task="regression").target == {"task": "regression"}
    assert propose_for(tmp_path, whole % 2, task="multiclass").outcome.classes.keys() == {"0", "1"}
    assert propose_for(tmp_path, whole % 2).outcome.task == "binary"


@pytest.mark.parametrize(
    ("label", "asked", "said"),
    [
        (COLOURS, {"task": "regression"}, "outcome is no number"),
        (COLOURS, {"task": "binary"}, "labels are binary: say which"),
        (COLOURS, {"task": "ranking"}, "name --task ranking and --group together"),
        (COLOURS, {"group": "query"}, "name --task ranking and --group together"),
        (COLOURS, {"task": "ranking", "group": "qeury"}, "group: .* did you mean query"),
        (NOISE, {"task": "multiclass"}, "takes 2 to"),
        ([f"word {i % 200}" for i in range(ROWS)], {}, "has 200 different values"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    tmp_path: Path, label: Sequence[object], asked: dict[str, str], said: str
) -> None:
    with pytest.raises(LabelRefused, match=said):
        propose_for(tmp_path, label, **asked)


def test_what_is_proposed_reads_the_labels_that_were_counted(tmp_path: Path) -> None:
    found = propose_for(tmp_path, COLOURS)
    config = load(found, tmp_path)
    shape = Inline(config.contract, found.inline, lambda: SecretBytes(b"k" * 32), AT)
    block = next(iter(found.survey.blocks()))
    rows = Rows(block, np.arange(block.num_rows), [], "digest")
    judged = validate_labels(shape.outcomes(rows, "a").table, contract=config.contract)
    counts = np.bincount(judged.accepted["label"].to_numpy())
    assert dict(zip(config.contract.classes, counts.tolist(), strict=True)) == found.outcome.classes
