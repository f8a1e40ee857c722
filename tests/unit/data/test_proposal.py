"""A stranger's table: what is proposed loads, fits the table, and says why."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.config import Config, load_config
from app.data.files import SourceError
from app.data.outcomes import LabelRefused
from app.data.proposal import Proposal, propose
from app.data.proposal_yaml import write_yaml
from app.data.survey import survey
from app.data.trial import Trial, example_row, try_out

AT = datetime(2026, 3, 1, tzinfo=UTC)
ROWS = 400


def orders(rows: int = ROWS, seed: int = 3) -> dict[str, Any]:
    """A shop's orders: every kind of column that people have."""
    chance = np.random.default_rng(seed)
    label = chance.random(rows) < 0.3
    start = datetime(2024, 1, 1)
    return {
        "Order ID": [f"A{i:05d}" for i in range(rows)],
        "Order Date": [f"{start + timedelta(days=i // 4):%d.%m.%Y}" for i in range(rows)],
        "E-Mail": [f"person{i % 90}@example.org" for i in range(rows)],
        "Customer ID": [f"C{i % 90}" for i in range(rows)],
        "Age": chance.integers(18, 80, rows).astype(str),
        "Total": [f"{v:,.2f}" for v in chance.lognormal(6, 1.5, rows)],
        "Country": chance.choice(["IT", "FR", "DE"], rows),
        "ZIP": [f"0{chance.integers(1000, 1020)}" for _ in range(rows)],
        "Currency": ["EUR"] * rows,
        "Refund Date": [f"{start + timedelta(days=9 + i // 4):%d.%m.%Y}" if y else "NA"
                        for i, y in enumerate(label)],
        "Returned Reason": ["broken" if y else "NA" for y in label],
        "Score": np.where(label, "9", "1"),
        "Notes": [f"please ring twice at the door number {i}, thank you" for i in range(rows)],
        "Returned": np.where(label, "Yes", "no"),
    }  # fmt: skip


def write(folder: Path, columns: dict[str, Any], delimiter: str = ",") -> Path:
    file = folder / "orders.csv"
    table = pa.table(
        {name: pa.array(list(values), pa.string()) for name, values in columns.items()}
    )
    pacsv.write_csv(table, file, pacsv.WriteOptions(delimiter=delimiter))
    return file


def load(proposal: Proposal, folder: Path) -> Config:
    file = folder / "proposed.yaml"
    file.write_text(write_yaml(proposal, str(folder / "workspace")))
    return load_config(file)


def uses(proposal: Proposal) -> dict[str, str]:
    return {guess.name: guess.use for guess in proposal.guesses}


@pytest.fixture
def shop(tmp_path: Path) -> Proposal:
    return propose(survey(write(tmp_path, orders())), "returned", "shop")


def test_each_column_gets_its_part_and_every_guess_says_why(shop: Proposal) -> None:
    assert uses(shop) == {
        "order_id": "id",
        "order_date": "time",
        "e_mail": "kept",
        "customer_id": "entity",
        "age": "feature",
        "total": "feature",
        "country": "feature",
        "zip": "feature",
        "currency": "ignored",
        "refund_date": "suspect",
        "returned_reason": "suspect",
        "score": "suspect",
        "notes": "ignored",
    }
    assert all(guess.why and all(guess.why) for guess in shop.guesses)
    columns = {column.name: column for column in shop.columns}
    assert columns["e_mail"].privacy == "personal"
    assert columns["age"].privacy == columns["zip"].privacy == "quasi"
    assert columns["country"].categories == ("DE", "FR", "IT")
    assert columns["zip"].kind == "category"
    assert shop.inline.numbers == {"total": "1,234.5"}
    assert shop.inline.times["order_date"].format == "%d.%m.%Y"
    assert shop.inline.nulls == ("NA",)
    assert (shop.outcome.positive, shop.outcome.negative) == (("Yes",), ("no",))


def test_suspects_are_no_features_and_need_not_be_sent(shop: Proposal, tmp_path: Path) -> None:
    config = load(shop, tmp_path)
    suspects = [name for name, use in uses(shop).items() if use == "suspect"]
    assert {f.name for f in config.contract.features}.isdisjoint(suspects)
    assert all(config.contract.by_name[name].nullable for name in suspects)
    sent = example_row(config, shop.survey, AT)
    assert set(sent) == {"order_id", "order_date", "customer_id", "age", "total", "country", "zip"}


