"""Find what is odd about rows that are acceptable: values unlike those that a model learned from.

Knows an encoder, the profile of its training rows and policies; knows nothing of requests or where
rows come from. Made once for a version, then a microsecond a row. Each column is judged by itself:
a row whose values are each common and that is odd as a whole is not found. What is said of a value
names neither it nor the bounds of training, which may be one person's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.contracts.rows import Contract
from app.data.features import CategoryFeature, Encoder, NumberFeature, number_column, text_column
from app.data.profile import Counts, Histogram, NumberBins, Profile
from app.sections import GuardConfig
from app.sections.guarding import Policy

Kind = Literal["range", "outlier", "unseen"]
NOTHING: tuple["Finding", ...] = ()
NUM_PLANS = 3
UNKNOWN = "is not among the values that the model knows"


class Finding(NamedTuple):
    """What is odd about one value, and what is to be done about it."""

    column: str
    kind: Kind
    policy: Policy
    why: str

    @property
    def reason(self) -> str:
        """The finding as a sentence."""
        return f"{self.column} {self.why}"


class Described(Protocol):
    """What a version must tell of the rows that it learned from."""

    @property
    def encoder(self) -> Encoder:
        """The ranges and vocabularies."""

    @property
    def profile(self) -> Profile:
        """The histograms."""


@dataclass
class Guarded:
    """Rows as they are to be predicted, and what was found about each, by its place."""

    rows: list[Sequence[object]]
    """In the order given, clipped where that is the policy; odd ones too."""
    flags: dict[int, tuple[Finding, ...]] = field(default_factory=dict)
    """Of rows to answer: say so in the answer."""
    abstained: dict[int, list[str]] = field(default_factory=dict)
    """Of rows to reject, as a row that breaks its contract is: the reasons."""
    refused: dict[int, list[str]] = field(default_factory=dict)
    """Of rows for whose sake the whole request is refused: the reasons."""


class _Number(NamedTuple):
    place: int
    low: float
    high: float
    """Within these nothing is found."""
    bounds: tuple[float, float]
    """The least and the greatest value of training."""
    findings: tuple[Finding | None, ...]
    """Far under, under, over, far over."""
    far: tuple[float, float]


class _Category(NamedTuple):
    place: int
    known: frozenset[str | None]
    finding: Finding


class GuardPlan:
    """Inspects rows for one version of a model. Immutable; safe to share between threads."""

    def __init__(
        self, contract: Contract, encoder: Encoder, profile: Profile, config: GuardConfig
    ) -> None:
        """Take the contract of the rows, and a version's encoder and profile."""
        self._names = [column.name for column in contract.columns]
        place = {name: i for i, name in enumerate(self._names)}
        numbers = [
            _number(each, place[each.name], profile.columns.get(each.name), config)
            for each in encoder.numbers
            # Windows are computed here, not sent: they are in no row.
            if each.name in place and each.edges
        ]
        self._numbers = [number for number in numbers if any(number.findings)]
        self._categories = [
            _category(each, place[each.name], config)
            for each in encoder.categories
            if config.unseen != "off"
            and each.vocabulary
            and each.name in place
            # A closed list is the contract's to keep.
            and contract.by_name[each.name].categories is None
        ]

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to look for, whatever the row."""
        return not (self._numbers or self._categories)

    def inspect(self, row: Sequence[object]) -> tuple[Finding, ...]:
        """Say what is odd about a row: values in the contract's order, numbers as floats.

        A null is never odd, and neither is a NaN.
        """
        found: list[Finding] | None = None
        for number in self._numbers:
            value = row[number[0]]
            # Of floats and None only; the reader of the row has seen to that.
            if value is None or number[1] <= value <= number[2]:  # type: ignore[operator]
                continue
            finding = _beyond(number, value)  # type: ignore[arg-type]
            if finding is not None:
                found = [*(found or ()), finding]
        for place, known, unknown in self._categories:
            if row[place] not in known:
                found = [*(found or ()), unknown]
        return tuple(found) if found else NOTHING

    def clip(self, row: Sequence[object], findings: Sequence[Finding]) -> list[object]:
        """Give a row with the numbers whose policy is to clip moved to the training range."""
        clipped = list(row)
        named = {finding.column for finding in findings if finding.policy == "clip"}
        for number in self._numbers:
            if self._names[number.place] in named:
                value = clipped[number.place]
                assert isinstance(value, float | int), "only a number is found beyond a range"
                low, high = number.bounds
                clipped[number.place] = min(max(value, low), high)
        return clipped

    def judge(self, rows: Sequence[Sequence[object]]) -> Guarded:
        """Inspect the rows of a request and sort them by what their policies say."""
        guarded = Guarded(list(rows))
        for place, row in enumerate(rows):
            findings = self.inspect(row)
            if not findings:
                continue
            policies = {finding.policy for finding in findings}
            reasons = [finding.reason for finding in findings]
            if "refuse" in policies:
                guarded.refused[place] = reasons
            elif "abstain" in policies:
                guarded.abstained[place] = reasons
            else:
                guarded.flags[place] = findings
                guarded.rows[place] = self.clip(row, findings) if "clip" in policies else row
        return guarded

    def inspect_table(self, table: pa.Table) -> dict[int, tuple[Finding, ...]]:
        """Say what is odd about the rows of a table, by their places; as `inspect` says of each.

        Takes accepted rows with the contract's columns. Raises ValueError when one is missing.
        """
        odd = np.zeros(table.num_rows, bool)
        for number in self._numbers:
            values = number_column(table, self._names[number.place])
            odd |= (values < number.low) | (values > number.high)
        for category in self._categories:
            column = text_column(table, self._names[category.place]).cast(pa.string())
            known = pa.array(category.known, pa.string())
            odd |= ~pc.is_in(column, value_set=known).to_numpy()
        places = np.flatnonzero(odd)
        few = table.select(self._names).take(pa.array(places))
        rows = zip(*(column.to_pylist() for column in few.columns), strict=True)
        return {place: self.inspect(row) for place, row in zip(places.tolist(), rows, strict=True)}


class Plans:
    """The plans of the versions that answer, each made when it is first asked for."""

    def __init__(self, contract: Contract, config: GuardConfig) -> None:
        """Take the contract of the rows and the policies."""
        self._contract, self._config = contract, config
        self._is_off = (config.range, config.outlier, config.unseen) == ("off", "off", "off")
        self._plans: dict[str, GuardPlan] = {}

    def of(self, version: str, bundle: Described) -> GuardPlan | None:
        """Give a version's plan, named by its digest; None where there is nothing to look for."""
        if self._is_off:
            return None
        plan = self._plans.get(version)
        if plan is None:
            plan = GuardPlan(self._contract, bundle.encoder, bundle.profile, self._config)
            # Champion, previous, challenger: an older one is not asked for again.
            self._plans = dict([*self._plans.items(), (version, plan)][-NUM_PLANS:])
        return None if plan.is_idle else plan


