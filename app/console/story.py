"""Turn a finished replay into words: the headline, what follows it, numbers and dates.

Knows the records of the loop and how a person reads numbers; knows nothing of HTML or of how
anything was decided.
"""

from datetime import date

from pydantic import AwareDatetime

from app.console.episodes import count_acts
from app.contracts.records import Decision, Evidence, ModelVersion
from app.contracts.rows import Frozen
from app.loop.rehearsal import PolicyScores, Scoreboard

MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
NUMBERS = [
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]


class LoopReport(Frozen):
    """Everything the page shows of one replay."""

    scoreboard: Scoreboard
    evidence: tuple[Evidence, ...] = ()
    decisions: tuple[Decision, ...] = ()
    versions: tuple[ModelVersion, ...] = ()
    requests: int = 0
    failed: int = 0
    made_at: AwareDatetime | None = None


def headline(report: LoopReport) -> str:
    """Say the result in one sentence, whichever way it went."""
    board = report.scoreboard
    loop, static = board.of("loop"), board.of("static")
    months = count(len(board.months), "month")
    if loop is None or (reached := loop.mean("roc_auc")) is None:
        return f"{months.capitalize()} of production, without an answer of the loop to score."
    work = count(count_acts(report.decisions).retrainings, "retraining")
    sentence = f"Over {months} the loop reached a mean AUC of {reached:.3f} with {work}"
    if static is None or (stayed := static.mean("roc_auc")) is None:
        return sentence + "."
    gain = round(reached, 3) - round(stayed, 3)
    if abs(gain) < 0.0005:
        return f"{sentence}: level with the first champion kept for ever."
    side = "above" if gain > 0 else "below"
    return f"{sentence}: {abs(gain):.3f} {side} the first champion kept for ever."


def lede(report: LoopReport) -> str:
    """Follow the headline with the comparisons, the worst month and the requests."""
    board = report.scoreboard
    refits = max(len(board.months) - 1, 0)
    words = {"all": "everything so far", "last3": "the last three months"}
    means = [
        f"on {words[scores.policy]} reached {mean:.3f}"
        for scores in board.policies
        if scores.policy in words and (mean := scores.mean("roc_auc")) is not None
    ]
    text = []
    if means and refits:
        each = ", each with" if len(means) > 1 else " with"
        told = f"{', '.join(means)}{each} {count(refits, 'refit')}"
        text.append(f"Refitting every month {told}.")
    loop, static = board.of("loop"), board.of("static")
    if loop is not None and static is not None and (worst := _worst_month(loop, static)):
        month, gain = worst
        if gain >= 0:
            text.append("In no month did the loop fall below the static champion.")
        else:
            text.append(
                f"Its weakest month against the static champion was {month}, {signed(gain)} AUC."
            )
    failures = "none failed" if report.failed == 0 else f"{report.failed:,} failed"
    if report.requests:
        text.append(f"Of {report.requests:,} requests {failures}.")
    return " ".join(text)


def count(number: int, noun: str) -> str:
    """Write a number of things: small numbers in words.

    >>> count(0, "retraining"), count(1, "month"), count(14, "month")
    ('no retrainings', 'one month', '14 months')
    """
    word = NUMBERS[number] if number < len(NUMBERS) else f"{number:,}"
    return f"{word} {noun}" if number == 1 else f"{word} {noun}s"


def signed(value: float, digits: int = 3) -> str:
    """Write a difference with its sign, a true minus included.

    >>> signed(0.0281), signed(-0.004)
    ('+0.028', '\u22120.004')
    """
    return f"{value:+.{digits}f}".replace("-", "\u2212")


def day(at: date) -> str:
    """Write a date as people do: 4 June 2013."""
    return f"{at.day} {MONTHS[at.month - 1]} {at.year}"


def month_name(month: str, length: int | None = None) -> str:
    """Name the month of 2013-04, shortened when asked."""
    return MONTHS[int(month[5:7]) - 1][:length]


def _worst_month(loop: PolicyScores, static: PolicyScores) -> tuple[str, float] | None:
    gains = [
        (round(mine, 3) - round(theirs, 3), month.month)
        for mine, theirs, month in zip(
            loop.values("roc_auc"), static.values("roc_auc"), loop.months, strict=True
        )
        if mine is not None and theirs is not None
    ]
    if not gains:
        return None
    gain, month = min(gains)
    return month_name(month), gain
