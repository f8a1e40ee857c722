"""Explain a proposed configuration to a person at a terminal: each column, what for, and why.

Knows a proposal and its trial; decides nothing.
"""

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from app.data.outcomes import Outcome
from app.data.proposal import Proposal
from app.data.proposal_yaml import AIM_LINES
from app.data.roles import Use
from app.data.trial import Trial

NUM_REASONS = 5
STYLES: dict[Use, str] = {
    "feature": "green",
    "suspect": "bold red",
    "ignored": "dim",
    "kept": "yellow",
    "id": "cyan",
    "time": "cyan",
    "entity": "cyan",
}


def proposal_table(proposal: Proposal) -> Table:
    """Draw a row a column of the file; what a file brings is shown as it stands."""
    table = Table("column", "becomes", "for", "why", title=escape(proposal.survey.path.name))
    outcome, meaning = proposal.outcome, _meaning(proposal.outcome)
    table.add_row(escape(outcome.source), outcome.name, "label", escape(meaning), style="bold")
    for guess in proposal.guesses:
        column, kind = guess.column, "left in the file"
        if column is not None:
            private = f", {column.privacy}" if column.privacy != "public" else ""
            kind = f"{guess.name}: {column.kind}{private}"
        why = escape("; ".join(guess.why))
        source = escape(guess.source) or "(unnamed)"
        table.add_row(source, kind, guess.use, why, style=STYLES[guess.use])
    return table


def _meaning(outcome: Outcome) -> str:
    if outcome.num_numbers:
        return f"{outcome.task}: {outcome.why}"
    if outcome.classes:
        shown = sorted(outcome.classes, key=lambda name: -outcome.classes[name])[:3]
        shares = ", ".join(f"{n} {outcome.classes[n] / outcome.num_known:.1%}" for n in shown)
        return f"{len(outcome.classes)} classes: {outcome.why}; of the known {shares}"
    ones = " or ".join(outcome.positive[:3])
    return f"1 is {ones}: {outcome.why}; {outcome.share:.1%} of the known"


def proposal_lines(proposal: Proposal, trial: Trial, num_lines: int) -> Iterator[str]:
    """Say what concerns the table as a whole, and what an ingest would make of it."""
    yield from (f"- {note}" for note in proposal.notes)
    by = proposal.split.get("by", "day")
    yield f"- training, stopping and gate get their rows by {by}"
    yield (
        f"- tried on every row: {trial.num_in:,} = {trial.num_accepted:,} accepted + "
        f"{trial.num_in - trial.num_accepted:,} quarantined"
    )
    yield from (f"    {number:,}: {reason}" for reason, number in trial.reasons[:NUM_REASONS])
    if trial.num_repeated:
        yield f"    {trial.num_repeated:,}: {proposal.id} stands earlier in the file"
    wide = f"; more than {AIM_LINES}, since every column takes one" if num_lines > AIM_LINES else ""
    yield f"- {num_lines} lines of YAML{wide}"
