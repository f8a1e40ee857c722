"""Bringing in files and a growing table from the object stores, on a cluster of their own.

Workers find a store as the job does, by the environment, which they inherit when the cluster is
started. So these tests start one, for several stores at once.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from app.config import Config, load_config, show_config
from app.data.tables import open_tables
from tests.object_stores import STORES, ObjectStore

pytestmark = pytest.mark.ray

ROOT = Path(__file__).resolve().parents[2]
Open = Callable[..., Config]
COLUMNS = ("parcel", "promised", "weight")
INGESTS = """
import sys
from app.config import load_config
from app.session import session
from jobs.ingest import run

configs = [load_config(path) for path in sys.argv[1:]]
with session(configs[0]):
    for config in configs:
        print(run(config).model_dump_json())
"""


@pytest.fixture(
    params=[
        pytest.param(("s3", "gcs"), marks=[pytest.mark.s3, pytest.mark.gcs]),
        pytest.param(("azure",), marks=pytest.mark.azure),
    ]
)
def stores(request: pytest.FixtureRequest) -> Iterator[list[ObjectStore]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(STORES[kind]()) for kind in request.param]


def parcels(*numbers: int, weight: float = 2.5) -> list[tuple[str, str, float]]:
    return [(f"P{n}", f"2024-03-{1 + n:02d}T10:00:00Z", weight) for n in numbers]


def csv_of(rows: Sequence[tuple[str, str, float]]) -> bytes:
    return "\n".join([",".join(COLUMNS), *(",".join(map(str, row)) for row in rows), ""]).encode()


def fill(store: ObjectStore, table: Path) -> None:
    store.put("in/day 1/a+b%.csv", csv_of(parcels(0, 1)))
    store.put("in/day 2/c.csv", csv_of([*parcels(2), *parcels(3, weight=-1)]))
    store.put("in/day 2/d.csv.tmp", csv_of(parcels(9)))
    store.copy(table, "my table")


def test_files_and_tables_of_every_store_come_in(
    stores: list[ObjectStore], shop: Open, tmp_path: Path
) -> None:
    for numbers in ((3, 4), (5,)):
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in parcels(*numbers)]
        write_deltalake(str(tmp_path / "table"), pa.Table.from_pylist(rows), mode="append")
    files = []
    for store in stores:
        fill(store, tmp_path / "table")
        sources = {"csv": f"{store.root}/in", "delta": f"{store.root}/my table"}
        for number, (kind, events) in enumerate(sources.items()):
            workspace = tmp_path / f"{store.kind} {kind}"
            changed = shop(kind=kind, events=events).model_copy(update={"workspace": workspace})
            files.append(tmp_path / f"{store.kind}{number}.yaml")
            files[-1].write_text(show_config(changed))
    records = ingested(files, stores)
    for place, store in enumerate(stores):
        (_, of_files), (_, of_table) = records[2 * place], records[2 * place + 1]
        assert [each["num_in"] for each in of_files["deliveries"]] == [2, 2]
        assert [of_files["num_accepted"], of_files["num_quarantined"]] == [3, 1]
        assert [each["name"] for each in of_files["deliveries"]] == [
            f"{store.root}/in/day 1/a+b%.csv",
            f"{store.root}/in/day 2/c.csv",
        ]
        assert [of_table["num_in"], of_table["num_accepted"]] == [3, 3]
    read = [sorted(open_tables(c).read("events")["parcel"].to_pylist()) for c, _ in records]
    assert read == [["P0", "P1", "P2"], ["P3", "P4", "P5"]] * len(stores)


def ingested(files: list[Path], stores: list[ObjectStore]) -> list[tuple[Config, dict]]:
    """Run the ingests one after the other on one cluster; give what became of each."""
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    for store in stores:
        environment |= store.environment
    run = subprocess.run(
        [sys.executable, "-c", INGESTS, *map(str, files)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    records = [json.loads(line) for line in run.stdout.splitlines()[-len(files) :]]
    return list(zip(map(load_config, files), records, strict=True))
