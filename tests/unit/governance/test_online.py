"""Erasing reaches the online store: no byte is left, and all values are those of what remains."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow.compute as pc
import pytest

from app.data.snapshots import load_snapshot, snapshot_rows
from app.data.storefile import StoreBusy
from app.governance.eraser import Eraser
from app.governance.online import WindowStore
from app.governance.verification import verify_receipt
from app.governance.working import ErasureBlocked
from app.governance.workplace import Workplace
from app.ledger.erasures import read_reductions
from app.serving.upkeep import online_path
from tests.erasure_world import NOW, START, customer, hits, tokens_of
from tests.online_world import Online

ERASED = {3, 4, 7}


@pytest.fixture(params=["plain", "sealed"])
def online(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Online]:
    made = Online(tmp_path / "workspace", sealed=request.param == "sealed")
    yield made
    made.close()


def erase(online: Online, subjects: set[int] = ERASED) -> object:
    return Eraser(online.place, lambda: NOW).erase(customer(s) for s in subjects).receipt


def test_no_byte_of_the_erased_is_left_and_values_are_those_of_what_remains(
    online: Online,
) -> None:
    tokens = tokens_of(online.world, ERASED)
    assert "online" in {name.split("/")[0] for name, _ in hits(online.world, tokens)}
    stale = online.values(NOW)[0].to_pylist()
    receipt = Eraser(online.place, lambda: NOW).erase(map(customer, ERASED)).receipt
    assert hits(online.world, tokens) == []
    assert receipt.verified
    assert receipt.counts["online"] >= 12
    for moment in (START + timedelta(days=40), NOW):
        ours, history = online.values(moment)
        assert ours.to_pylist() == history.to_pylist()
    assert ours["people"].null_count == 0
    assert max(ours["people"].to_pylist()) < max(row["people"] for row in stale)  # type: ignore[type-var]
    # What others had captured came in with the erasure; the store goes on with the tables.
    assert online.upkeep.tick()
    ours, history = online.values(NOW)
    assert ours.to_pylist() == history.to_pylist()
    assert hits(online.world, tokens) == []
    assert verify_receipt(online.place, receipt.id, map(customer, ERASED)).problems == ()


def test_a_reduced_snapshot_has_the_windows_of_what_remains(online: Online) -> None:
    dataset = online.world.datasets[-1]
    whole = load_snapshot(online.tables, online.contract, dataset)
    erase(online)
    reductions = read_reductions(online.world.ledger, "orders")
    rows = load_snapshot(online.tables, online.contract, dataset, reductions)
    assert rows.num_rows < whole.num_rows
    place = pc.index_in(rows["order"], value_set=whole["order"].combine_chunks())
    before = whole.take(place)
    # The history of others is their own; what was shared with the erased is counted without them.
    assert rows["orders"].to_pylist() == before["orders"].to_pylist()
    assert rows["people"][-1].as_py() < before["people"][-1].as_py()
    plain = snapshot_rows(online.tables, online.contract, dataset)
    assert rows.select(plain.column_names).equals(plain)


def test_a_store_that_was_never_made_is_not_made_by_looking(tmp_path: Path) -> None:
    online = Online(tmp_path / "workspace")
    online.store.close()
    for path in (tmp_path / "workspace" / "online").iterdir():
        path.unlink()
    erase(online)
    assert not online_path(online.config).exists()
    online.world.ledger.close()


def test_a_former_declaration_that_names_somebody_goes(online: Online) -> None:
    fewer = online.contract.model_copy(update={"windows": online.contract.windows[:2]})
    config = online.config.model_copy(update={"contract": fewer})
    place = Workplace(config, online.world.ledger, online.tables, online.world.tombstones)
    former = online_path(online.config)
    receipt = Eraser(place, lambda: NOW).erase([customer(3)]).receipt
    assert receipt.counts["online"] > 0
    assert receipt.verified
    assert not former.exists()


def test_a_former_declaration_that_names_nobody_of_them_stays(online: Online) -> None:
    fewer = online.contract.model_copy(update={"windows": online.contract.windows[:2]})
    config = online.config.model_copy(update={"contract": fewer})
    nobody = online.world.tombstones.having({("subject", "0" * 32)})
    assert WindowStore(config).count(nobody) == 0
    WindowStore(config).forget(nobody)
    assert online_path(online.config).exists()


def test_a_former_declaration_that_nobody_can_open_goes(tmp_path: Path) -> None:
    online = Online(tmp_path / "workspace", sealed=True)
    online.store.close()
    online.world.ledger.close()
    former = online_path(online.config)
    former.with_suffix(".key").unlink()
    fewer = online.contract.model_copy(update={"windows": online.contract.windows[:2]})
    store = WindowStore(online.config.model_copy(update={"contract": fewer}))
    nobody = online.world.tombstones
    assert store.count(nobody) == len(list(former.parent.iterdir()))
    store.forget(nobody)
    assert store.count(nobody) == 0
    assert list(former.parent.iterdir()) == []


def test_a_file_that_others_keep_busy_blocks_the_erasure_which_resumes(
    online: Online, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(store: WindowStore, erased: object) -> None:
        raise StoreBusy("orders.sqlite: in use for 30 s; forget again later")

    with monkeypatch.context() as patch:
        patch.setattr(WindowStore, "forget", busy)
        with pytest.raises(ErasureBlocked, match=r"run jobs\.erase --resume"):
            erase(online)
    resumed = Eraser(online.place, lambda: NOW).resume(map(customer, ERASED))
    assert resumed is not None
    assert resumed.receipt.verified
    assert hits(online.world, tokens_of(online.world, ERASED)) == []