def test_what_is_proposed_loads_and_takes_every_row(shop: Proposal, tmp_path: Path) -> None:
    config = load(shop, tmp_path)
    assert write_yaml(shop, "w").count("\n") <= 40
    assert try_out(config, shop.survey, AT) == Trial(ROWS, ROWS, 0, ())
    assert config.training.split.by == "day"
    assert config.contract.entity == "customer_id"
    assert config.contract.columns == shop.columns
    assert config.source.inline == shop.inline


def test_a_table_without_id_and_time_gets_both_on_arrival(tmp_path: Path) -> None:
    kept = {name: orders()[name] for name in ("Age", "Total", "Country", "Returned")}
    proposal = propose(survey(write(tmp_path, kept, ";")), "Returned", "shop")
    config = load(proposal, tmp_path)
    assert config.contract.generated == ("row_id", "arrived_at")
    assert config.training.split.by == "id"
    assert config.source.delimiter == ";"
    assert try_out(config, proposal.survey, AT).num_accepted == ROWS


def test_types_of_parquet_are_taken_as_they_are(tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    file = tmp_path / "t.parquet"
    table = pa.table(
        {
            "when": pa.array([datetime(2024, 1, 1) + timedelta(hours=5 * i) for i in range(300)]),
            "flag": pa.array(chance.random(300) < 0.5),
            "amount": pa.array(chance.normal(0, 50, 300)),
            "tags": pa.array([["a"]] * 300),
            "label": pa.array(chance.integers(0, 2, 300)),
        }
    )
    pq.write_table(table, file, row_group_size=64)
    proposal = propose(survey(file), "label", "typed")
    config = load(proposal, tmp_path)
    assert uses(proposal) == {
        "when": "time", "flag": "feature", "amount": "feature", "tags": "ignored",
    }  # fmt: skip
    assert config.contract.by_name["flag"].categories == ("false", "true")
    assert try_out(config, proposal.survey, AT).num_accepted == 300


def test_a_person_s_values_are_in_no_comment_and_no_setting(tmp_path: Path) -> None:
    columns = orders()
    columns["Date of Birth"] = ["03.04.1980"] * ROWS
    columns["Name"] = [f"Smith{i % 7}, Anna" for i in range(ROWS)]
    text = write_yaml(propose(survey(write(tmp_path, columns)), "Returned", "s"), "w")
    assert not any(value in text for value in ("1980", "Smith", "Anna", "@example"))


def test_a_file_s_own_texts_cannot_break_out_of_their_line(tmp_path: Path) -> None:
    columns = orders()
    columns['evil: {#"\n- x'] = ["a\nname: evil", "#]}"] * (ROWS // 2)
    columns["Returned"] = np.where(np.arange(ROWS) % 3 == 0, 'on: "\n', "no # ]")
    proposal = propose(survey(write(tmp_path, columns)), "Returned", "shop")
    config = load(proposal, tmp_path)
    assert config.name == "shop"
    assert try_out(config, proposal.survey, AT).num_accepted == ROWS


cell = st.one_of(
    st.none(),
    st.integers(-(2**53), 2**53).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(
        ["", "NA", "yes", "no", "true", "?", "-", "1,5", "$3", "2024-01-01", "01/02/03"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=12),
)
name = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=10)


@given(
    st.dictionaries(name, st.lists(cell, min_size=1, max_size=8), min_size=1, max_size=4),
    st.integers(0, 2**16),
)
@settings(
    deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_a_table_holds_the_proposal_loads_and_no_row_is_lost(
    tmp_path: Path, pools: dict[str, list[str | None]], seed: int
) -> None:
    places = np.random.default_rng(seed).integers(0, 8, 60)
    columns: dict[str, Any] = {
        f"c{key}": [pool[place % len(pool)] for place in places] for key, pool in pools.items()
    }
    columns["the label"] = [str(i % 2) for i in range(60)]
    found = survey(write(tmp_path, columns))
    proposal = propose(found, "the label", "any")
    trial = try_out(load(proposal, tmp_path), found, AT)
    assert trial.num_in == 60
    assert 0 <= trial.num_accepted <= 60
    assert (
        trial.num_accepted + sum(number for _, number in trial.reasons) + trial.num_repeated >= 60
    )


def test_a_wide_table_takes_a_line_for_every_column(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    columns: dict[str, Any] = {f"f{i}": chance.normal(size=ROWS).astype(str) for i in range(30)}
    columns["y"] = chance.integers(0, 2, ROWS).astype(str)
    text = write_yaml(propose(survey(write(tmp_path, columns)), "y", "wide"), "w")
    assert text.count("\n") == 40
    assert len(yaml.safe_load(text)["contract"]["columns"]) == 32


@pytest.mark.parametrize(
    ("values", "asked", "said"),
    [
        (["1"] * 6, "y", "y is 1 in every row"),
        ([""] * 6, "y", "empty in every row"),
        (["a", "b", "c"] * 2, "y", r"3 different values: a \(2\), b \(2\), c \(2\).*--positive a"),
        (["0", "1"] * 3, "yy", "did you mean y"),
        (["0", "1"] * 3, "quite other", "there are x, y"),
    ],
)
def test_a_label_that_cannot_be_learned_is_refused_in_words(
    tmp_path: Path, values: list[str], asked: str, said: str
) -> None:
    file = write(tmp_path, {"x": list("abcdef"), "y": values})
    with pytest.raises(LabelRefused, match=said):
        propose(survey(file), asked, "m")


def test_one_value_of_many_can_be_the_outcome(tmp_path: Path) -> None:
    file = write(tmp_path, {"x": list("abcdef"), "y": ["a", "b", "c"] * 2})
    outcome = propose(survey(file), "y", "m", ["b"]).outcome
    assert (outcome.positive, outcome.negative) == (("b",), ("a", "c"))
    with pytest.raises(LabelRefused, match="y is never z"):
        propose(survey(file), "y", "m", ["z"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"a,b\n", "columns and no rows"),
        (b"a,a\n1,2\n", "columns called a stand more than once"),
        (b"1.5,2.5,yes\n1,2,3\n", "the first line holds values"),
        ("a,b\n1,größe\n".encode("latin-1"), "not UTF-8; save it as UTF-8"),
        (b"a,b\n" + b"1,x\n" * 200_000 + b"1,\xff\n", "not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_words(
    tmp_path: Path, content: bytes, said: str
) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes(content)
    with pytest.raises(SourceError, match=said):
        survey(file)


def test_a_missing_file_a_folder_and_an_unknown_ending_are_refused(tmp_path: Path) -> None:
    (tmp_path / "table.xlsx").write_bytes(b"PK")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and nothing more")
    for path, said in (
        ("none.csv", "no such file"),
        ("", "this is a folder"),
        ("table.xlsx", ".xlsx is not known"),
        ("cut.parquet", "cannot be read as parquet"),
    ):
        with pytest.raises(SourceError, match=said):
            survey(tmp_path / path)


def test_the_sample_is_bounded_even_and_the_same_again(tmp_path: Path) -> None:
    file = write(tmp_path, {"x": [str(i) for i in range(20_000)], "y": ["0", "1"] * 10_000})
    first, second = survey(file, sample_rows=500), survey(file, sample_rows=500)
    drawn = [int(text) for text in first.sample["x"].to_pylist()]
    assert first.num_rows == 20_000
    assert len(drawn) == 500
    assert drawn == sorted(drawn)
    assert 8_000 < np.mean(drawn) < 12_000
    assert first.sample.equals(second.sample)


def test_broken_lines_are_counted_and_said(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    lines = [f"{i},{i % 2}" for i in range(100)] + ["1,2,3", "4"]
    file.write_text("x,y\n" + "\n".join(lines) + "\n")
    proposal = propose(survey(file), "y", "m", ["1"])
    assert proposal.survey.num_broken == 2
    assert any("2 lines" in note for note in proposal.notes)
    trial = try_out(load(proposal, tmp_path), proposal.survey, AT)
    assert (trial.num_in, trial.num_accepted) == (102, 100)
