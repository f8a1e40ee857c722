from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import SecretBytes

from app.contracts.rows import Contract
from app.data.intake import FOREVER, Window, judge_block
from app.data.pieces import POSITION, Rows
from app.data.seen import SeenIds, hash_ids, repeats
from app.data.settling import Ids, Settled, settle_rows
from app.data.staging import OTHER, Busy, Staged, merge_reasons, stage, staging_folder
from app.security.privacy import Pseudonymiser

Make = Callable[..., dict[str, object]]
MakeTable = Callable[[list[dict[str, object]]], pa.Table]
SECRET = Pseudonymiser(SecretBytes(b"k" * 32))


@pytest.fixture
def staged(tmp_path: Path, parcels: Contract) -> Callable[[pa.Table, int], Staged]:
    """A function that judges and stages a block which begins at a position."""

    def make(table: pa.Table, first: int) -> Staged:
        positions = np.arange(first, first + table.num_rows)
        block = Rows(table, positions, [], "d1").with_places()
        judged = judge_block(block, parcels, Window(FOREVER, {}), SECRET)
        return stage(judged, hash_ids(judged.accepted["parcel"]), "d1", block[POSITION], tmp_path)

    return make


Stage = Callable[[pa.Table, int], Staged]


def column(settled: Settled, part: str, name: str) -> list[object]:
    tables = settled.accepted() if part == "accepted" else settled.refused()
    return [value for table in tables for value in table[name].to_pylist()]


def test_ids_that_come_again_are_refused_in_whatever_order_blocks_arrive(
    parcels: Contract, parcel: Make, parcel_table: MakeTable, staged: Stage
) -> None:
    first = staged(parcel_table([parcel(0), parcel(1), parcel(7)]), 0)
    second = staged(parcel_table([parcel(1), parcel(2), parcel(3, weight=-1)]), 3)
    ids = Ids()
    ids.before.add(hash_ids(pa.array(["P7"])))
    ids.added.add(hash_ids(pa.array(["P2"])))
    settled = settle_rows("d1", [second, first], parcels, ids, SECRET)
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


def test_settling_adds_no_id_before_the_commit(
    parcels: Contract, parcel: Make, parcel_table: MakeTable, staged: Stage
) -> None:
    ids = Ids()
    settled = settle_rows("d1", [staged(parcel_table([parcel(0)]), 0)], parcels, ids, SECRET)
    assert len(ids.added) == 0
    assert len(settled.ids) == 1


def test_refused_repeats_are_protected(
    parcels: Contract, parcel: Make, parcel_table: MakeTable, staged: Stage
) -> None:
    blocks = [staged(parcel_table([parcel(0)]), place) for place in (0, 1)]
    settled = settle_rows("d1", blocks, parcels, Ids(), SECRET)
    (row,) = column(settled, "refused", "row")
    assert SECRET.one("sender 0") in str(row)
    assert "sender 0" not in str(row)


def test_seen_ids_answer_like_a_set() -> None:
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
