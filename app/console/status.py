"""Read where everything stands from the ledger: clock, roles, replicas, monitor, loop, decisions.

Knows the ledger only; asks no process and opens no table, so that it takes milliseconds and works
while parts are down. Reads; never writes.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import AwareDatetime, Field
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from app.config import Config
from app.contracts.records import Decision, Evidence, Phase, Roles
from app.contracts.rows import Frozen
from app.ledger.clock import read_clock
from app.ledger.database import Ledger
from app.ledger.decisions import read_decisions
from app.ledger.erasures import read_erasures
from app.ledger.evidence import read_evidence
from app.ledger.progress import Progress, read_progress
from app.ledger.states import read_state
from app.registry.marks import erased_versions
from app.registry.replicas import Replica, live_replicas
from app.registry.store import read_roles

NUM_RECENT = 8
_UNUSED = datetime(1970, 1, 1, tzinfo=UTC)


class ReplicaStatus(Frozen):
    """One serving replica."""

    name: str
    generation: int
    resident: tuple[str, ...]
    problems: dict[str, str]
    silent_seconds: float


class DecisionStatus(Frozen):
    """One decision of the loop, as people read it."""

    key: str
    at: AwareDatetime
    action: str
    cause: str | None
    reasons: tuple[str, ...]
    outcome: str


class DecisionCounts(Frozen):
    """What the loop has done since it began; failed acts are counted apart."""

    retrainings: int = 0
    recalibrations: int = 0
    promotions: int = 0
    refusals: int = 0
    rollbacks: int = 0
    alerts: int = 0
    failures: int = 0


class Status(Frozen):
    """Where one model stands. Counts are of distinct rows since the log began."""

    model: str
    now: AwareDatetime
    watermark: AwareDatetime
    roles: Roles
    replicas: tuple[ReplicaStatus, ...] = ()
    phase: Phase = "observe"
    monitor_watermark: AwareDatetime | None = None
    monitor_doing: str = "not started"
    monitor_problem: str | None = None
    steward_watermark: AwareDatetime | None = None
    steward_doing: str = "not started"
    num_predictions: int = 0
    num_repeated_predictions: int = 0
    num_lost_predictions: int = 0
    num_labels: int = 0
    num_unknown_labels: int = 0
    num_events: int = 0
    num_quarantined: int = 0
    num_evidence: int = 0
    evidence: Evidence | None = None
    counts: DecisionCounts = DecisionCounts()
    decisions: tuple[DecisionStatus, ...] = ()
    metrics_url: str | None = None
    reports: tuple[str, ...] = ()
    erasures: tuple[str, ...] = ()
    marked: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="Receipts of what each version had learned and is erased."
    )


_COUNTED = tuple(name for name in Status.model_fields if name.startswith("num_"))


def read_status(config: Config, ledger: Ledger, wall: datetime | None = None) -> Status:
    """Read the status of a model.

    With `wall`, the machine's time, only replicas heard of within ten seconds are listed; without
    it, those heard of within ten seconds of the newest one. A model on a wall clock needs it.
    """
    progress = read_progress(ledger, config.name)
    monitor, steward = progress.get("monitor"), progress.get("steward")
    if config.clock == "wall" and wall is None:
        raise ValueError("status: a wall clock needs the machine's time; give read_status a wall")
    clock = read_clock(ledger, config, wall or _UNUSED)
    decisions = read_decisions(ledger, config.name)
    latest = read_evidence(ledger, config.name, limit=1)
    told = dict(monitor.detail) if monitor else {}
    return Status(
        model=config.name,
        now=clock.now,
        watermark=clock.watermark,
        roles=read_roles(ledger, config.name),
        replicas=_replicas(ledger, config.name, wall.timestamp() if wall else None),
        phase=read_state(ledger, config.name).phase,
        monitor_watermark=monitor.watermark if monitor else None,
        monitor_doing=_doing(monitor),
        monitor_problem=told.get("problem"),
        steward_watermark=steward.watermark if steward else None,
        steward_doing=_doing(steward),
        evidence=latest[-1] if latest else None,
        counts=count_decisions(decisions),
        decisions=tuple(_decision(item) for item in decisions[-NUM_RECENT:]),
        metrics_url=told.get("metrics_url"),
        reports=tuple(told.get("reports", ())),
        erasures=tuple(each.receipt for each in read_erasures(ledger, config.name)),
        marked=erased_versions(ledger, config.name),
        **{name: int(told.get(name, 0)) for name in _COUNTED},
    )


def count_decisions(decisions: Sequence[Decision]) -> DecisionCounts:
    """Count completed decisions by what they did."""
    names = {
        "retrain": "retrainings",
        "recalibrate": "recalibrations",
        "promote": "promotions",
        "refuse": "refusals",
        "rollback": "rollbacks",
        "alert": "alerts",
    }
    counts: dict[str, int] = {}
    for decision in decisions:
        if decision.outcome is None:
            continue
        failed = decision.outcome.get("status") == "failed"
        name = "failures" if failed else names.get(decision.action.kind)
        if name is not None:
            counts[name] = counts.get(name, 0) + 1
    return DecisionCounts(**counts)


def render_status(status: Status) -> RenderableType:
    """Draw a status for a terminal."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column()
    for name, value in _facts(status):
        facts.add_row(name, value)
    parts: list[RenderableType] = [Text(f"{status.model}", style="bold cyan"), facts]
    if status.decisions:
        parts.append(_decisions_table(status.decisions))
    return Group(*parts)


