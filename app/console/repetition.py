"""Draw the comparison of a run with its repetition, and the checks of a version, for a terminal.

Knows their records; knows nothing of how they came to be.
"""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from app.contracts.circumstances import Difference
from app.governance.checking import VersionCheck
from app.training.repeating import Repetition

COLOURS = {"bit-equal": "bold green", "within tolerance": "yellow", "different": "bold red"}
STATES = {"ok": "green", "differs": "yellow", "absent": "dim", "failed": "bold red"}
EFFECTS = {"none": "nothing", "bits": "last bits", "model": "the model"}


def render_repetition(repetition: Repetition) -> RenderableType:
    """Draw a comparison: verdict, reasons, figures, what differs."""
    title = Text(f"{repetition.second} repeats {repetition.first}: ", style="bold")
    title.append(repetition.verdict, style=COLOURS[repetition.verdict])
    parts: list[RenderableType] = [
        title,
        *(Text(f"  {reason}") for reason in repetition.reasons),
        _figures(repetition),
    ]
    if repetition.differences:
        parts.append(render_differences(repetition.differences, "what differs"))
    if not repetition.as_expected:
        parts.append(Text(f"expected: {repetition.expected}", style="bold red"))
    return Group(*parts)


def render_differences(differences: Sequence[Difference], title: str) -> RenderableType:
    """Draw differences by name, with both values and what they may change."""
    table = Table("what", "then", "now", "may change", title=title)
    for each in differences:
        table.add_row(each.name, _short(each.first), _short(each.second), EFFECTS[each.effect])
    return table


def _figures(repetition: Repetition) -> Table:
    table = Table("figure", "first", "again", "may be off by", "stated by")
    for pair in repetition.figures:
        style = "" if pair.is_within else "bold red"
        values = (f"{pair.first:.6f}", f"{pair.second:.6f}", f"{pair.tolerance:.4f}")
        table.add_row(pair.name, *values, pair.stated_by, style=style)
    return table


def _short(value: str) -> str:
    return value if len(value) <= 40 else f"{value[:37]}..."


def render_checks(checked: VersionCheck) -> RenderableType:
    """Draw what checking a version came to."""
    title = Text(f"{checked.model} {checked.digest[:12]}, run {checked.run}: ", style="bold")
    style = "bold green" if checked.verified else "bold red"
    title.append("verified" if checked.verified else "failed", style=style)
    if not checked.registered:
        title.append(" (not registered)")
    table = Table("check", "state", "")
    for check in checked.checks:
        named = check.state == "differs" and check.differences
        said = f"{len(check.differences)} differ, named below" if named else check.said
        table.add_row(check.name, Text(check.state, style=STATES[check.state]), said)
    parts: list[RenderableType] = [title, table]
    found = [
        each for check in checked.checks if check.state == "differs" for each in check.differences
    ]
    if found:
        parts.append(render_differences(found, "different here and now"))
    return Group(*parts)
