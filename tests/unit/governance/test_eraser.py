"""Erasing: nothing of the erased is left, nothing of others changed, wherever it is cut off."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable

from app.contracts.erasure import ErasureReceipt
from app.data.forgetting import about_erased
from app.data.reductions import subtract_digests
from app.data.snapshots import (
    SnapshotAltered,
    digest_rows,
    load_snapshot,
    snapshot_rows,
    take_snapshot,
)
from app.data.tables import NAMES, open_tables
from app.governance import eraser
from app.governance.erasure import steps_of
from app.governance.needles import Needles
from app.governance.stores import SpoolStore
from app.governance.verification import verify_receipt
from app.ledger import journal
from app.ledger.database import open_ledger
from app.ledger.erasures import ErasureUnknown, read_reductions, read_tombstones
from app.ledger.evidence import read_fold
from app.registry.marks import erased_versions
from app.registry.store import list_versions, register_version
from app.serving.segments import DAMAGED
from tests.erasure_world import (
    CONTRACT,
    NOW,
    World,
    bring_in,
    customer,
    email,
    hits,
    make_config,
    make_rows,
    make_world,
    order,
    tokens_of,
)

ERASED = {3, 4, 7}


class Cut(RuntimeError):
    """Where a test ends an erasure."""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that tests copy: filling one takes longer than most of what is tested."""
    folder = tmp_path_factory.mktemp("filled") / "workspace"
    folder.mkdir()
    world = make_world(folder, num_subjects=12, rows_each=4)
    world.ledger.close()
    return folder


def copy_of(filled: Path, folder: Path) -> World:
    shutil.copytree(filled, folder)
    config = make_config(folder)
    world = World(
        config,
        open_ledger(config.ledger_url),
        open_tables(config),
        num_subjects=12,
        datasets=[],
        versions=[],
    )
    versions = list_versions(world.ledger, config.name)
    world.datasets = [version.dataset for version in versions]
    world.versions = [version.digest for version in versions]
    return world


@pytest.fixture
def world(filled: Path, tmp_path: Path) -> World:
    return copy_of(filled, tmp_path / "workspace")


def erase(world: World, subjects: set[int] = ERASED) -> ErasureReceipt:
    return world.eraser().erase(customer(s) for s in subjects).receipt


def test_nothing_that_names_the_erased_is_left_in_any_file(world: World) -> None:
    tokens = tokens_of(world, ERASED)
    places = {name.split("/")[0] for name, _ in hits(world, tokens)}
    assert places == {"tables", "spool", "scores"}
    receipt = erase(world)
    assert hits(world, tokens) == []
    assert receipt.verified
    assert receipt.remains == ()


def test_sealed_tables_forget_as_well(workspace: Path) -> None:
    world = make_world(workspace, num_subjects=6, rows_each=4, sealed=True)
    before = world.kept({2})
    tokens = tokens_of(world, {2})
    places = {name.split("/")[0] for name, _ in hits(world, tokens) if name.endswith("decoded")}
    assert places >= {"tables", "spool"}
    receipt = erase(world, {2})
    assert receipt.verified
    assert receipt.counts["events"] == 4
    assert hits(world, tokens) == []
    after = world.kept({2})
    assert [row for name in NAMES for row in before[name] if row not in after[name]] == []


def test_the_receipt_counts_what_was_found_in_each_store(world: World) -> None:
    receipt = erase(world)
    assert {name: receipt.counts[name] for name in NAMES} == {
        "events": 12,
        "predictions": 12,
        # Of the first five rows of every commit the outcome was revised once: two of them are here.
        "labels": 12 + 2 * 4,
        "quarantine": 3,
        "shadows": 12,
    }
    assert (receipt.counts["spool"], receipt.counts["files"]) == (12, 3)
    assert receipt.counts["monitor"] > 0


def test_what_is_of_others_stays_as_it_was(world: World) -> None:
    before = world.kept(ERASED)
    erase(world)
    after = world.kept(ERASED)
    for name in NAMES:
        assert [row for row in before[name] if row not in after[name]] == [], name
        # What others had captured came in meanwhile; the rows of the erased are only counted.
        assert {len(after[name]) - len(before[name])} <= {9, 6}
    assert world.tables.read("quarantine").num_rows == len(after["quarantine"])


def test_no_old_version_brings_them_back_and_all_can_be_read(world: World) -> None:
    versions = {name: world.tables.version(name) for name in NAMES}
    before = {
        (name, version): world.tables.read(name, version)
        for name in NAMES
        for version in range(versions[name] + 1)
    }
    erase(world)
    erased = read_tombstones(world.ledger, "orders", world.tombstones)
    for (name, version), rows in before.items():
        now = world.tables.read(name, version)
        theirs = about_erased(name, rows, CONTRACT, erased)
        others = rows.filter(pa.array(~theirs))
        assert sorted(map(str, now.to_pylist())) == sorted(map(str, others.to_pylist()))
        assert DeltaTable(world.tables.folder(name), version=version).version() == version


