"""Find the label among a file's columns and say which of its values is the outcome to predict.

Knows names and counts; knows nothing of files. What has not two outcomes is for targeting to read,
or is refused with its values, and with what could be done.
"""

import difflib
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from app.contracts.targets import Task
from app.data.contents import MAX_VALUES, Tally
from app.data.spelling import tidy

POSITIVE = frozenset({"1", "true", "t", "yes", "y", "positive", "pos", "bad", "fraud", "churned"})
NEGATIVE = frozenset({"0", "false", "f", "no", "n", "negative", "neg", "good", "ok", "none"})
NUM_SHOWN = 8


class LabelRefused(ValueError):
    """A label that cannot be learned; the message says what was found and what to do."""


@dataclass(frozen=True)
class Outcome:
    """The label, its spellings, and how often each outcome stands in the file.

    A binary one has positive and negative spellings. Of several classes each has its count, and its
    spellings where they are not just its name. Of a number there is only how many rows have one.
    """

    source: str
    name: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    num_positive: int
    num_negative: int
    num_unknown: int
    why: str
    task: Task = "binary"
    classes: Mapping[str, int] = field(default_factory=dict)
    spellings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    num_numbers: int = 0

    @property
    def num_known(self) -> int:
        """Rows whose outcome stands in the file."""
        binary = self.num_positive + self.num_negative
        return binary + sum(self.classes.values()) + self.num_numbers

    @property
    def share(self) -> float:
        """Share of positive outcomes, or of the commonest class, among the known ones."""
        return max(self.classes.values(), default=self.num_positive) / self.num_known


def find_label(asked: str, names: Sequence[str], part: str = "label") -> str:
    """Find the column that a person means. Raises LabelRefused, with the nearest names."""
    if asked in names:
        return asked
    same = [name for name in names if tidy(name) == tidy(asked)]
    if len(same) == 1:
        return same[0]
    near = difflib.get_close_matches(asked.lower(), [name.lower() for name in names], 3, 0.6)
    meant = sorted((n for n in names if n.lower() in near), key=lambda n: near.index(n.lower()))
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    advice = f"did you mean {' or '.join(meant)}?" if meant else f"there are {shown}"
    raise LabelRefused(f"{part}: no column is called {asked}; {advice}")


def read_outcome(source: str, counts: Tally, positive: Collection[str] = ()) -> Outcome:
    """Say what the values of the label mean. Raises LabelRefused unless there are two outcomes."""
    values = counts.values
    if counts.num_present == 0:
        raise LabelRefused(f"label: {source} is empty in every row; name another column")
    if values is None:
        raise LabelRefused(
            f"label: {source} has more than {MAX_VALUES:,} different values; labels are binary: "
            "name a column with two outcomes"
        )
    groups = spelled_alike(list(values))
    if len(groups) == 1:
        (only,) = groups
        raise LabelRefused(
            f"label: {source} is {only} in every row; there is nothing to predict, bring rows "
            "with both outcomes"
        )
    chosen, why = _chosen(source, values, groups, [item.strip() for item in positive])
    ones = tuple(sorted(text for text in values if text in chosen))
    zeros = tuple(sorted(text for text in values if text not in chosen))
    return Outcome(
        source=source,
        name=tidy(source),
        positive=ones,
        negative=zeros,
        num_positive=sum(values[text] for text in ones),
        num_negative=sum(values[text] for text in zeros),
        num_unknown=counts.num_rows - counts.num_present,
        why=why,
    )


def spelled_alike(texts: Sequence[str]) -> dict[str, list[str]]:
    """Put spellings that differ in case only together, or in the point of a whole number."""
    groups: dict[str, list[str]] = {}
    for text in sorted(texts):
        groups.setdefault(text.casefold().removesuffix(".0"), []).append(text)
    return groups


def _chosen(
    source: str, values: dict[str, int], groups: dict[str, list[str]], positive: Sequence[str]
) -> tuple[set[str], str]:
    """Choose the spellings of the outcome to predict, and say why."""
    if positive:
        unknown = [text for text in positive if text not in values]
        if unknown:
            raise LabelRefused(
                f"label: {source} is never {', '.join(unknown)}; its values are {_shown(values)}"
            )
        if len(positive) == len(values):
            raise LabelRefused(f"label: {source} would be positive in every row; name fewer values")
        return set(positive), "asked for"
    if len(groups) > 2:
        first = min(values, key=lambda text: (values[text], text))
        raise LabelRefused(
            f"label: {source} has {len(groups)} different values: {_shown(values)}; labels are "
            f"binary: say which of them to predict, e.g. --positive {shlex.quote(first)}"
        )
    (one, one_texts), (two, two_texts) = groups.items()
    if one in POSITIVE or two in NEGATIVE:
        return set(one_texts), f"{one_texts[0]} is the usual word for it"
    if two in POSITIVE or one in NEGATIVE:
        return set(two_texts), f"{two_texts[0]} is the usual word for it"
    counts = [sum(values[text] for text in texts) for texts in (one_texts, two_texts)]
    rarer = one_texts if counts[0] <= counts[1] else two_texts
    return set(rarer), f"{rarer[0]} is the rarer outcome; --positive chooses"


def _shown(values: dict[str, int]) -> str:
    ordered = sorted(values, key=lambda text: (-values[text], text))
    shown = ", ".join(f"{text} ({values[text]:,})" for text in ordered[:NUM_SHOWN])
    return shown + (", …" if len(ordered) > NUM_SHOWN else "")
