"""jobs.explain: the logged row, by the version that scored it, as a record and as a page."""

import json
from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from app.config import Config
from app.ledger.clock import drive_clock
from app.serving.explain_messages import Explained
from jobs.explain import run
from tests.serving_world import AT, make_rows
from tests.unit.serving.conftest import World, open_world


@pytest.fixture
def world(flights: Config) -> Iterator[World]:
    with open_world(flights) as made:
        made.promote(seed=1)
        yield made


def serve(world: World, **changes: object) -> dict[str, float]:
    """Score two rows, ship them, and give their probabilities by row id."""
    rows = [row | changes for row in make_rows(world.config.contract, 2)]
    answer = world.client.post("/v1/flights/predict", json={"rows": rows}).json()
    world.replica.ship()
    return {one["row_id"]: one["probability"] for one in answer["predictions"]}


def test_a_logged_prediction_is_explained_by_the_version_that_made_it(
    world: World, tmp_path: Path
) -> None:
    first, served = world.champion, serve(world)
    world.promote(seed=2)
    record = run(world.config, world.ledger, "row-1", tmp_path / "why.html")
    assert record["version"] == first
    assert record["logged"] == served["row-1"]
    assert record["agrees"] is True
    one = Explained.model_validate(record["explanation"])
    assert one.probability == pytest.approx(served["row-1"], abs=1e-6)
    assert abs(one.residual) <= one.tolerance
    json.dumps(record)


def test_of_a_row_that_was_scored_again_the_last_time_counts(world: World) -> None:
    drive_clock(world.ledger, world.config, now=AT)
    again = serve(world, distance=4000.0)
    second = world.promote(seed=2)
    drive_clock(world.ledger, world.config, now=AT + timedelta(seconds=1))
    last = serve(world, distance=90.0)
    record = run(world.config, world.ledger, "row-0", None)
    assert record["version"] == second
    assert record["logged"] == last["row-0"] != again["row-0"]
    told = {each["column"]: each["value"] for each in record["explanation"]["attributions"]}  # type: ignore[index]
    assert told["distance"] == 90.0


def test_the_page_shows_every_column_and_runs_nothing(world: World, tmp_path: Path) -> None:
    serve(world, plane_manufacturer="<script>alert(1)</script>")
    run(world.config, world.ledger, "row-0", tmp_path / "why.html")
    text = (tmp_path / "why.html").read_text()
    tags: list[str] = []
    reader = HTMLParser()
    reader.handle_starttag = lambda tag, attributes: tags.append(tag)  # type: ignore[method-assign]
    reader.feed(text)
    assert "svg" in tags
    assert "script" not in tags
    assert "&lt;script&gt;" in text
    for column in world.config.contract.features:
        assert f"<td>{column.name}</td>" in text
    assert "21 other columns" in text


def test_a_row_that_was_not_scored_is_refused(world: World) -> None:
    serve(world)
    with pytest.raises(ValueError, match="row nobody: no prediction of it is logged"):
        run(world.config, world.ledger, "nobody", None)