def test_a_snapshot_is_reduced_by_the_receipt_and_refused_without_it(world: World) -> None:
    whole = {d.digest: snapshot_rows(world.tables, CONTRACT, d) for d in world.datasets}
    receipt = erase(world)
    reductions = read_reductions(world.ledger, "orders")
    assert len(receipt.snapshots) == len(world.datasets)
    gone = {world.tombstones.pseudonym(customer(s)) for s in ERASED}
    for dataset in world.datasets:
        with pytest.raises(SnapshotAltered, match="altered"):
            load_snapshot(world.tables, CONTRACT, dataset)
        rows = load_snapshot(world.tables, CONTRACT, dataset, reductions)
        before = whole[dataset.digest]
        theirs = before.filter(pc.is_in(before["customer"], pa.array(sorted(gone))))
        assert theirs.num_rows == before.num_rows - rows.num_rows > 0
        assert digest_rows(rows) == subtract_digests(dataset.digest, digest_rows(theirs))


def test_models_are_marked_and_the_next_snapshot_has_none_of_them(world: World) -> None:
    receipt = erase(world)
    assert receipt.models == tuple(world.versions)
    marks = erased_versions(world.ledger, "orders")
    assert marks == dict.fromkeys(world.versions, (receipt.id,))
    dataset = take_snapshot(world.tables, CONTRACT, None, NOW, NOW)
    rows = load_snapshot(world.tables, CONTRACT, dataset)
    gone = {world.tombstones.pseudonym(customer(s)) for s in ERASED}
    assert not gone & set(rows["customer"].to_pylist())
    assert rows.num_rows == 9 * 4


def test_a_model_whose_snapshot_cannot_be_checked_any_more_is_marked_too(world: World) -> None:
    gone = world.datasets[0].model_copy(update={"events_version": 99, "digest": "a" * 32})
    version = list_versions(world.ledger, "orders")[0]
    changes = {"digest": "f" * 64, "run": "run-lost", "dataset": gone}
    register_version(world.ledger, version.model_copy(update=changes))
    receipt = erase(world)
    assert receipt.altered == ("a" * 32,)
    assert "f" * 64 in receipt.models


def test_a_version_that_is_registered_after_the_erasure_of_its_rows_is_marked(
    world: World,
) -> None:
    receipt = erase(world)
    version = list_versions(world.ledger, "orders")[0]
    late = version.model_copy(update={"digest": "e" * 64, "run": "run-late"})
    child = late.model_copy(
        update={
            "digest": "d" * 64,
            "run": "recalibrated",
            "parent": "e" * 64,
            "dataset": take_snapshot(world.tables, CONTRACT, None, NOW, NOW),
        }
    )
    clean = child.model_copy(update={"digest": "c" * 64, "run": "new", "parent": None})
    for each in (late, child, clean):
        register_version(world.ledger, each)
    marks = erased_versions(world.ledger, "orders")
    assert marks["e" * 64] == marks["d" * 64] == (receipt.id,)
    assert "c" * 64 not in marks


def test_a_receipt_names_nobody_and_is_in_the_journal(world: World) -> None:
    receipt = erase(world)
    text = receipt.model_dump_json()
    assert not [token for token in tokens_of(world, ERASED) if token.decode() in text]
    kinds = [entry.kind for entry in journal.entries(world.ledger, "orders")]
    assert kinds[-2:] == ["erasure begun", "erasure finished"]
    assert journal.verify(world.ledger) == []


def test_again_there_is_nothing_more_to_do(world: World) -> None:
    first = erase(world)
    versions = {name: world.tables.version(name) for name in NAMES}
    again = world.eraser().erase(customer(s) for s in ERASED)
    assert again.repeated
    assert again.receipt == first
    assert {name: world.tables.version(name) for name in NAMES} == versions


def test_a_subject_is_found_by_any_personal_column_and_by_its_pseudonym(world: World) -> None:
    world.eraser().erase([email(5)])
    world.eraser().erase([world.tombstones.pseudonym(customer(6))])
    left = set(world.tables.read("events")["order"].to_pylist())
    assert not {order(s, n) for s in (5, 6) for n in range(4)} & left
    assert order(7, 0) in left


def test_nobody_is_a_clear_error_and_a_stranger_is_only_remembered(world: World) -> None:
    with pytest.raises(ValueError, match="no subject was given"):
        world.eraser().erase([""])
    before = world.tables.read("events").num_rows
    memory = read_fold(world.ledger, "orders")
    receipt = world.eraser().erase(["Nobody Known"]).receipt
    assert receipt.num_found == 0
    assert receipt.verified
    assert world.tables.read("events").num_rows >= before
    assert read_fold(world.ledger, "orders") == memory


