"""Erasures killed at random moments, again and again: the end is that of one nobody disturbed."""

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.config import show_config
from app.data.snapshots import take_snapshot
from app.data.tables import NAMES, open_tables
from app.ledger import journal
from app.ledger.database import open_ledger
from app.ledger.erasures import read_erasures
from tests.erasure_world import CONTRACT, NOW, World, customer, hits, make_world, tokens_of

pytestmark = [pytest.mark.chaos, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
ERASED = {1, 5, 8}
KILLS = 6
# Says when it begins, so that it is killed at work rather than while it is imported.
JOB = """
import sys
from jobs import erase
sys.stdout.write("begins\\n")
sys.stdout.flush()
erase.main(sys.argv[1], resume=sys.argv[2] == "resume")
"""


def start(file: Path, how: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", JOB, str(file), how],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n".join(customer(s) for s in ERASED).encode())
    process.stdin.close()
    assert process.stdout.readline() == b"begins\n"
    return process


def ending(world: World) -> dict[str, object]:
    rows = {name: sorted(map(str, world.tables.read(name).to_pylist())) for name in NAMES}
    (erasure,) = read_erasures(world.ledger, "orders")
    assert erasure.record is not None
    told = erasure.record.model_dump(exclude={"began_at", "finished_at"})
    return {"rows": rows, "snapshot": take_snapshot(world.tables, CONTRACT, None, NOW, NOW).digest,
            "receipt": told}  # fmt: skip


def test_an_erasure_killed_again_and_again_comes_to_the_same_end(
    workspace: Path, tmp_path: Path
) -> None:
    world = make_world(workspace, num_subjects=12, rows_each=4)
    before = world.kept(ERASED)
    world.ledger.close()
    calm = tmp_path / "calm"
    shutil.copytree(workspace, calm)
    configs = {}
    for folder in (workspace, calm):
        configs[folder] = tmp_path / f"{folder.name}.yaml"
        changed = world.config.model_copy(update={"workspace": folder})
        configs[folder].write_text(show_config(changed))
    calmly = start(configs[calm], "erase")
    began = time.monotonic()
    assert calmly.wait(300) == 0
    seconds = time.monotonic() - began

    chance, kills = random.Random(20240601), 0
    how = "erase"
    while kills < KILLS:
        process = start(configs[workspace], how)
        try:
            process.wait(chance.uniform(0.02, seconds / 3))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        known = read_erasures(open_ledger(world.config.ledger_url), "orders")
        if known and known[0].record is not None:
            break
        how = "resume" if known else "erase"
    else:
        assert start(configs[workspace], how).wait(300) == 0
    ended = World(
        world.config,
        open_ledger(world.config.ledger_url),
        open_tables(world.config),
        12,
        world.datasets,
        world.versions,
    )
    changed = world.config.model_copy(update={"workspace": calm})
    undisturbed = World(changed, open_ledger(changed.ledger_url), open_tables(changed), 12, [], [])
    assert kills >= 2
    assert hits(ended, tokens_of(ended, ERASED)) == []
    assert ending(ended) == ending(undisturbed)
    after = ended.kept(ERASED)
    assert [row for name in NAMES for row in before[name] if row not in after[name]] == []
    assert journal.verify(ended.ledger) == []
    print(f"\n{kills} kills, then {ending(ended)['receipt']}")
