"""Name the cause of what the evidence shows, the most dangerous first.

Knows evidence and effect sizes; knows nothing of what will be done about the cause.
"""

from app.contracts.records import Cause, ColumnDrift, Diagnosis, Evaluation, Evidence
from app.sections import DiagnosisConfig


def diagnose(evidence: Evidence, config: DiagnosisConfig) -> Diagnosis:
    """Name one cause: what must not be trained on comes before what training cures.

    The order is broken data, unseen categories, serving skew, too few labels, concept drift, prior
    shift, covariate shift, healthy. Whatever the cause, `columns` of a labelled one lists the
    shifted columns.
    """
    for look in (_broken_data, _unseen_categories, _serving_skew, _too_few_labels):
        found = look(evidence, config)
        if found is not None:
            return found
    assert evidence.performance is not None
    shifted = shifted_columns(evidence, config)
    names = tuple(column.column for column in shifted)
    for cause, reasons in (
        ("concept_drift", _concept_drift(evidence.performance, evidence.reference, config)),
        ("prior_shift", _prior_shift(evidence.performance, config)),
        ("covariate_shift", _covariate_shift(shifted, len(evidence.columns), config)),
    ):
        if reasons:
            return _diagnosis(cause, reasons, names)
    return _diagnosis("healthy", [_figures(evidence.performance, evidence.reference)], ())


def shifted_columns(evidence: Evidence, config: DiagnosisConfig) -> list[ColumnDrift]:
    """List the columns above the PSI threshold, the worst first."""
    over = [column for column in evidence.columns if column.psi > config.psi]
    return sorted(over, key=lambda column: (-column.psi, column.column))


def _diagnosis(cause: str, reasons: list[str], columns: tuple[str, ...]) -> Diagnosis:
    return Diagnosis.model_validate({"cause": cause, "reasons": reasons, "columns": columns})


def _named(cause: Cause, found: dict[str, str]) -> Diagnosis | None:
    if not found:
        return None
    return Diagnosis(
        cause=cause,
        reasons=tuple(found.values()),
        columns=tuple(name for name in found if name),
    )


def _broken_data(evidence: Evidence, config: DiagnosisConfig) -> Diagnosis | None:
    found: dict[str, str] = {}
    num_seen = evidence.num_predictions + evidence.num_quarantined
    share = evidence.num_quarantined / num_seen if num_seen else 0.0
    if share > config.quarantined_share:
        found[""] = (
            f"{evidence.num_quarantined:,} of {num_seen:,} rows were quarantined ({share:.1%}, "
            f"limit {config.quarantined_share:.1%})"
        )
    for column in evidence.columns:
        jump = column.null_share - column.reference_null_share
        if jump > config.null_share_jump:
            found[column.column] = (
                f"{column.column} is null in {column.null_share:.1%} of rows, "
                f"{column.reference_null_share:.1%} in training (jump over "
                f"{config.null_share_jump:.1%})"
            )
    return _named("broken_data", found)


def _unseen_categories(evidence: Evidence, config: DiagnosisConfig) -> Diagnosis | None:
    found = {
        column.column: (
            f"{column.column} holds values unknown to the model in {column.unseen_share:.1%} of "
            "rows "
            f"(limit {config.unseen_share:.1%})"
        )
        for column in evidence.columns
        if column.unseen_share > config.unseen_share
    }
    return _named("unseen_categories", found)


def _serving_skew(evidence: Evidence, config: DiagnosisConfig) -> Diagnosis | None:
    if evidence.skewed_share <= config.skewed_share:
        return None
    reason = (
        f"{evidence.skewed_share:.1%} of logged predictions are not what the version's own "
        "bundle computes "
        f"(limit {config.skewed_share:.1%})"
    )
    return _named("serving_skew", {"": reason})


def _too_few_labels(evidence: Evidence, config: DiagnosisConfig) -> Diagnosis | None:
    if evidence.performance is not None and evidence.num_known >= config.min_labels:
        return None
    reason = (
        f"{evidence.num_known:,} outcomes are known for {evidence.num_predictions:,} predictions "
        f"({evidence.coverage:.0%} closed), {config.min_labels:,} are needed"
    )
    return _named("too_few_labels", {"": reason})


def _concept_drift(live: Evaluation, reference: Evaluation, config: DiagnosisConfig) -> list[str]:
    loss = reference.roc_auc.value - live.roc_auc.value
    # A drop inside the interval of the window itself is noise, however large.
    if loss < config.auc_loss or live.roc_auc.high >= reference.roc_auc.value:
        return []
    return [
        f"AUC {live.roc_auc.value:.3f} ({live.roc_auc.low:.3f} to {live.roc_auc.high:.3f}) is "
        f"{loss:.3f} under its reference {reference.roc_auc.value:.3f} (limit "
        f"{config.auc_loss:.3f})"
    ]


def _prior_shift(live: Evaluation, config: DiagnosisConfig) -> list[str]:
    reasons = []
    gap = live.positive_share - live.mean_probability
    if abs(gap) > config.calibration_error:
        reasons.append(
            f"{live.positive_share:.3f} of outcomes are positive, {live.mean_probability:.3f} "
            "were predicted "
            f"(gap {gap:+.3f}, limit {config.calibration_error:.3f})"
        )
    if live.calibration_error > config.calibration_error:
        reasons.append(
            f"calibration error {live.calibration_error:.3f} is over {config.calibration_error:.3f}"
        )
    return reasons


def _covariate_shift(
    shifted: list[ColumnDrift], num_columns: int, config: DiagnosisConfig
) -> list[str]:
    if not shifted:
        return []
    worst = shifted[0]
    return [
        f"{len(shifted)} of {num_columns} columns shifted by PSI over {config.psi:g} "
        f"(worst {worst.column}, PSI {worst.psi:.1f})"
    ]


def _figures(live: Evaluation, reference: Evaluation) -> str:
    return (
        f"AUC {live.roc_auc.value:.3f} against {reference.roc_auc.value:.3f}, calibration error "
        f"{live.calibration_error:.3f}, no column shifted"
    )
