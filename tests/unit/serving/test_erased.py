"""A replica and the erased: neither scored nor kept, and nothing captured of them gets through."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from app.config import Config
from app.contracts.rows import Contract
from app.data.arrivals import captured_arriving
from app.data.forgetting import ERASED
from app.data.inputs import find_pieces
from app.data.tables import NAMES, Tables
from app.governance.eraser import Eraser
from app.governance.workplace import Workplace
from app.ledger.database import open_ledger
from app.ledger.erasures import begin_erasure, read_tombstones
from app.security.privacy import Pseudonymiser
from app.security.secrets import pseudonym_key
from app.security.tombstones import Tombstones
from app.serving.capture import Spool
from app.serving.erased import TombstoneWatch
from app.serving.scoring import Scoring, score_piece
from app.serving.shipping import adopt_spools, ship_folder
from tests.serving_world import make_bundle, make_rows, make_table
from tests.unit.serving.conftest import World, wait_until

AT = datetime(2013, 4, 1, tzinfo=UTC)


def erase(world: World, *subjects: str) -> None:
    """Erase subjects as the job does, beside the replica that lives."""
    nobody = Tombstones(pseudonym_key(world.config))
    place = Workplace(world.config, world.ledger, world.tables, nobody)
    receipt = Eraser(place, lambda: AT).erase(subjects).receipt
    assert receipt.verified, receipt.remains


def entomb(config: Config, subject: str) -> Tombstones:
    """Set a subject's tombstone and do nothing else."""
    ledger = open_ledger(config.ledger_url)
    nobody = Tombstones(pseudonym_key(config))
    with ledger.transaction() as connection:
        begin_erasure(connection, config.name, "e1", [nobody.subject(subject)], AT)
    return read_tombstones(ledger, config.name, nobody)


def predict(world: World, rows: list[dict[str, object]]) -> dict[str, object]:
    return dict(world.client.post("/v1/flights/predict", json={"rows": rows}).json())


def test_a_request_about_an_erased_subject_is_refused_and_only_counted(world: World) -> None:
    rows = make_rows(world.config.contract, 3)
    for row, tail in zip(rows, ("N11111", "N22222", "N33333"), strict=True):
        row["tail"] = tail
    assert predict(world, rows)["rejected"] == []
    world.replica.ship()
    erase(world, "N22222")
    wait_until(lambda: bool(predict(world, rows)["rejected"]))
    answer = predict(world, rows)
    assert [row["row_id"] for row in answer["predictions"]] == ["row-0", "row-2"]  # type: ignore[attr-defined]
    assert answer["rejected"] == [{"row": 1, "reasons": [ERASED]}]
    events, quarantine = world.logged("events"), world.logged("quarantine")
    assert "row-1" not in events["flight_id"].to_pylist()
    assert [ERASED] in quarantine["reasons"].to_pylist()
    pseudonym = Pseudonymiser(pseudonym_key(world.config)).one("N22222")
    assert pseudonym not in str([world.logged(name).to_pylist() for name in NAMES])
    explained = world.client.post("/v1/flights/explain", json={"rows": rows}).json()
    assert [row["row_id"] for row in explained["explanations"]] == ["row-0", "row-2"]
    assert explained["rejected"] == [{"row": 1, "reasons": [ERASED]}]


def test_an_outcome_of_an_erased_row_is_refused(world: World) -> None:
    rows = make_rows(world.config.contract, 2)
    rows[0]["tail"], rows[1]["tail"] = "N11111", "N22222"
    predict(world, rows)
    world.replica.ship()
    erase(world, "N22222")
    labels = {"labels": [{"row_id": "row-0", "label": 1}, {"row_id": "row-1", "label": 1}]}

    def rejected() -> list[object]:
        return list(world.client.post("/v1/flights/labels", json=labels).json()["rejected"])

    wait_until(lambda: rejected() == [{"row": 1, "reasons": [ERASED]}])
    assert world.logged("labels")["row_id"].to_pylist()[-1] == "row-0"


