"""The end of a replay: answers joined with comparators, as table, page and record."""

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console

from app.config import Config, load_config
from app.console.replay import Tally
from app.console.scoreboard import make_record, render_table, served_scoreboard, write_outcome
from app.contracts.rows import TIMESTAMP
from app.ledger.database import open_ledger
from app.loop.comparators import write_scores
from app.loop.rehearsal import Scoreboard
from tests.unit.console.reports import board, report

ROOT = Path(__file__).resolve().parents[3]
IDS = ["a", "b", "c", "d", "e"]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config(ROOT / "configs" / "flights.yaml", [f"workspace={tmp_path}"])


@pytest.fixture
def scored(config: Config) -> Config:
    """A workspace in which jobs.rehearse scored four rows."""
    scores = pa.table(
        {
            "row_id": IDS[:4],
            "month": ["2013-04", "2013-04", "2013-05", "2013-05"],
            "label": pa.array([0, 1, 0, 1], pa.int8()),
            "static": [0.4, 0.3, 0.1, 0.9],
        }
    )
    write_scores(config, scores)
    return config


def shown(thing: object) -> str:
    out = io.StringIO()
    Console(file=out, width=100).print(thing)
    return out.getvalue()


def test_the_table_has_a_row_a_policy_and_the_mean(tmp_path: Path):
    text = shown(render_table(board()))

    loop = next(line for line in text.splitlines() if "loop" in line)
    assert loop.split() == ["loop", ".650", ".715", ".705", ".690"]
    assert "late share" in text
    assert "Apr" in text


def test_the_table_of_nine_months_fits_80_columns():
    nine = board({"static": (0.7,) * 9, "loop": (0.7,) * 9})
    out = io.StringIO()
    Console(file=out, width=200).print(render_table(nine))

    assert max(len(line.rstrip()) for line in out.getvalue().splitlines()) <= 80


def test_the_record_has_what_programs_read():
    record = make_record(report(failed=2))

    assert record["months"] == ["2013-04", "2013-05", "2013-06"]
    assert record["auc"]["loop"] == [0.65, 0.715, 0.705]  # type: ignore[index]
    counted = {
        name: record[name] for name in ("retrainings", "refusals", "promotions", "rollbacks")
    }
    assert counted == {"retrainings": 2, "refusals": 1, "promotions": 1, "rollbacks": 1}
    assert (record["requests"], record["failed"]) == (321, 2)


def test_the_loop_is_scored_by_what_the_endpoint_answered(scored: Config):
    served = dict(zip(IDS, [0.1, 0.9, 0.9, 0.1, 0.5], strict=True))

    result = served_scoreboard(scored, served)

    assert result.table("roc_auc") == {"static": [0.0, 1.0], "loop": [1.0, 0.0]}


def test_a_row_that_got_no_answer_is_left_out_for_every_policy_and_counted(scored: Config):
    result = served_scoreboard(scored, {"a": 0.1, "b": 0.9, "c": 0.9})

    assert (result.num_rows, result.num_left_out) == (3, 1)
    assert {one.months[-1].num_rows for one in result.policies} == {1}


def test_without_scored_rows_the_message_says_what_to_run(config: Config):
    with pytest.raises(ValueError, match=r"run python -m jobs\.rehearse"):
        served_scoreboard(config, {})


def test_the_outcome_counts_source_rows_that_nobody_could_compare(scored: Config):
    # Row e has an outcome and is no scored row (quarantined); row f lies before production.
    lead = timedelta(minutes=60)
    asked = [datetime(2013, 4, 2, tzinfo=UTC)] * 5 + [datetime(2013, 3, 31, 23, tzinfo=UTC)]
    rows = pa.table(
        {
            "flight_id": [*IDS, "f"],
            "scheduled_departure": pa.array([at + lead for at in asked], TIMESTAMP),
        }
    )
    outcomes = pa.array([0, 1, 0, 1, 1, 1], pa.int8())
    labels = pa.table({"row_id": [*IDS, "f"], "label": outcomes})
    tally = Tally(requests=9, rows=5, probability=dict.fromkeys(IDS, 0.5))
    ledger = open_ledger(scored.ledger_url)

    result = write_outcome(scored, ledger, rows, labels, tally, 12.34)
    ledger.close()

    assert result.record["rows_compared"] == 4
    assert result.record["rows_left_out"] == 1
    assert result.record["seconds"] == 12.3
    kept = Scoreboard.model_validate_json((scored.workspace / "scoreboard.json").read_bytes())
    assert [one.policy for one in kept.policies] == ["static", "loop"]
    assert result.page.read_text().startswith("<!doctype html>")
