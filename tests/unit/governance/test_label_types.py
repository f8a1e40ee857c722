"""Labels that are numbers are erased, sealed anew, compacted and pinned like any other."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from app.contracts.rows import TIMESTAMP, Contract
from app.data.rotation import rotate
from app.data.snapshots import load_snapshot, take_snapshot
from app.data.tables import open_tables
from app.data.validation import validate, validate_labels
from app.governance.contents import describe_snapshot
from app.governance.eraser import Eraser
from app.governance.workplace import Workplace
from app.ledger.database import open_ledger
from app.security.privacy import Pseudonymiser
from app.security.secrets import pseudonym_key
from app.security.tombstones import Tombstones
from tests.erasure_world import CONTRACT, NOW, START, customer, make_config, make_rows


def numbers() -> Contract:
    """Make the world's contract one of a regression, its ids quasi so that labels are sealed."""
    columns = [
        column.model_copy(update={"privacy": "quasi"}) if column.name == "order" else column
        for column in CONTRACT.columns
    ]
    return Contract.model_validate(
        {**CONTRACT.model_dump(), "task": "regression", "columns": columns}
    )


def test_numbers_of_others_are_the_same_bits_after_an_erasure_and_a_new_key(tmp_path: Path) -> None:
    contract = numbers()
    config = make_config(tmp_path / "workspace", sealed=True)
    config = config.model_copy(update={"contract": contract})
    tables, ledger = open_tables(config), open_ledger(config.ledger_url)
    secret = pseudonym_key(config)
    amounts = np.random.default_rng(4).normal(size=24) * 1e3
    for commit in range(2):
        rows = make_rows(range(6), range(2 * commit, 2 * commit + 2), seed=commit)
        accepted = validate(rows, contract, pseudonymiser=Pseudonymiser(secret)).accepted
        tables.append("events", tables.complete("events", accepted, START, "test"))
        told = pa.table(
            {
                "row_id": accepted["order"],
                "label": amounts[12 * commit : 12 * commit + 12],
                "void": [False] * 12,
                "known_at": pa.array([START] * 12, TIMESTAMP),
            }
        )
        outcomes = validate_labels(told, contract=contract).accepted
        tables.append("labels", tables.complete("labels", outcomes, START, "test"))
    pinned = take_snapshot(tables, contract, None, NOW, NOW)
    before = load_snapshot(tables, contract, pinned)
    assert sorted(before["label"].to_pylist()) == sorted(amounts.tolist())
    version = tables.compact("labels")

    place = Workplace(config, ledger, tables, Tombstones(secret))
    receipt = Eraser(place, lambda: NOW + timedelta(hours=1)).erase([customer(2)]).receipt
    assert tables.sealing.keyring is not None
    done = rotate(tables, tables.sealing.keyring)

    assert (receipt.verified, receipt.counts["labels"]) == (True, 4)
    assert done.num_files["labels"] > 0
    now = take_snapshot(tables, contract, None, NOW, NOW)
    after = load_snapshot(tables, contract, now)
    others = [row for row in before.to_pylist() if not row["order"].startswith("order-0002")]
    assert after.to_pylist() == others
    assert after["label"].type == pa.float64()
    assert tables.read("labels", version).num_rows == 20
    (month, *_) = describe_snapshot(config, ledger, tables, now).months
    assert (month.num_known > 0, month.positive_share) == (True, None)
    ledger.close()
