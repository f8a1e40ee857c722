"""Report in depth how a fitted model does on the rows that stopped its training.

The weights are those of the search, which has not seen these rows; but the rows chose the number of
epochs and fitted the calibrator, so that every figure is somewhat too good. The gate judges on rows
that nothing has seen. Knows bundles, rows and the evaluation section; knows no Ray, no clock.
"""

from pathlib import Path

import pyarrow as pa

from app.contracts.evaluations import EvaluationReport, Importance
from app.data.statistics import any_column
from app.model.bundle import ModelBundle
from app.model.curves import curves
from app.model.importance import permuted_importance, spread_places
from app.model.intervals import Array, Bootstrap
from app.model.measures import ROW_LOSSES, figures_of, labels_of, losses_of
from app.model.operating import choose_threshold, operate, price
from app.sections import EvaluationConfig
from app.training.slicing import Judged, declared_slices, search_slices

REPORT_FILE = "evaluation.json"


def report_on(
    bundle: ModelBundle,
    rows: pa.Table,
    config: EvaluationConfig,
    *,
    run: str,
    seed: int,
    by_day: bool = True,
) -> EvaluationReport:
    """Measure a bundle on rows with known outcomes; the same input gives the same report.

    `by_day` says whether rows of one day are alike, as they are where a split goes by day.
    Raises ValueError where the rows cannot be measured, such as when they hold one outcome only.
    """
    contract, predictions = bundle.contract, bundle.predict(rows)
    bootstrap = Bootstrap(len(rows), config.num_bootstraps, config.confidence, seed)
    asked = any_column(rows, "prediction_time")
    report = EvaluationReport(
        task=contract.task,
        run=run,
        start=asked[0].as_py(),
        end=asked[-1].as_py(),
        num_rows=len(rows),
        confidence=config.confidence,
        num_bootstraps=config.num_bootstraps,
        figures=figures_of(contract, rows, predictions, bootstrap),
        loss=ROW_LOSSES.get(contract.task, ""),
        outcome=None if contract.task == "multiclass" else float(labels_of(rows).mean()),
    )
    if contract.task == "binary":
        report = _with_decisions(report, labels_of(rows), predictions, config, bootstrap)
    if contract.task not in ROW_LOSSES:
        return report
    judged = Judged(contract, rows, predictions, by_day)
    found: dict[str, object] = {
        "declared": tuple(declared_slices(judged, config, seed)),
        "search": search_slices(judged, config, seed) if config.max_slices else None,
        "importance": _importance(bundle, rows, config, seed),
        "importance_rows": len(spread_places(len(rows), config.importance_rows)),
    }
    return report.model_copy(update=found)


def find_report(folder: Path) -> EvaluationReport | None:
    """Read the report of a run's folder; None where there is none."""
    file = folder / REPORT_FILE
    return EvaluationReport.model_validate_json(file.read_bytes()) if file.exists() else None


def _with_decisions(
    report: EvaluationReport,
    labels: Array,
    probabilities: Array,
    config: EvaluationConfig,
    bootstrap: Bootstrap,
) -> EvaluationReport:
    """Add what follows from flagging rows, and the curves."""
    chosen = choose_threshold(probabilities, config)
    costs = (
        None
        if config.costs is None
        else price(labels, probabilities, chosen.threshold, config.costs, bootstrap)
    )
    decisions: dict[str, object] = {
        "operating": operate(labels, probabilities, chosen, bootstrap),
        "costs": costs,
        "curves": curves(labels, probabilities, config.confidence),
    }
    return report.model_copy(update=decisions)


def _importance(
    bundle: ModelBundle, rows: pa.Table, config: EvaluationConfig, seed: int
) -> tuple[Importance, ...]:
    names = [column.name for column in bundle.contract.features]
    sample = rows.take(spread_places(len(rows), config.importance_rows)).combine_chunks()
    labels = labels_of(sample)

    def losses(table: pa.Table) -> Array:
        return losses_of(bundle.contract.task, labels, bundle.predict(table))

    return permuted_importance(
        losses,
        sample,
        names,
        num_repeats=config.importance_repeats,
        confidence=config.confidence,
        seed=seed,
    )
