"""Fifty of a thousand: every byte of every store is searched, every old version is read."""

import time
from pathlib import Path

import pytest

from app.data.snapshots import digest_rows, load_snapshot, snapshot_rows
from app.data.tables import NAMES
from app.governance.eraser import Eraser
from app.ledger.erasures import read_reductions
from tests.erasure_world import (
    CONTRACT,
    NAMED,
    NOW,
    bytes_below,
    customer,
    hits,
    tokens_of,
)
from tests.online_world import Online

pytestmark = pytest.mark.slow
NUM_SUBJECTS = 1000
ERASED = set(range(7, 1007, 20))


def test_erasing_50_of_1000_leaves_no_byte_and_no_version_of_them(workspace: Path) -> None:
    online = Online(workspace, NUM_SUBJECTS, rows_each=8)
    world = online.world
    gone = {customer(s) for s in ERASED}
    pseudonyms = {world.tombstones.pseudonym(name) for name in gone}
    tokens = tokens_of(world, ERASED)
    before = hits(world, tokens)
    kept, whole = world.kept(ERASED), {}
    for dataset in world.datasets:
        rows = snapshot_rows(world.tables, CONTRACT, dataset)
        others = [name not in pseudonyms for name in rows["customer"].to_pylist()]
        whole[dataset.digest] = digest_rows(rows.filter(others))

    began = time.perf_counter()
    receipt = Eraser(online.place, lambda: NOW).erase(gone).receipt
    seconds = time.perf_counter() - began

    after = hits(world, tokens)
    assert (len(ERASED), len(before) > 0, after, receipt.verified) == (50, True, [], True)
    assert "online" in {name.split("/")[0] for name, _ in before}
    ours, history = online.values(NOW)
    assert ours.to_pylist() == history.to_pylist()
    reductions = read_reductions(world.ledger, "orders")
    for dataset in world.datasets:
        rows = load_snapshot(world.tables, CONTRACT, dataset, reductions)
        assert digest_rows(rows) == whole[dataset.digest]
    num_versions = 0
    for name in NAMES:
        for version in range(world.tables.version(name) + 1):
            texts = str(world.tables.read(name, version).to_pylist()).encode()
            assert not tokens & set(NAMED.findall(texts))
            num_versions += 1
    now = world.kept(ERASED)
    for name in NAMES:
        assert not set(map(str, kept[name])) - set(map(str, now[name])), name
    again = Eraser(online.place, lambda: NOW).erase(gone)
    assert again.repeated
    online.close()
    files = bytes_below(world.config)
    print(
        f"\n{len(ERASED)} of {NUM_SUBJECTS:,} subjects erased in {seconds:.1f} s: "
        f"{sum(receipt.counts[name] for name in NAMES):,} rows of tables, {receipt.counts}; "
        f"{len(tokens):,} identities, pseudonyms and row ids: {len(before):,} hits before, "
        f"{len(after)} after, in {len(files)} files and decoded columns "
        f"({sum(map(len, files.values())):,} bytes); {num_versions} old versions read, "
        f"{len(reductions)} snapshots reduced, {sum(map(len, now.values())):,} rows of others kept"
    )
