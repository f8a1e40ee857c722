"""Who answers beside the champion, told from the command line and awaited at every replica."""

import json
import time
from datetime import timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from app.config import Config, load_config, show_config
from app.contracts.records import LoopState
from app.ledger.database import Ledger, open_ledger
from app.ledger.decisions import complete_decision, read_decisions
from app.ledger.states import write_state
from app.registry.replicas import acknowledge
from app.registry.store import read_roles
from jobs.roles import Wanted, arranged, main
from tests.serving_world import AT, give_roles, put_version

FILE = Path(__file__).resolve().parents[3] / "configs" / "flights.yaml"


class Shop:
    """A champion, two versions beside it, and a way to run the job."""

    def __init__(self, folder: Path) -> None:
        self.config: Config = load_config(FILE, [f"workspace={folder / 'w'}", "clock=wall"])
        self.ledger: Ledger = open_ledger(self.config.ledger_url)
        self.first, self.second, self.third = (
            put_version(self.config, self.ledger, seed) for seed in (1, 2, 3)
        )
        promoted = give_roles(self.ledger, "flights", self.first).decision
        with self.ledger.transaction() as connection:
            complete_decision(connection, str(promoted), {"status": "done"})
            write_state(connection, LoopState(model="flights", sequence=1))
        self.file = folder / "flights.yaml"
        self.file.write_text(show_config(self.config))

    def run(self, *words: str) -> tuple[int, str]:
        app = typer.Typer()
        app.command()(main)
        done = CliRunner().invoke(app, ["--config", str(self.file), *words])
        return done.exit_code, done.output

    def replica(self, *resident: str, generation: int = 99, **problems: str) -> None:
        """Let a replica say that it holds versions, and what it cannot load."""
        acknowledge(
            self.ledger, "flights", "r1", generation, resident, time.time(), problems or None
        )


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def record(said: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(said.strip().splitlines()[-1])
    return found


def test_a_challenger_gets_a_share_and_a_shadow_looks_on(shop: Shop) -> None:
    shop.replica(shop.first, shop.second, shop.third)
    code, said = shop.run(
        *("--challenger", shop.second[:8], "--share", "0.2", "--holdout", "0.1"),
        *("--shadow", shop.third[:8]),
    )
    assert code == 0, said
    roles = read_roles(shop.ledger, "flights")
    assert (roles.champion, roles.challenger, roles.shadow) == (
        *(shop.first, shop.second),
        shop.third,
    )
    assert (roles.shares.challenger, roles.shares.holdout) == (0.2, 0.1)
    assert record(said) == {"roles": roles.model_dump(mode="json"), "problems": []}
    assert "1 of 1 replicas" in said
    (reasons,) = [each.action.reasons for each in read_decisions(shop.ledger, "flights")[-1:]]
    assert (
        reasons[1] == "challenger 20.0% of entities, hold-out 10.0%, exploration 0.0% of requests"
    )

    code, said = shop.run("--challenger", "none", "--shadow", "none")
    assert code == 0, said
    assert read_roles(shop.ledger, "flights").model_dump(exclude={"generation", "decision"}) == {
        "model": "flights",
        "champion": shop.first,
        "previous": None,
        "challenger": None,
    }


def test_without_a_wish_nothing_is_changed(shop: Shop) -> None:
    before = read_roles(shop.ledger, "flights")
    code, said = shop.run()
    assert code == 0, said
    assert read_roles(shop.ledger, "flights") == before
    assert record(said)["roles"] == before.model_dump(mode="json")


def test_a_replica_that_cannot_load_it_is_told_and_ends_the_job_with_one(shop: Shop) -> None:
    shop.replica(shop.first, **{shop.second: "altered"})
    code, said = shop.run("--challenger", shop.second[:8], "--share", "0.5")
    assert code == 1
    assert record(said)["problems"] == ["replica r1 cannot load it: altered"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--share", "0.5"], "need a champion and a challenger"),
        (["--challenger", "ffffffff"], "has none of that digest"),
        (["--challenger", "SECOND", "--share", "0.7", "--holdout", "0.4"], "lower one of them"),
        (["--challenger", "FIRST"], "two parts"),
    ],
)
def test_a_wish_that_cannot_be_changes_nothing(shop: Shop, words: list[str], says: str) -> None:
    known = {"SECOND": shop.second, "FIRST": shop.first}
    before = read_roles(shop.ledger, "flights")
    code, said = shop.run(*(known.get(word, word) for word in words))
    assert code == 2
    assert says in " ".join(said.split())
    assert read_roles(shop.ledger, "flights") == before


def test_a_ramp_begins_where_the_share_is_and_ends_with_its_challenger(shop: Shop) -> None:
    before = read_roles(shop.ledger, "flights")
    first = arranged(
        shop.ledger, before, Wanted(challenger=shop.second, share=0.4, over_minutes=10), AT
    )
    later = AT + timedelta(minutes=5)
    assert first.shares.challenger_at(later) == pytest.approx(0.2)
    further = arranged(shop.ledger, first, Wanted(share=0.6, over_minutes=10), later)
    assert further.shares.challenger_at(later) == pytest.approx(0.2)
    assert further.shares.challenger_at(later + timedelta(minutes=10)) == pytest.approx(0.6)
    kept = arranged(shop.ledger, further, Wanted(holdout=0.1), later)
    assert (kept.shares.ramp, kept.shares.holdout) == (further.shares.ramp, 0.1)
    other = arranged(shop.ledger, kept, Wanted(challenger=shop.third), later)
    assert other.shares.challenger_at(later) == 0.0