def test_rows_that_are_brought_back_are_noticed_and_erased_again(
    world: World, filled: Path
) -> None:
    first = erase(world)
    assert verify_receipt(world.eraser().place, first.id).verified
    # A backup of the tables is restored.
    shutil.rmtree(world.config.tables_path / "events")
    shutil.copytree(filled / "tables" / "events", world.config.tables_path / "events")
    found = verify_receipt(world.eraser().place, first.id, [customer(3)])
    assert not found.verified
    assert "something is left in tables/events" in found.problems
    assert any("something is left in snapshot" in problem for problem in found.problems)
    second = erase(world)
    assert second.id != first.id
    assert second.verified
    assert hits(world, tokens_of(world, ERASED)) == []


def test_a_receipt_is_checked_for_those_it_was_about(world: World) -> None:
    receipt = erase(world)
    with pytest.raises(ValueError, match="not about 1 of the subjects"):
        verify_receipt(world.eraser().place, receipt.id, [customer(11)])
    with pytest.raises(ErasureUnknown, match="no erasure has the receipt"):
        verify_receipt(world.eraser().place, "e0099-000000000000")


def test_an_id_that_another_subject_has_too_keeps_the_others_outcome(world: World) -> None:
    twice = make_rows(range(8, 9), range(1))
    stolen = twice.set_column(0, "order", pa.array([order(3, 0)]))
    bring_in(world, stolen, 5)
    erase(world)
    left = world.tables.read("labels")["row_id"].to_pylist()
    assert order(3, 0) in left
    assert order(3, 1) not in left


STEPS = steps_of([*NAMES, "spool", "files", "reports", "monitor", "online"])
# Cut off after a step's work and before it is written down, and, at some, just after.
CUTS = [*((step, False) for step in STEPS), ("trace", True), ("forget labels", True)]


@pytest.fixture(scope="module")
def uncut(
    filled: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ErasureReceipt, dict[str, object]]:
    """What an erasure comes to that nobody cuts off."""
    world = copy_of(filled, tmp_path_factory.mktemp("uncut") / "workspace")
    receipt = erase(world)
    return receipt, ending(world)


@pytest.mark.slow
@pytest.mark.parametrize(("step", "done"), CUTS)
def test_an_erasure_cut_off_at_any_step_comes_to_the_same_end(
    filled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uncut: tuple[ErasureReceipt, dict[str, object]],
    step: str,
    done: bool,
) -> None:
    world = copy_of(filled, tmp_path / "workspace")
    written = eraser.complete_step

    def cut(connection: object, model: str, receipt: str, name: str, *rest: object) -> None:
        if name == step and not done:
            raise Cut(name)
        written(connection, model, receipt, name, *rest)  # type: ignore[arg-type]

    def show(what: str, number: int, total: int) -> None:
        following = [*STEPS, "done"][STEPS.index(step) + 1]
        if done and total == len(STEPS) and what == following:
            raise Cut(step)

    with monkeypatch.context() as patched:
        patched.setattr(eraser, "complete_step", cut)
        with pytest.raises(Cut):
            world.eraser(show).erase(customer(s) for s in ERASED)
    before = world.kept(ERASED)
    resumed = world.eraser().resume()
    assert resumed is not None
    assert resumed.receipt.verified
    assert hits(world, tokens_of(world, ERASED)) == []
    after = world.kept(ERASED)
    assert [row for name in NAMES for row in before[name] if row not in after[name]] == []
    assert (resumed.receipt, ending(world)) == uncut
    assert world.eraser().resume() is None


def ending(world: World) -> dict[str, object]:
    """Sum up a workspace: every row, and what would be learned from now."""
    dataset = take_snapshot(world.tables, CONTRACT, None, NOW, NOW)
    rows = {name: sorted(map(str, world.tables.read(name).to_pylist())) for name in NAMES}
    return {"rows": rows, "snapshot": dataset.digest}


def test_a_sealed_segment_that_is_damaged_goes_whomever_it_names(workspace: Path) -> None:
    world = make_world(workspace, num_subjects=4, rows_each=4, sealed=True)
    [path] = world.config.spool_path.glob("*/*.segment")
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    damaged = path.with_suffix(DAMAGED)
    damaged.write_bytes(content)
    store = SpoolStore(world.config.spool_path, CONTRACT, world.tables.sealing.keyring)
    assert store.count(world.tombstones) == 1
    assert store.remains(Needles(world.tombstones)) == [
        f"spool/{damaged.relative_to(world.config.spool_path)}"
    ]
    store.forget(world.tombstones)
    assert (store.count(world.tombstones), store.remains(Needles(world.tombstones))) == (0, [])
    assert not damaged.exists()
    assert path.exists()
    world.ledger.close()
