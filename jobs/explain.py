"""Explain a prediction that was made: what each column added to it, by the version that made it."""

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import typer

from app.config import Config, load_config
from app.console.explanation import ExplainedPrediction, render_explanation
from app.contracts.targets import require_binary
from app.data.tables import Tables, open_tables
from app.ledger.database import Ledger, open_ledger
from app.model.bundle import ModelBundle
from app.model.explanation import SCALES, Explainer
from app.registry.artifacts import Artifacts
from app.registry.choosing import choose_version
from app.serving.explain_messages import METHOD, Explained, ReferenceRow
from app.serving.explaining import Telling, public_columns
from jobs.options import ConfigFile, Overrides
from jobs.outcome import report, user_errors

# What scoring a row among others may change.
TOLERANCE = 1e-6


def main(
    config: ConfigFile,
    row: Annotated[str, typer.Option(help="The id of a row whose prediction is in the log.")],
    page: Annotated[
        Path | None,
        typer.Option(help="Draw it here, as HTML. An erasure does not look there: keep it short."),
    ] = None,
    set_: Overrides = None,
) -> None:
    """Explain the last prediction of a row, with the values and by the version it was made with.

    The row is read from the log, its windows as they were looked up then. Values are shown of
    public columns only. Example:

    python -m jobs.explain --config configs/flights.yaml --row r_1f0c --page why.html
    """
    with user_errors():
        settings = load_config(config, set_ or [])
        with closing(open_ledger(settings.ledger_url)) as ledger:
            report(run(settings, ledger, row, page))


def run(config: Config, ledger: Ledger, row_id: str, page: Path | None) -> dict[str, object]:
    """Explain the last logged prediction of a row. Raises ValueError when there is none."""
    require_binary(config.contract, "explaining what was served")
    row, prediction = logged_row(open_tables(config), config, row_id)
    version = choose_version(ledger, config.name, prediction["version"]).digest
    bundle = ModelBundle.load(Artifacts(config.artifacts_path).path(version), version)
    explainer = Explainer(bundle)
    [explanation] = explainer.explain(row)
    telling = Telling(explainer, public_columns(config.contract, bundle.contract), None)
    one = ExplainedPrediction(
        model=config.name,
        version=version,
        label=config.contract.label,
        scale=SCALES[bundle.contract.task],
        logged=prediction["probability"],
        explained=Explained.model_validate(telling.row(explanation, row.to_pylist()[0], row_id)),
        reference=ReferenceRow.model_validate(telling.reference(explanation.reference)),
    )
    if page is not None:
        page.write_text(render_explanation(one), encoding="utf-8")
    return {
        "model": one.model,
        "version": version,
        "prediction_id": prediction["prediction_id"],
        "logged": one.logged,
        "agrees": abs(one.logged - one.explained.probability) <= TOLERANCE,
        "scale": one.scale,
        "method": METHOD,
        "reference": one.reference.model_dump(),
        "explanation": one.explained.model_dump(),
        "page": None if page is None else str(page),
    }


def logged_row(tables: Tables, config: Config, row_id: str) -> tuple[pa.Table, dict[str, Any]]:
    """Read a row as it was last scored, one row, and the record of its prediction."""
    predictions = tables.read("predictions", filters=[("row_id", "==", row_id)])
    if not predictions.num_rows:
        raise ValueError(f"row {row_id}: no prediction of it is logged; see the ids in answers")
    last = predictions.sort_by("served_at").slice(predictions.num_rows - 1).to_pylist()[0]
    # A row and its prediction are kept with the same time.
    events = tables.read("events", filters=[(config.contract.id, "==", row_id)])
    scored = events.filter(pc.equal(events["ingested_at"], last["served_at"]))
    if not scored.num_rows:
        raise ValueError(f"row {row_id}: the values it was scored with are in the log no more")
    return scored.slice(0, 1), last


if __name__ == "__main__":
    typer.run(main)
