"""Write a proposed configuration as YAML for a person to read: a line a column, with its reason.

Knows a proposal; knows nothing of files. What is written loads as what was proposed.
"""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from app.data.outcomes import Outcome
from app.data.proposal import Proposal

AIM_LINES = 40
COMMENT_WIDTH = 150


def write_yaml(proposal: Proposal, workspace: str) -> str:
    """Give the configuration file's text, at most 40 lines for up to 32 columns.

    A wider table needs a line for every further column.
    """
    document = proposal.document(workspace)
    roomy = "\n".join(_lines(proposal, document, compact=False)) + "\n"
    if roomy.count("\n") <= AIM_LINES:
        return roomy
    return "\n".join(_lines(proposal, document, compact=True)) + "\n"


def flow(value: object) -> str:
    """Write a value on one line.

    >>> flow({"positive": ["yes"], "minimum": 0.0})
    '{positive: ["yes"], minimum: 0}'
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, str):
        return _text(value)
    return yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("\n...").strip()


def _text(value: str) -> str:
    """Quote a text wherever YAML could take it for something else."""
    if re.fullmatch(r"[A-Za-z_./][A-Za-z0-9_./-]*", value) and yaml.safe_load(value) == value:
        return value
    escaped = yaml.safe_dump(value, default_style='"', width=10**9, allow_unicode=True)
    return escaped.strip()


def _lines(proposal: Proposal, document: Mapping[str, Any], *, compact: bool) -> list[str]:
    outcome, survey = proposal.outcome, proposal.survey
    header = (
        f"Proposed from {survey.path.name}: {survey.num_rows:,} rows; {outcome.source} is "
        f"{_described(outcome)} of {outcome.num_known:,}. Check it."
    )
    lines = []
    for key, value in document.items():
        if key == "name":
            lines.append(_with_comment(f"name: {flow(value)}", header))
        elif key == "contract":
            lines += _contract_lines(proposal, value, compact=compact)
        elif key == "source":
            lines.append(_with_comment(f"source: {flow(value)}", _left_out(proposal)))
        else:
            lines.append(f"{key}: {flow(value)}")
    return lines


def _described(outcome: Outcome) -> str:
    if outcome.num_numbers:
        return "a number in each"
    if outcome.classes:
        first = max(outcome.classes, key=lambda name: outcome.classes[name])
        return f"one of {len(outcome.classes)} classes, {first} in {outcome.share:.1%}"
    return f"{_shown(outcome.positive)} in {outcome.share:.1%}"


def _contract_lines(proposal: Proposal, contract: Mapping[str, Any], *, compact: bool) -> list[str]:
    parts = {key: value for key, value in contract.items() if key != "columns"}
    reasons = {guess.name: "; ".join(guess.why) for guess in proposal.guesses}
    reasons |= {proposal.id: reasons.get(proposal.id, "no column identifies a row: made from it")}
    reasons |= {
        proposal.event_time: reasons.get(proposal.event_time, "no time: that of the arrival")
    }
    columns = [(flow(column), reasons[column["name"]]) for column in contract["columns"]]
    if compact:
        head = f"contract: {flow(parts)[:-1]}, columns: ["
        ends = [","] * (len(columns) - 1) + ["]}"]
        ended = zip(columns, ends, strict=True)
        return [head, *(_with_comment(f"  {text}{end}", why) for (text, why), end in ended)]
    head_lines = ["contract:", *(f"  {key}: {flow(value)}" for key, value in parts.items())]
    listed = [_with_comment(f"    - {text}", why) for text, why in columns]
    return [*head_lines, "  columns:", *listed]


def _left_out(proposal: Proposal) -> str:
    left = [g for g in proposal.guesses if g.column is None]
    if not left:
        return ""
    return "left in the file: " + "; ".join(f"{g.name} ({', '.join(g.why)})" for g in left)


def _with_comment(line: str, comment: str) -> str:
    return f"{line}  # {_plain(comment)}" if comment else line


def _plain(text: str) -> str:
    """Keep a comment on its line, whatever a file brought into it."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return printable if len(printable) <= COMMENT_WIDTH else printable[: COMMENT_WIDTH - 1] + "…"


def _shown(texts: tuple[str, ...]) -> str:
    return " or ".join(texts[:3]) + (" or …" if len(texts) > 3 else "")
