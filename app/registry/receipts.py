"""Find what one prediction was made with, from the tables and the ledger.

Knows tables, versions and roles; knows nothing of HTTP or of who may ask.
"""

import pyarrow.compute as pc

from app.contracts.receipts import Receipt, digest_of_inputs
from app.data.tables import Tables
from app.ledger.database import Ledger
from app.registry.store import find_version, roles_history


class ReceiptUnknown(ValueError):
    """No prediction of that name is in the tables."""


def read_receipt(tables: Tables, ledger: Ledger, model: str, prediction_id: str) -> Receipt:
    """Read the receipt of a prediction. Raises ReceiptUnknown; SQLAlchemyError without a ledger.

    A prediction that was logged more than once, since a request was sent again, is the first.
    """
    wanted = pc.field("prediction_id") == prediction_id
    logged = tables.read("predictions", filters=wanted).sort_by("served_at").slice(0, 1)
    if not logged.num_rows:
        raise ReceiptUnknown(f"no prediction {prediction_id[:64]} is in the tables")
    prediction = logged.to_pylist()[0]
    version = find_version(ledger, prediction["version"])
    decisions = {at.roles.generation: at.roles.decision for at in roles_history(ledger, model)}
    names = Receipt.model_fields.keys() & prediction.keys()
    return Receipt(
        **{name: prediction[name] for name in names},
        model=model,
        decision=decisions.get(prediction["generation"]),
        inputs_digest=_inputs_digest(tables, prediction),
        run=version.run,
        data_digest=version.dataset.digest,
        code_version=version.code_version,
        config_digest=version.config_digest,
        trained_until=version.trained_until,
    )


def _inputs_digest(tables: Tables, prediction: dict[str, object]) -> str | None:
    """Digest the row that was scored: the one of that id that came when it was answered."""
    contract = tables.contract
    same = (pc.field(contract.id) == prediction["row_id"]) & (
        pc.field("ingested_at") == prediction["served_at"]
    )
    rows = tables.read("events", columns=contract.complete_schema.names, filters=same)
    return digest_of_inputs(rows.slice(0, 1).to_pylist()[0]) if rows.num_rows else None
