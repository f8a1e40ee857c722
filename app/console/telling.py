"""Tell the loop's decisions as HTML: what set them off, how they ended, what the gate measured.

Knows episodes and markup; knows nothing of how anything was decided.
"""

from collections.abc import Sequence

from app.console.episodes import MAKING, Episode, done, episodes
from app.console.figure import MARKS
from app.console.gate import gate_figure
from app.console.markup import Markup, tag
from app.console.story import LoopReport, day, month_name
from app.contracts.records import Decision


def decisions_section(report: LoopReport) -> Markup:
    """Tell every episode with its reasons, oldest first."""
    told = episodes(report.decisions)
    listed = tag("ol", *(_episode(one) for one in told), class_="story")
    nothing = tag("p", "The loop took no decision in this time.")
    return tag(
        "section",
        tag("h2", "What the loop decided, and why"),
        tag("p", "Every reason was written to the journal before the act, the outcome after it."),
        listed if told else nothing,
    )


def _episode(one: Episode) -> Markup:
    style = "calm" if one.first_model else MARKS[one.ending]
    looks = [step for step in one.steps if step.action.kind == "watch" and not _is_final(step, one)]
    # The verdict after a gate repeats its report, which is drawn at the right.
    told = [
        step
        for step in one.steps
        if step.action.kind not in ("watch", "gate") or one.ending == "failed"
    ]
    steps = [*_looks(looks), *(part for step in told for part in _step(step))]
    return tag(
        "li",
        tag("div", str(one.number), class_=f"badge {style}"),
        tag(
            "div",
            tag("h3", tag("time", day(one.at), datetime=one.at.isoformat()), one.title),
            tag("dl", *steps, class_="steps"),
        ),
        gate_figure(one.gate)
        if one.gate is not None and one.gate.auc_gain is not None
        else Markup(""),
        id=f"decision-{one.number}",
    )


def _step(step: Decision) -> list[Markup]:
    """Tell one act: why, and how it ended. Slices are drawn, so they are told in small."""
    reasons = [
        tag("li", reason) for reason in step.action.reasons if not reason.startswith("slice ")
    ]
    slices = [reason for reason in step.action.reasons if reason.startswith("slice ")]
    cause = step.action.cause
    if cause not in (None, "healthy"):
        reasons.insert(0, tag("li", "diagnosis: ", tag("b", str(cause).replace("_", " "))))
    small = [
        tag("div", text, class_="outcome") for text in ("; ".join(slices), _outcome(step)) if text
    ]
    return [tag("dt", step.action.kind), tag("dd", tag("ul", *reasons), *small)]


def _is_final(look: Decision, one: Episode) -> bool:
    """Say whether a look only says what the verdict after it says again."""
    watch = (look.outcome or {}).get("watch")
    return (
        one.ending in ("kept", "rolled back")
        and isinstance(watch, dict)
        and watch.get("verdict") != "wait"
    )


def _looks(looks: Sequence[Decision]) -> list[Markup]:
    """Tell the looks of a watch, a line each."""
    if not looks:
        return []
    lines = []
    for look in looks:
        watch = (look.outcome or {}).get("watch")
        verdict = (
            f"{watch.get('verdict')}: {'; '.join(watch.get('reasons', ()))}"
            if isinstance(watch, dict)
            else ""
        )
        said = verdict or _outcome(look) or "; ".join(look.action.reasons)
        lines.append(tag("li", f"{look.at.day} {month_name(f'{look.at:%Y-%m}', 3)}: {said}"))
    return [tag("dt", "watch"), tag("dd", tag("ul", *lines))]


def _outcome(step: Decision) -> str:
    """Tell how an act ended, as far as its reasons have not said so."""
    if step.outcome is None:
        return "under way"
    said = []
    if not done(step):
        said.append(f"failed: {step.outcome.get('reason') or 'no reason was given'}")
    version = step.outcome.get("version")
    if version and step.action.kind in MAKING:
        said.append(f"made version {str(version)[:12]}")
    roles = step.outcome.get("roles")
    if isinstance(roles, dict):
        said.append(
            f"generation {roles.get('generation')}: {str(roles.get('champion'))[:12]} answers"
        )
    problems = step.outcome.get("problems")
    said += [str(problem) for problem in problems] if isinstance(problems, list | tuple) else []
    return " · ".join(said)
