"""A finished replay for tests: three months, four policies, a promotion, a refusal, a roll back."""

from datetime import UTC, date, datetime

from app.console.story import LoopReport
from app.contracts.records import (
    Action,
    ColumnDrift,
    DatasetVersion,
    Decision,
    Evaluation,
    Evidence,
    GateReport,
    Metric,
    ModelVersion,
)
from app.loop.rehearsal import MonthScore, PolicyScores, Scoreboard

FIRST, SECOND, THIRD = "1" * 64, "2" * 64, "3" * 64
AUC = {
    "static": (0.650, 0.700, 0.690),
    "last3": (0.650, 0.710, 0.660),
    "all": (0.650, 0.720, 0.700),
    "loop": (0.650, 0.715, 0.705),
}


def board(auc: dict[str, tuple[float | None, ...]] | None = None) -> Scoreboard:
    policies = tuple(
        PolicyScores(
            policy=name,
            months=tuple(
                MonthScore(
                    month=f"2013-{number:02d}",
                    num_rows=100 * number,
                    positive_share=0.2 + number / 100,
                    mean_probability=0.25,
                    roc_auc=value,
                    pr_auc=None if value is None else value - 0.2,
                    brier=0.15,
                )
                for number, value in enumerate(values, 4)
            ),
        )
        for name, values in (auc or AUC).items()
    )
    span = {"start": date(2013, 4, 1), "until": date(2013, 7, 1)}
    return Scoreboard(model="flights", label="late", num_rows=1500, policies=policies, **span)


def report(**changes: object) -> LoopReport:
    parts = {
        "scoreboard": board(),
        "evidence": (evidence(12), evidence(19), evidence(26)),
        "decisions": tuple(decisions()),
        "versions": (version(FIRST), version(SECOND)),
        "requests": 321,
    }
    return LoopReport.model_validate(parts | changes)


def evaluation(auc: float = 0.7) -> Evaluation:
    around = Metric(value=auc, low=auc - 0.01, high=auc + 0.01)
    return Evaluation(
        num_rows=900,
        positive_share=0.2,
        mean_probability=0.2,
        roc_auc=around,
        pr_auc=around,
        brier=around,
        log_loss=0.5,
        calibration_error=0.02,
    )


def gate(*, passed: bool = True) -> GateReport:
    gain = Metric(value=0.02, low=0.01, high=0.03)
    return GateReport(
        passed=passed,
        reasons=("AUC gain +0.0200",),
        num_rows=900,
        num_days=10,
        champion=evaluation(),
        candidate=evaluation(0.72),
        auc_gain=gain,
        brier_gain=gain,
        slices={"origin=EWR": gain},
    )


def evidence(day: int) -> Evidence:
    end = datetime(2013, 4, day, tzinfo=UTC)
    drifts = [("temperature", 1.5), ("distance", 0.01)]
    columns = [
        ColumnDrift(column=name, psi=psi, null_share=0, reference_null_share=0, unseen_share=0)
        for name, psi in drifts
    ]
    return Evidence(
        model="flights",
        version=FIRST,
        start=datetime(2013, 4, 1, tzinfo=UTC),
        end=end,
        known_at=end,
        num_predictions=1000,
        num_known=900,
        num_void=10,
        coverage=0.91,
        performance=evaluation(0.66) if day > 12 else None,
        reference=evaluation(),
        columns=tuple(columns),
    )


def version(digest: str) -> ModelVersion:
    at = datetime(2013, 4, 1, tzinfo=UTC)
    dataset = DatasetVersion(
        start=datetime(2013, 1, 1, tzinfo=UTC),
        end=at,
        known_at=at,
        events_version=1,
        labels_version=1,
        digest="d" * 32,
        num_rows=90,
        num_known=80,
        num_void=5,
    )
    return ModelVersion(
        digest=digest,
        model="flights",
        run="flights-0000-retrain",
        kind="trained",
        created_at=at,
        dataset=dataset,
        trained_until=at,
        held_out_days=(),
        config_digest="c" * 16,
        code_version="f" * 16,
        seed=7,
        evaluation=evaluation(),
    )


class Journal:
    """Write decisions down as the steward does."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []

    def act(self, kind: str, month: int, day: int, *reasons: str, **outcome: object) -> None:
        action = Action.model_validate(
            {
                "kind": kind,
                "reasons": reasons or (f"why {kind}",),
                "candidate": outcome.pop("candidate", None),
                "cause": outcome.pop("cause", None),
            }
        )
        decision = Decision(
            key=f"flights-{len(self.decisions):04d}-{kind}",
            model="flights",
            at=datetime(2013, month, day, tzinfo=UTC),
            action=action,
            epoch=1,
            outcome={"status": "done"} | outcome,
        )
        self.decisions.append(decision)

    def make(self, month: int, day: int, candidate: str, *, promoted: bool) -> None:
        self.act("retrain", month, day, "drifted", cause="covariate_shift", version=candidate)
        judged = gate(passed=promoted).model_dump(mode="json")
        self.act("gate", month, day, candidate=candidate, gate=judged)
        if not promoted:
            self.act("refuse", month, day, candidate=candidate)
            return
        self.act("promote", month, day, candidate=candidate, roles=roles(candidate))


def roles(champion: str) -> dict[str, object]:
    return {"model": "flights", "generation": 1, "champion": champion}


def decisions() -> list[Decision]:
    """First model; a promotion that is watched and kept; one that is taken back; a refusal."""
    journal = Journal()
    journal.make(4, 1, FIRST, promoted=True)
    journal.make(5, 1, SECOND, promoted=True)
    journal.act("watch", 5, 8, watch={"verdict": "wait", "reasons": ["too few outcomes"]})
    journal.act("alert", 5, 10, cause="broken_data")
    journal.act("watch", 5, 22, watch={"verdict": "harm", "reasons": ["AUC lost"]})
    journal.act("rollback", 5, 22, "AUC lost", roles=roles(FIRST))
    journal.make(6, 1, THIRD, promoted=False)
    return journal.decisions
