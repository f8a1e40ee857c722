"""jobs.card: which version, from which records, into which files."""

import json
from pathlib import Path

import pytest

from app.ledger.database import Ledger, open_ledger
from app.registry.artifacts import Artifacts
from app.registry.choosing import choose_version
from app.registry.store import register_version
from jobs.card import run
from tests.card_world import card_config, fitted, reported, version


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Ledger]:
    config = card_config(tmp_path)
    fitted().bundle.save(tmp_path / "bundle")
    config.artifacts_path.mkdir()
    Artifacts(config.artifacts_path).put(tmp_path / "bundle")
    ledger = open_ledger(config.ledger_url)
    register_version(ledger, version(config))
    yield tmp_path, ledger
    ledger.close()


def test_the_card_of_a_run_with_a_report_shows_it(world: tuple[Path, Ledger]) -> None:
    workspace, ledger = world
    config = card_config(workspace)
    folder = workspace / "runs" / "first"
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text(reported().model_dump_json())
    chosen = choose_version(ledger, "orders", or_latest=True)
    record = run(config, ledger, chosen, Path("orders.yaml"))
    assert (record["reported"], record["gated"], record["role"]) == (True, False, "none")
    assert Path(str(record["page"])).parent == workspace / "reports" / "cards"
    assert "Calibration" in Path(str(record["page"])).read_text()
    json.dumps(record)


def test_without_a_report_the_card_says_so(world: tuple[Path, Ledger]) -> None:
    workspace, ledger = world
    found = choose_version(ledger, "orders", fitted().bundle.digest[:8])
    record = run(card_config(workspace), ledger, found, Path("orders.yaml"))
    assert record["reported"] is False
    assert "No report lies" in Path(str(record["markdown"])).read_text()


@pytest.mark.parametrize("prefix", ["ffffffff", "", "a"])
def test_an_unknown_or_short_prefix_is_refused_with_those_known(
    world: tuple[Path, Ledger], prefix: str
) -> None:
    with pytest.raises(ValueError, match=fitted().bundle.digest[:12]):
        choose_version(world[1], "orders", prefix)


def test_without_any_version_the_way_to_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"run jobs\.train first"):
        choose_version(open_ledger(f"sqlite:///{tmp_path / 'l.sqlite'}"), "orders", None)