def _number(
    feature: NumberFeature, place: int, histogram: Histogram | None, config: GuardConfig
) -> _Number:
    least, greatest = feature.edges[0], feature.edges[-1]
    spread = _spread(histogram) if config.outlier != "off" else None
    reach = np.inf if spread is None else config.outlier_iqrs * spread
    far = (least - reach, greatest + reach)
    # Where nothing tells what is far out, nothing is far out.
    outlier: Policy = "off" if spread is None else config.outlier
    low, high = far if config.range == "off" else (least, greatest)
    findings = (
        _finding(feature.name, "outlier", outlier, "is far under the least value of training"),
        _finding(feature.name, "range", config.range, "is under the least value of training"),
        _finding(feature.name, "range", config.range, "is over the greatest value of training"),
        _finding(feature.name, "outlier", outlier, "is far over the greatest value of training"),
    )
    return _Number(place, low, high, (least, greatest), findings, far)


def _finding(column: str, kind: Kind, policy: Policy, why: str) -> Finding | None:
    return None if policy == "off" else Finding(column, kind, policy, why)


def _category(feature: CategoryFeature, place: int, config: GuardConfig) -> _Category:
    finding = Finding(feature.name, "unseen", config.unseen, UNKNOWN)
    return _Category(place, frozenset((*feature.vocabulary, None)), finding)


def _beyond(number: _Number, value: float) -> Finding | None:
    low, high = number.far
    if value < low:
        return number.findings[0]
    if value > high:
        return number.findings[3]
    least, greatest = number.bounds
    if value < least:
        return number.findings[1]
    # A NaN is none of these.
    return number.findings[2] if value > greatest else None


def _spread(histogram: Histogram | None) -> float | None:
    """Measure how wide a column's middle half is, its values evenly spread within a bin.

    None when the profile has counted nothing, and for a constant: nothing is far from one point.
    """
    if histogram is None or not isinstance(histogram.bins, NumberBins):
        return None
    edges = histogram.bins.edges
    inner = histogram.counts[1 : len(edges)]
    if len(edges) < 2 or not inner.sum():
        return None
    # A constant's bin is as wide as a double is exact.
    if np.nextafter(edges[0], np.inf) >= edges[-1]:
        return None
    upper, lower = _quantile(edges, inner, 0.75), _quantile(edges, inner, 0.25)
    return upper - lower


def _quantile(edges: Sequence[float], counts: Counts, share: float) -> float:
    """Give a quantile of a histogram."""
    cumulative = np.concatenate([[0], np.cumsum(counts)])
    return float(np.interp(share * cumulative[-1], cumulative, edges))
