"""A version that hangs while it is loaded holds nobody up, and is not loaded twice meanwhile."""

import threading

import pytest

from app.config import Config
from app.contracts.records import Roles
from app.serving.loading import Loading, StillLoading
from app.serving.residents import HANGS_SECONDS, Residents
from tests.serving_world import make_bundle


class Gated:
    """Loads a version once its gate is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.loads: list[str] = []

    def load(self, digest: str) -> str:
        self.loads.append(digest)
        if digest.startswith("slow"):
            self.gate.wait(60)
        if digest.endswith("bad"):
            raise TimeoutError("the store did not answer")
        return digest


def get_when_there(loading: Loading[str], digest: str) -> str:
    for _ in range(1000):
        try:
            return loading.get(digest)
        except StillLoading:
            threading.Event().wait(0.01)
    raise AssertionError("it was never loaded")


def test_what_is_slow_is_loaded_once_and_given_when_it_is_there() -> None:
    gated = Gated()
    loading = Loading(gated.load, patience_seconds=0.05)
    for _ in range(3):
        with pytest.raises(StillLoading):
            loading.get("slow")
    assert loading.get("quick") == "quick"

    gated.gate.set()

    assert get_when_there(loading, "slow") == "slow"
    assert gated.loads == ["slow", "quick"]


def test_a_time_out_of_the_load_itself_is_an_error_and_not_a_wait() -> None:
    loading = Loading(Gated().load, patience_seconds=60)
    with pytest.raises(TimeoutError, match="did not answer"):
        loading.get("bad")
    with pytest.raises(TimeoutError, match="did not answer"):
        loading.get("bad")


def test_a_hanging_version_neither_answers_nor_keeps_others_from_it(flights: Config) -> None:
    contract, gated = flights.contract, Gated()

    def load(digest: str) -> object:
        gated.load(digest)
        return make_bundle(contract, seed=1)

    def roles(generation: int, champion: str, previous: str | None = None) -> Roles:
        return Roles(model="m", generation=generation, champion=champion, previous=previous)

    residents = Residents(contract, load)  # type: ignore[arg-type]
    residents.advance(roles(1, "a"), 0.0)
    residents.advance(roles(2, "slow", previous="a"), 1.0)
    assert residents.current is not None
    assert residents.current.roles.generation == 1
    assert residents.problems == {}

    residents.advance(roles(2, "slow", previous="a"), 1.0 + HANGS_SECONDS)
    assert "not loaded" in residents.problems["slow"]

    # The way back does not wait for what hangs.
    residents.advance(roles(3, "a", previous="slow"), 2.0 + HANGS_SECONDS)
    assert residents.current.roles.generation == 3
    assert set(residents.current.bundles) == {"a"}
    assert gated.loads == ["a", "slow"]
    gated.gate.set()
