"""Draw for a terminal how good predictions were, as it was known at a time.

Knows the answer; knows nothing of tables, labels or how it was worked out.
"""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from app.contracts.maturity import Estimate, Maturity
from app.contracts.records import Evaluation, Metric
from app.monitoring.as_known import PerformanceAsKnown

WHOSE = {"ours": "to us", "world": "to the world"}


def render_as_known(answer: PerformanceAsKnown) -> RenderableType:
    """Draw an answer: what was known, what should still come, the figures, and why."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column()
    for name, value in _facts(answer):
        facts.add_row(name, value)
    head = f"{answer.model} as known {WHOSE[answer.knowledge]} at {answer.known_at:%Y-%m-%d %H:%M}"
    return Group(Text(f"{head} UTC", style="bold cyan"), facts)


def _facts(answer: PerformanceAsKnown) -> list[tuple[str, str]]:
    who = answer.version[:12] if answer.version else "the champions"
    rows = [
        ("predictions", f"{answer.num_predictions:,} of {who}, asked "
                        f"{answer.start:%Y-%m-%d %H:%M} to {answer.end:%Y-%m-%d %H:%M}"),
        ("outcomes", f"{answer.num_known:,} known, {answer.num_void:,} void, "
                     f"{answer.num_pending:,} pending: {answer.coverage:.1%} closed; "
                     f"{answer.num_revised:,} revised"),
        ("expected", f"{_share(answer.expected_coverage)} closed at these ages; "
                     f"{answer.num_to_come:,.0f} more to come, "
                     f"{answer.num_to_come_in_a_day:,.0f} of them within a day"),
        ("delays", _delays(answer.maturity)),
    ]  # fmt: skip
    if answer.performance is not None:
        rows += _figures(answer.performance)
    return [*rows, ("why", "\n".join(answer.reasons))]


def _figures(found: Evaluation) -> list[tuple[str, str]]:
    return [
        ("ROC-AUC", _metric(found.roc_auc, 3)),
        ("PR-AUC", _metric(found.pr_auc, 3)),
        ("Brier score", _metric(found.brier, 4)),
        ("log loss", f"{found.log_loss:.4f}"),
        ("calibration", f"error {found.calibration_error:.4f}; {found.positive_share:.3f} of "
                        f"outcomes are positive, {found.mean_probability:.3f} were predicted"),
    ]  # fmt: skip


def _delays(maturity: Maturity) -> str:
    age = maturity.learned_days
    learned = f"{maturity.num_closed:,} of {maturity.num_rows:,} recent rows have closed"
    if age.value is None:
        return f"{learned}; {maturity.target:.0%} were not seen to"
    low = "?" if age.low is None else f"{age.low:.1f}"
    high = "?" if age.high is None else f"{age.high:.1f}"
    return f"{maturity.target:.0%} close within {age.value:.1f} days ({low} to {high}); {learned}"


def _share(found: Estimate) -> str:
    if found.value is None or found.low is None or found.high is None:
        return "none"
    return f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})"


def _metric(found: Metric, digits: int) -> str:
    return f"{found.value:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"
