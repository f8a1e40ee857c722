"""Put together what a person should know of one version before relying on it: its model card.

Source of the outline: Mitchell et al., Model cards for model reporting (2019). Knows records and
the configuration; knows nothing of pages, files or Ray. Values of columns that are not public stand
nowhere on it; figures are those of records, none is computed here.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import AwareDatetime

from app.config import Config
from app.contracts.evaluations import EvaluationReport
from app.contracts.records import Evaluation, ModelVersion, TaskEvaluation
from app.contracts.rows import Contract, Frozen, Privacy

Role = Literal["champion", "challenger", "previous", "shadow", "none"]
NOT_STATED = "Not stated. State it in the configuration, under card.{key}."
OPTIMISM = (
    "These rows chose the number of epochs and fitted the calibrator, so that every figure here is "
    "somewhat too good. The weights that were measured are those of the search, which had not seen "
    "them; the weights that are served were trained again on them too. The gate judges the served "
    "weights on rows that nothing has seen."
)
TOGETHER = (
    "Intervals take rows as independent. Rows of one day share what happens that day, so that "
    "another month may lie outside them."
)
FIGURE_NAMES = {
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "calibration_error": "Calibration error",
    "accuracy": "Accuracy",
    "macro_roc_auc": "Macro ROC-AUC",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "ndcg_at_5": "NDCG@5",
    "ndcg_at_10": "NDCG@10",
    "mrr": "MRR",
}
RULES = {
    "threshold": "evaluation.threshold",
    "flagged_share": "evaluation.flagged_share, the likeliest first",
    "costs": "the break-even of evaluation.costs",
    "default": "the default, 0.5; choose another under evaluation",
}
FOUND_BY = {
    "declared": "declared",
    "loss": "high loss",
    "too_low": "predicted too low",
    "too_high": "predicted too high",
}


class Statement(Frozen):
    """What people say about the model, or that they have not."""

    term: str
    says: tuple[str, ...]
    stated: bool


class Fact(Frozen):
    """One line of lineage."""

    term: str
    value: str
    note: str = ""


class EpochLosses(Frozen):
    """What one pass over the rows came to."""

    number: int
    train_loss: float
    stop_loss: float | None = None


class CardColumn(Frozen):
    """A column and what becomes of its values."""

    name: str
    kind: str
    unit: str
    privacy: Privacy
    use: str
    description: str


class ModelCard(Frozen):
    """Everything that the card shows."""

    model: str
    digest: str
    run: str
    kind: Literal["trained", "recalibrated"]
    role: Role
    label: str
    task: str
    created_at: AwareDatetime
    lead_minutes: float
    num_rows_learned: int | None
    statements: tuple[Statement, ...]
    evaluation: Evaluation | TaskEvaluation
    gate: Evaluation | None = None
    report: EvaluationReport | None = None
    best_epoch: int | None = None
    epochs: tuple[EpochLosses, ...] = ()
    refit_epochs: tuple[EpochLosses, ...] = ()
    lineage: tuple[Fact, ...] = ()
    columns: tuple[CardColumn, ...] = ()
    reproduce: tuple[Fact, ...] = ()


def make_card(
    config: Config,
    version: ModelVersion,
    contract: Contract,
    facts: Mapping[str, Any],
    *,
    config_file: str,
    role: Role = "none",
    report: EvaluationReport | None = None,
    gate: Evaluation | None = None,
) -> ModelCard:
    """Make the card of a version; `contract` and `facts` are those inside its bundle."""
    return ModelCard(
        model=version.model,
        digest=version.digest,
        run=version.run,
        kind=version.kind,
        role=role,
        label=contract.label,
        task=contract.task,
        created_at=version.created_at,
        lead_minutes=contract.lead_minutes,
        num_rows_learned=facts.get("num_train_rows"),
        statements=_statements(config),
        evaluation=version.evaluation,
        gate=gate,
        report=report,
        best_epoch=facts.get("best_epoch"),
        epochs=_epochs(facts, "epochs"),
        refit_epochs=_epochs(facts, "refit_epochs"),
        lineage=_lineage(config, version, facts),
        columns=_columns(contract),
        reproduce=_reproduce(version, config_file),
    )


def _statements(config: Config) -> tuple[Statement, ...]:
    card = config.card
    said: tuple[tuple[str, str, tuple[str, ...]], ...] = (
        ("Purpose", "purpose", (card.purpose,) if card.purpose else ()),
        ("Users", "users", card.users),
        ("Not for", "out_of_scope", card.out_of_scope),
        ("Limits", "limits", card.limits),
        ("Contact", "contact", (card.contact,) if card.contact else ()),
    )
    return tuple(
        Statement(term=term, says=says or (NOT_STATED.format(key=key),), stated=bool(says))
        for term, key, says in said
    )


def _epochs(facts: Mapping[str, Any], name: str) -> tuple[EpochLosses, ...]:
    return tuple(
        EpochLosses(
            number=epoch["number"],
            train_loss=epoch["train_loss"],
            stop_loss=epoch.get("stop_loss"),
        )
        for epoch in facts.get(name, ())
    )


def _lineage(config: Config, version: ModelVersion, facts: Mapping[str, Any]) -> tuple[Fact, ...]:
    data = version.dataset
    learned = [f"{facts[key]:,} {name}" for key, name in _PARTS if key in facts]
    lines = [
        ("source", config.source.kind, ""),
        ("snapshot", data.digest, "sum of keyed row hashes"),
        ("rows asked", f"{_when(data.start)} to {_when(data.end)}", "the end is not included"),
        ("outcomes as of", _when(data.known_at), ""),
        ("rows", f"{data.num_rows:,}", f"{data.num_known:,} known, {data.num_void:,} void"),
        ("learned from", "; ".join(learned) or "not recorded", ""),
        ("kept for the gate", _held_out(version), "shaped nothing"),
        ("table versions", f"events {data.events_version}, labels {data.labels_version}", "Delta"),
        ("settings", version.config_digest, "contract, features, training"),
        ("code", version.code_version, "digest of the sources"),
        ("seed", str(version.seed), ""),
        ("parent", version.parent or "none", "was recalibrated" if version.parent else ""),
    ]
    if "num_parameters" in facts:
        lines.append(("parameters", f"{facts['num_parameters']:,}", ""))
    return tuple(Fact(term=term, value=value, note=note) for term, value, note in lines)


_PARTS = (("num_train_rows", "rows to train"), ("num_stop_rows", "to stop and calibrate"))


def _held_out(version: ModelVersion) -> str:
    share = version.held_out_share
    if share is not None:
        return f"{share.share:.0%} by a hash of the {share.by}"
    days = version.held_out_days
    return f"{len(days)} days, {days[0]} to {days[-1]}" if days else "none"


def _columns(contract: Contract) -> tuple[CardColumn, ...]:
    features = {column.name for column in contract.features}
    derived = {column.name for column in contract.derived}

    def use(name: str, privacy: Privacy) -> str:
        if privacy == "forbidden":
            return "never comes in"
        if name in derived:
            return "feature, from past events"
        return "feature" if name in features else "kept, no feature"

    return tuple(
        CardColumn(
            name=column.name,
            kind=column.kind,
            unit=column.unit,
            privacy=column.privacy,
            use=use(column.name, column.privacy),
            description=column.description,
        )
        for column in (*contract.columns, *contract.derived, *contract.forbidden)
    )


def _reproduce(version: ModelVersion, config_file: str) -> tuple[Fact, ...]:
    lines = [
        (
            "What it learned from, and whether that is intact",
            f"python -m jobs.ingest --config {config_file} --show {version.dataset.digest[:12]}",
        ),
        (
            "The same run again, compared with this one",
            f"python -m jobs.train --config {config_file} --repeat {version.run}",
        ),
        (
            "This card",
            f"python -m jobs.card --config {config_file} --version {version.digest[:12]}",
        ),
    ]
    if version.kind == "recalibrated":
        # Nothing was trained: there is a parent, and a calibrator fitted in the loop.
        lines.pop(1)
    return tuple(Fact(term=term, value=value) for term, value in lines)


def _when(at: AwareDatetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
