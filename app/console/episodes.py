"""Group the loop's decisions into episodes, the reigns of champions, and counts.

Knows decisions and their outcomes; knows nothing of HTML or of how anything was decided.
"""

from collections.abc import Sequence
from typing import Literal

from pydantic import AwareDatetime

from app.contracts.records import Decision, GateReport
from app.contracts.rows import Frozen

Ending = Literal[
    "promoted", "refused", "rolled back", "kept", "watching", "alert", "failed", "under way"
]

MAKING = ("retrain", "recalibrate")
WATCHING = ("watch", "keep", "rollback")
ENDINGS: dict[str, Ending] = {
    "promote": "promoted",
    "refuse": "refused",
    "rollback": "rolled back",
    "keep": "kept",
    "watch": "watching",
    "alert": "alert",
}


class Episode(Frozen):
    """Decisions that belong together, from what set them off to how they ended."""

    number: int
    at: AwareDatetime
    ending: Ending
    title: str
    steps: tuple[Decision, ...]
    gate: GateReport | None = None
    first_model: bool = False


class Reign(Frozen):
    """The time in which one version answered requests."""

    number: int
    version: str
    start: AwareDatetime
    end: AwareDatetime | None = None


class Counts(Frozen):
    """What the loop did after its first model was in place."""

    retrainings: int = 0
    recalibrations: int = 0
    promotions: int = 0
    refusals: int = 0
    rollbacks: int = 0
    alerts: int = 0


def episodes(decisions: Sequence[Decision]) -> list[Episode]:
    """Group decisions, oldest first.

    A gate and its verdict belong to the training before them, looks and their verdict to a watch.
    """
    groups: list[list[Decision]] = []
    made: list[Decision] = []
    watch: list[Decision] = []
    for decision in _acts(decisions):
        kind = decision.action.kind
        if kind in WATCHING:
            if not watch or watch[-1].action.kind != "watch":
                watch = []
                groups.append(watch)
            watch.append(decision)
        elif kind in (*MAKING, "alert") or not made:
            made = [decision]
            groups.append(made)
        else:
            made.append(decision)
    told: list[Episode] = []
    for steps in groups:
        first = not any(episode.ending == "promoted" for episode in told)
        told.append(_episode(len(told) + 1, steps, first=first))
    return told


def count_acts(decisions: Sequence[Decision]) -> Counts:
    """Count what the loop did, the first model apart."""
    later = [episode for episode in episodes(decisions) if not episode.first_model]
    kinds = [step.action.kind for episode in later for step in episode.steps if done(step)]
    return Counts(
        retrainings=kinds.count("retrain"),
        recalibrations=kinds.count("recalibrate"),
        promotions=kinds.count("promote"),
        refusals=kinds.count("refuse"),
        rollbacks=kinds.count("rollback"),
        alerts=kinds.count("alert"),
    )


def reigns(decisions: Sequence[Decision]) -> list[Reign]:
    """List who was champion when; a roll back puts the previous champion in place again."""
    told: list[Reign] = []
    numbers: dict[str, int] = {}
    for decision in _acts(decisions):
        version = _new_champion(decision, told)
        if version is None or (told and told[-1].version == version):
            continue
        if told:
            told[-1] = told[-1].model_copy(update={"end": decision.at})
        number = numbers.setdefault(version, len(numbers) + 1)
        told.append(Reign(number=number, version=version, start=decision.at))
    return told


def gate_of(decision: Decision) -> GateReport | None:
    """Find the gate's report in a decision's outcome."""
    found = (decision.outcome or {}).get("gate")
    return None if found is None else GateReport.model_validate(found)


def _acts(decisions: Sequence[Decision]) -> list[Decision]:
    """Put decisions into the order of time; observing is no act."""
    acts = [each for each in decisions if each.action.kind not in ("observe", "arrange")]
    return sorted(acts, key=lambda decision: (decision.at, decision.key))


def _episode(number: int, steps: Sequence[Decision], *, first: bool) -> Episode:
    last = steps[-1]
    ending: Ending = ENDINGS.get(last.action.kind, "under way") if done(last) else "under way"
    if last.outcome is not None and not done(last):
        ending = "failed"
    gates = [gate for step in steps if (gate := gate_of(step)) is not None]
    first_model = first and steps[0].action.kind in MAKING and ending == "promoted"
    return Episode(
        number=number,
        at=last.at,
        ending=ending,
        title="First model trained and put to work" if first_model else _title(steps, ending),
        steps=tuple(steps),
        gate=gates[-1] if gates else None,
        first_model=first_model,
    )


def _title(steps: Sequence[Decision], ending: Ending) -> str:
    """Name an episode by how it began and ended."""
    opening = steps[0].action
    cause = (opening.cause or "").replace("_", " ")
    made = {"retrain": "Retrained", "recalibrate": "Recalibrated"}.get(opening.kind)
    if made is None:
        return {
            "alert": f"Alert: {cause}",
            "rolled back": "Took back the promotion: the previous champion answers again",
            "kept": "Watch over: the champion stays",
            "watching": "Watching the new champion",
        }.get(ending, f"{opening.kind.capitalize()}: {ending}")
    return {
        "promoted": f"{made}, passed the gate, promoted",
        "refused": f"{made}, refused by the gate",
    }.get(ending, f"{made}: {ending}")


def done(decision: Decision) -> bool:
    """Say whether an act was carried out to its end."""
    return decision.outcome is not None and decision.outcome.get("status", "done") == "done"


def _new_champion(decision: Decision, told: Sequence[Reign]) -> str | None:
    """Say which version a decision put in place; the roles in its outcome know best."""
    if decision.action.kind not in ("promote", "rollback") or not done(decision):
        return None
    roles = (decision.outcome or {}).get("roles")
    if isinstance(roles, dict) and roles.get("champion"):
        return str(roles["champion"])
    if decision.action.kind == "promote":
        return decision.action.candidate
    return told[-2].version if len(told) > 1 else None
