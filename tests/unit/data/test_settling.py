from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import SecretBytes

from app.contracts.rows import Contract
from app.data import seen as seen_ids
from app.data.admission import Taken
from app.data.deliveries import Delivery
from app.data.intake import FOREVER, Window, judge_block
from app.data.judging import Judging, judge_and_stage
from app.data.pieces import Rows
from app.data.seen import SeenIds, hash_ids, hash_unique, repeats
from app.data.settling import Ids, Settled, settle_rows
from app.data.stagedfiles import StagedFiles
from app.data.staging import (
    OTHER,
    Busy,
    Staged,
    clear_leftovers,
    merge_reasons,
    stage,
    staging_folder,
)
from app.security.privacy import Pseudonymiser
from app.security.tombstones import Tombstones

Make = Callable[..., dict[str, object]]
MakeTable = Callable[[list[dict[str, object]]], pa.Table]
KEY = SecretBytes(b"k" * 32)
SECRET = Pseudonymiser(KEY)


@pytest.fixture
def staged(files: StagedFiles, parcels: Contract) -> Callable[[pa.Table, int], Staged]:
    """A function that judges and stages a block which begins at a position."""

    def make(table: pa.Table, first: int) -> Staged:
        positions = np.arange(first, first + table.num_rows)
        block = Rows(table, positions, [], "d1").with_places()
        judged = judge_block(block, parcels, Window(FOREVER, {}), SECRET)
        return stage(judged, [hash_ids(judged.accepted["parcel"])], "d1", block, files)

    return make


Stage = Callable[[pa.Table, int], Staged]


def column(settled: Settled, part: str, name: str) -> list[object]:
    tables = settled.accepted() if part == "accepted" else settled.refused()
    return [value for table in tables for value in table[name].to_pylist()]


def test_ids_that_come_again_are_refused_in_whatever_order_blocks_arrive(
    parcels: Contract,
    parcel: Make,
    parcel_table: MakeTable,
    staged: Stage,
    files: StagedFiles,
) -> None:
    first = staged(parcel_table([parcel(0), parcel(1), parcel(7)]), 0)
    second = staged(parcel_table([parcel(1), parcel(2), parcel(3, weight=-1)]), 3)
    ids = Ids()
    ids.before.add(hash_ids(pa.array(["P7"])))
    ids.added.add(hash_ids(pa.array(["P2"])))
    settled = settle_rows("d1", [second, first], parcels, {"parcel": ids}, SECRET, files)
    assert column(settled, "accepted", "parcel") == ["P0", "P1"]
    assert (settled.num_in, settled.num_accepted, settled.num_quarantined) == (6, 2, 4)
    positions = column(settled, "refused", "position")
    assert dict(zip(positions, column(settled, "refused", "reasons"), strict=True)) == {
        2: ["parcel was ingested before, got 'P7'"],
        3: ["parcel is given more than once; the first row is kept, got 'P1'"],
        4: ["parcel is given more than once; the first row is kept, got 'P2'"],
        5: ["weight must be in 0..40, got -1.0"],
    }
    assert settled.reasons == {
        "parcel is given more than once; the first row is kept": 2,
        "parcel was ingested before": 1,
        "weight must be in 0..40": 1,
    }


def test_a_committed_delivery_leaves_no_staged_file(
    parcels: Contract,
    parcel: Make,
    parcel_table: MakeTable,
    staged: Stage,
    files: StagedFiles,
) -> None:
    first = staged(parcel_table([parcel(0), parcel(1)]), 0)
    second = staged(parcel_table([parcel(1), parcel(2), parcel(3, weight=-1)]), 2)
    settled = settle_rows("d1", [first, second], parcels, {"parcel": Ids()}, SECRET, files)
    assert len(list(files.folder.iterdir())) == 4
    settled.discard()
    assert list(files.folder.iterdir()) == []