def _facts(status: Status) -> list[tuple[str, str]]:
    roles = status.roles
    counts = status.counts
    return [
        ("clock", f"{status.now:%Y-%m-%d %H:%M} UTC, "
                  f"all sent before {status.watermark:%Y-%m-%d %H:%M}"),
        ("champion", f"{_short(roles.champion)}, generation {roles.generation}, "
                     f"previous {_short(roles.previous)}, challenger {_short(roles.challenger)}"),
        ("shares", roles.shares.told(status.now)),
        ("shadow", _short(roles.shadow)),
        ("replicas", ", ".join(_replica_text(replica) for replica in status.replicas) or "none"),
        ("log", f"{status.num_predictions:,} predictions, {status.num_labels:,} labels "
                f"({status.num_unknown_labels:,} for unknown ids), "
                f"{status.num_quarantined:,} rows quarantined{_lost_text(status)}"),
        ("evidence", _evidence_text(status.evidence)),
        ("maturity", _maturity_text(status.evidence)),
        ("monitor", status.monitor_problem or status.monitor_doing),
        ("loop", f"{status.phase}: {status.steward_doing}"),
        ("so far", f"{counts.retrainings} retrainings, {counts.recalibrations} recalibrations, "
                   f"{counts.promotions} promotions, {counts.refusals} refusals, "
                   f"{counts.rollbacks} rollbacks, {counts.failures} failures"),
        *_erasure_facts(status),
    ]  # fmt: skip


def _lost_text(status: Status) -> str:
    lost = status.num_lost_predictions
    return f"; {lost:,} predictions answered and not kept" if lost else ""


def _erasure_facts(status: Status) -> list[tuple[str, str]]:
    """Say whose models had learned from erased rows; nothing where nobody was erased."""
    if not status.erasures:
        return []
    champion = status.marked.get(status.roles.champion or "", ())
    told = f"{len(status.erasures)} erasures, {len(status.marked)} versions had learned from them"
    if champion:
        told += f"; so had the champion ({', '.join(champion)}): the next training will not"
    return [("erased", told)]


def _decisions_table(decisions: Sequence[DecisionStatus]) -> Table:
    table = Table("when", "what", "why", "outcome", title="decisions", title_justify="left")
    for item in decisions:
        what = f"{item.action} ({item.cause})" if item.cause else item.action
        table.add_row(f"{item.at:%Y-%m-%d}", what, "\n".join(item.reasons), item.outcome)
    return table


def _evidence_text(evidence: Evidence | None) -> str:
    if evidence is None:
        return "none yet"
    head = f"{evidence.start:%Y-%m-%d} to {evidence.end:%Y-%m-%d} of {_short(evidence.version)}"
    if evidence.performance is None:
        return f"{head}: {evidence.num_known:,} labels, too few to judge"
    live = evidence.performance
    auc = live.roc_auc
    return (
        f"{head}: AUC {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f}), "
        f"Brier {live.brier.value:.4f} on {live.num_rows:,} labels"
    )


def _maturity_text(evidence: Evidence | None) -> str:
    """Say how old predictions had to be to count, and what the delays of outcomes teach."""
    if evidence is None or evidence.maturity is None:
        return "nothing learned yet"
    found = evidence.maturity
    days = found.learned_days.value
    learned = (
        f"not seen to reach {found.target:.0%}"
        if days is None
        else (f"{found.target:.0%} of outcomes come within {days:.1f} days")
    )
    return f"{found.days:.1f} days ({found.mode}); learned from {found.num_rows:,} rows: {learned}"


def _replica_text(replica: ReplicaStatus) -> str:
    problems = f", {len(replica.problems)} versions cannot be loaded" if replica.problems else ""
    return f"{replica.name[:12]} at generation {replica.generation}{problems}"


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none"


def _doing(progress: Progress | None) -> str:
    """Give the sentence in which a part says what it does and why."""
    return "not started" if progress is None else str(progress.detail.get("says", ""))


def _decision(decision: Decision) -> DecisionStatus:
    outcome = decision.outcome
    if outcome is None:
        told = "under way"
    else:
        told = str(outcome.get("reason") or outcome.get("status") or "done")
    return DecisionStatus(
        key=decision.key,
        at=decision.at,
        action=decision.action.kind,
        cause=decision.action.cause,
        reasons=decision.action.reasons,
        outcome=told,
    )


def _replicas(ledger: Ledger, model: str, wall: float | None) -> tuple[ReplicaStatus, ...]:
    """List live replicas; without the machine's time, those heard of about when the newest was."""
    if wall is None:
        known = live_replicas(ledger, model, wall=0.0)
        wall = max((replica.seen for replica in known), default=0.0)
    live = live_replicas(ledger, model, wall)
    return tuple(_replica(replica, wall) for replica in live)


def _replica(replica: Replica, wall: float) -> ReplicaStatus:
    return ReplicaStatus(
        name=replica.replica,
        generation=replica.generation,
        resident=replica.resident,
        problems=replica.problems,
        silent_seconds=max(0.0, wall - replica.seen),
    )