def test_a_watch_reads_tombstones_once_they_stand(flights: Config) -> None:
    ledger = open_ledger(flights.ledger_url)
    nobody = Tombstones(pseudonym_key(flights))
    watch = TombstoneWatch(ledger, flights.name, nobody)
    assert not watch.refresh()
    entomb(flights, "N22222")
    assert not watch()
    assert watch.refresh().is_subject("N22222")
    assert watch().is_subject("N22222")


@pytest.fixture
def captured(flights: Config) -> tuple[Spool, Tables]:
    """A spool of a dead replica: two rows and their outcomes, in a segment each."""
    tables = Tables(flights.tables_path, flights.contract)
    spool = Spool(flights.spool_path, {name: tables.schema(name) for name in NAMES})
    rows = make_table(flights.contract, 2)
    place = rows.schema.get_field_index("tail")
    rows = rows.set_column(place, rows.schema.field(place), pa.array(["N11111", "N22222"]))
    rows = Pseudonymiser(pseudonym_key(flights)).protect(rows, flights.contract)
    spool.append(
        {"events": tables.complete("events", rows.cast(flights.contract.schema), AT, "serving")}
    )
    spool.roll()
    outcome = {"label": 1, "void": False, "known_at": AT, "received_at": AT, "source": "serving"}
    labels = [{"row_id": f"row-{i}", **outcome} for i in range(2)]
    spool.append({"labels": pa.Table.from_pylist(labels, tables.schema("labels"))})
    spool.close()
    return spool, tables


def test_captured_rows_of_the_erased_are_not_shipped_nor_are_their_later_outcomes(
    flights: Config, captured: tuple[Spool, Tables]
) -> None:
    spool, tables = captured
    entomb(flights, "N22222")
    ledger = open_ledger(flights.ledger_url)
    nobody = Tombstones(pseudonym_key(flights))
    watch = TombstoneWatch(ledger, flights.name, nobody)
    first, second = sorted(spool.folder.glob("*.segment"))
    held = second.rename(second.with_suffix(".later"))
    with captured_arriving(flights, ledger, tables, watch.refresh) as arrival:
        ship_folder(spool.folder, tables, Counter(), arrival)
    assert not first.exists()
    held.rename(second)
    with captured_arriving(flights, ledger, tables, watch.refresh) as arrival:
        adopt_spools(flights.spool_path, tables, arrival)
    assert tables.read("events")["flight_id"].to_pylist() == ["row-0"]
    assert tables.read("labels")["row_id"].to_pylist() == ["row-0"]
    # Two rows in, two rows counted: one of them withheld; the outcomes likewise.
    assert tables.read("quarantine")["reasons"].to_pylist() == [[ERASED], [ERASED]]
    assert not list(flights.spool_path.glob("*/*"))


def test_batch_scoring_gives_an_erased_subject_no_probability(
    flights: Config, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    contract: Contract = flights.contract
    rows = make_table(contract, 3)
    place = rows.schema.get_field_index("tail")
    rows = rows.set_column(place, rows.schema.field(place), pa.array(["N1", "N22222", "N3"]))
    pq.write_table(rows, tmp_path / "rows.parquet")
    secret = Pseudonymiser(pseudonym_key(flights))
    erased = entomb(flights, "N22222")
    tables = Tables(flights.tables_path, contract)
    scoring = Scoring(
        contract, make_bundle(contract, seed=1), secret, "v" * 64, tables, erased=erased
    )
    (piece,) = find_pieces(str(tmp_path / "rows.parquet"), contract)
    scores = score_piece(piece, scoring)
    assert scores["reasons"].to_pylist() == [[], [ERASED], []]
    assert scores["probability"].is_valid().to_pylist() == [True, False, True]
    assert scores["row_id"].to_pylist() == ["row-0", None, "row-2"]