def test_a_block_is_counted_as_what_is_left_of_it_would_be(
    files: StagedFiles, parcels: Contract, parcel: Make, parcel_table: MakeTable
) -> None:
    table = parcel_table([parcel(0), parcel(1, weight=-1), parcel(2), parcel(0)])
    block = Rows(table, np.arange(4), [], "d1").with_places()
    judging = Judging(parcels, SECRET, Tombstones(KEY), files)
    (row,) = judge_and_stage(block, judging=judging, window=Window(FOREVER, {})).to_pylist()
    staged = Staged.of_row(row)
    assert staged.tally is not None
    settled = settle_rows("d1", [staged], parcels, {"parcel": Ids()}, SECRET, files)
    assert settled.blocks == (staged,)
    counted, found = Taken(parcels), Taken(parcels)
    counted.add(Delivery("d1", "a.csv"), settled)
    found.add(Delivery("d1", "a.csv"), replace(settled, blocks=(replace(staged, tally=None),)))
    assert (counted.tally.num_accepted, counted.tally.num_quarantined) == (2, 2)
    assert repr(counted.tally) == repr(found.tally)


def test_a_tally_goes_with_the_rows_that_it_counted(
    files: StagedFiles, parcels: Contract, parcel: Make, parcel_table: MakeTable
) -> None:
    judging = Judging(parcels, SECRET, Tombstones(KEY), files)
    block = Rows(parcel_table([parcel(0), parcel(1)]), np.arange(2), [], "d1").with_places()
    (row,) = judge_and_stage(block, judging=judging, window=Window(FOREVER, {})).to_pylist()
    ids = Ids()
    ids.before.add(hash_ids(pa.array(["P1"])))
    settled = settle_rows("d1", [Staged.of_row(row)], parcels, {"parcel": ids}, SECRET, files)
    taken = Taken(parcels)
    taken.add(Delivery("d1", "a.csv"), settled)
    assert (taken.tally.num_accepted, taken.tally.num_quarantined) == (1, 1)
    settled.discard()
    assert list(files.folder.iterdir()) == []


def test_settling_adds_no_id_before_the_commit(
    parcels: Contract,
    parcel: Make,
    parcel_table: MakeTable,
    staged: Stage,
    files: StagedFiles,
) -> None:
    ids = Ids()
    blocks = [staged(parcel_table([parcel(0)]), 0)]
    settled = settle_rows("d1", blocks, parcels, {"parcel": ids}, SECRET, files)
    assert len(ids.added) == 0
    assert len(settled.ids["parcel"]) == 1


def test_refused_repeats_are_protected(
    parcels: Contract,
    parcel: Make,
    parcel_table: MakeTable,
    staged: Stage,
    files: StagedFiles,
) -> None:
    blocks = [staged(parcel_table([parcel(0)]), place) for place in (0, 1)]
    settled = settle_rows("d1", blocks, parcels, {"parcel": Ids()}, SECRET, files)
    (row,) = column(settled, "refused", "row")
    assert SECRET.one("sender 0") in str(row)
    assert "sender 0" not in str(row)


@pytest.mark.parametrize("max_run", [300, 2**22])
def test_seen_ids_answer_like_a_set(monkeypatch: pytest.MonkeyPatch, max_run: int) -> None:
    monkeypatch.setattr(seen_ids, "MAX_RUN", max_run)
    draw = np.random.default_rng(5)
    seen, truth = SeenIds(), set[str]()
    for _ in range(60):
        ids = [f"id {n}" for n in draw.integers(0, 4000, draw.integers(0, 120))]
        hashes = hash_ids(pa.array(ids, pa.string()))
        assert seen.contains(hashes).tolist() == [each in truth for each in ids]
        again = repeats(hashes)
        assert again.tolist() == [each in ids[:place] for place, each in enumerate(ids)]
        seen.add(hashes.at(~(again | seen.contains(hashes))))
        truth |= set(ids)
        assert len(seen) == len(truth)
    assert max(map(len, seen._runs)) <= max_run


def test_seen_ids_tell_apart_hashes_that_share_their_first_half() -> None:
    from app.data.seen import Hashes

    seen = SeenIds()
    high = np.array([5, 5, 5], np.uint64)
    seen.add(Hashes(high, np.array([3, 1, 2], np.uint64)))
    asked = Hashes(np.array([5, 5, 6], np.uint64), np.array([2, 9, 2], np.uint64))
    assert seen.contains(asked).tolist() == [True, False, False]


def test_rare_reasons_are_counted_together() -> None:
    merged = merge_reasons([{f"reason {n}": 1 for n in range(80)}, {"often": 5}])
    assert merged["often"] == 5
    assert sum(merged.values()) == 85
    assert merged[OTHER] == 31


def test_one_ingest_has_a_workspace_to_itself_and_clears_what_a_dead_one_left(
    tmp_path: Path,
) -> None:
    left = tmp_path / "staging" / "dead"
    left.mkdir(parents=True)
    with staging_folder(tmp_path) as folder:
        assert folder.is_dir()
        assert not left.exists()
        with pytest.raises(Busy, match="another ingest is at work"), staging_folder(tmp_path):
            pass
    assert not folder.exists()


def test_a_unique_value_comes_once_across_blocks_and_ingests_and_nulls_may(
    files: StagedFiles, parcels: Contract, parcel: Make, parcel_table: MakeTable
) -> None:
    columns = [
        {**column, "unique": column["name"] in ("sender", "rain")}
        for column in parcels.model_dump()["columns"]
    ]
    contract = Contract.model_validate({**parcels.model_dump(), "columns": columns})
    judging = Judging(contract, SECRET, Tombstones(KEY), files)
    tables = [
        parcel_table([parcel(0, rain=0.0, sender="Ada"), parcel(1, rain=2.0, sender="Bob")]),
        parcel_table([parcel(2, rain=-0.0, sender="Cyd"), parcel(3, rain=4.0, sender="Ada")]),
        parcel_table([parcel(4, rain=5.0, sender=None), parcel(5, rain=6.0, sender="Dan")]),
        # Cyd's first row was refused for its rain: this one is the first that is kept.
        parcel_table([parcel(6, rain=7.0, sender="Cyd"), parcel(7, rain=None, sender=None)]),
        parcel_table([parcel(8, rain=None, sender=None)]),
    ]
    blocks = []
    for number, table in enumerate(tables):
        positions = 2 * number + np.arange(table.num_rows)
        block = Rows(table, positions, [], "d1").with_places()
        row = judge_and_stage(block, judging=judging, window=Window(FOREVER, {}))
        blocks += map(Staged.of_row, row.to_pylist())
    seen = {column.name: Ids() for column in contract.unique}
    before = pa.table({"rain": [2.0, 9.0], "sender": [SECRET.one("Dan"), None]})
    for name in ("rain", "sender"):
        seen[name].before.add(hash_unique(before, contract.by_name[name]))
    settled = settle_rows("d1", blocks, contract, seen, SECRET, files)
    assert column(settled, "accepted", "parcel") == ["P0", "P4", "P6", "P7", "P8"]
    positions = column(settled, "refused", "position")
    told = [str(row[0]).split(",")[0] for row in column(settled, "refused", "reasons")]  # type: ignore[index]
    assert dict(zip(positions, told, strict=True)) == {
        1: "rain was ingested before",
        2: "rain is given more than once; the first row is kept",
        3: "sender is given more than once; the first row is kept",
        5: "sender was ingested before",
    }
    assert settled.num_in == settled.num_accepted + settled.num_quarantined == 9
    assert {name: len(ids) for name, ids in settled.ids.items()} == {
        "parcel": 5,
        "rain": 3,
        "sender": 2,
    }


def test_leftovers_are_cleared_unless_an_ingest_is_at_work(tmp_path: Path) -> None:
    clear_leftovers(tmp_path)
    left = tmp_path / "staging" / "dead"
    left.mkdir(parents=True)
    (left / "rows.parquet").write_bytes(b"rows")
    clear_leftovers(tmp_path)
    assert [entry.name for entry in (tmp_path / "staging").iterdir()] == ["lock"]
    with staging_folder(tmp_path) as folder:
        clear_leftovers(tmp_path)
        assert folder.is_dir()
