"""Do with checked rows what the guard's policies say, by column: the way for any number of rows.

Knows a plan and checked rows; knows nothing of HTTP, models or where rows are kept. No row is lost:
one that is not answered is quarantined with the reason.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from app.contracts.rows import Contract
from app.data.quarantine import QUARANTINED, render_row
from app.data.validation import Validated
from app.sections import GuardConfig
from app.security.privacy import Pseudonymiser
from app.serving.guards import Finding, Guarded, GuardPlan, Plans
from app.serving.residents import Generation


class GuardedRows(NamedTuple):
    """What is left of checked rows, what the model is to be given, and what is to be said."""

    checked: Validated
    """`accepted` as it came, to be logged; with what the guard rejected among `quarantined`."""
    clipped: Mapping[str, pa.Array]
    """Columns that the model is given in place of those of `accepted`."""
    flags: dict[int, tuple[Finding, ...]]
    """By the place among `accepted`."""
    num_refused: int = 0
    """Rows for whose sake the whole request is to be refused: then nothing is accepted."""
    num_good: int = 0
    """Rows that nothing but those speaks against."""

    def for_model(self, rows: pa.Table) -> pa.Table:
        """Give accepted rows, perhaps with more columns by now, as the model is to see them."""
        for name, column in self.clipped.items():
            rows = rows.set_column(rows.schema.get_field_index(name), name, column)
        return rows

    @property
    def num_left(self) -> int:
        """How many good rows are left to the client, to send again."""
        return self.num_good if self.num_refused else 0


class Guard:
    """Inspects what comes in by what the version that answers has learned from."""

    def __init__(
        self, contract: Contract, config: GuardConfig, pseudonymiser: Pseudonymiser | None
    ) -> None:
        """Take the contract of the rows, the policies, and what protects a row that is kept."""
        self._contract, self._pseudonymiser = contract, pseudonymiser
        self._plans = Plans(contract, config)

    def finds(self, generation: Generation, rows: Sequence[Sequence[object]]) -> bool:
        """Tell whether a row is odd."""
        plan = self._plan(generation)
        return plan is not None and any(map(plan.inspect, rows))

    def sort(self, generation: Generation, checked: Validated) -> GuardedRows:
        """Sort checked, protected rows, see guard_checked."""
        plan = self._plan(generation)
        return guard_checked(plan, checked, self._contract, self._pseudonymiser)

    def _plan(self, generation: Generation) -> GuardPlan | None:
        champion = generation.champion
        assert champion is not None, "a request is answered by a resident champion"
        return self._plans.of(str(generation.roles.champion), champion)


def guard_checked(
    plan: GuardPlan | None,
    checked: Validated,
    contract: Contract,
    pseudonymiser: Pseudonymiser | None,
) -> GuardedRows:
    """Sort checked, protected rows by what is odd about them.

    Quarantined rows come out in the order in which the rows came in. When a row is refused the good
    ones beside it are neither accepted nor quarantined: the client sends them again.
    """
    found = plan.inspect_table(checked.accepted) if plan is not None else {}
    if plan is None or not found:
        return GuardedRows(checked, {}, {})
    places = sorted(found)
    odd = checked.accepted.take(pa.array(places)).to_pylist()
    names = checked.accepted.schema.names
    guarded = plan.judge([[row[name] for name in names] for row in odd])
    rejected = guarded.refused | guarded.abstained
    out = sorted(rejected)
    quarantined = pa.table(
        {
            "row": [render_row(odd[i], contract, pseudonymiser) for i in out],
            "reasons": [rejected[i] for i in out],
            "position": [int(checked.positions[places[i]]) for i in out],
        },
        QUARANTINED,
    )
    left = np.ones(checked.accepted.num_rows, bool)
    left[[places[i] for i in out]] = False
    num_good = int(left.sum())
    if guarded.refused:
        left[:] = False
    together = pa.concat_tables([checked.quarantined, quarantined]).sort_by("position")
    accepted = checked.accepted.filter(pa.array(left))
    moved = np.cumsum(left) - 1
    answered = {i: int(moved[places[i]]) for i in guarded.flags if left[places[i]]}
    return GuardedRows(
        Validated(accepted, together, checked.positions[left]),
        _clipped(accepted, guarded, answered),
        {place: guarded.flags[i] for i, place in answered.items()},
        len(guarded.refused),
        num_good,
    )


def _clipped(
    accepted: pa.Table, guarded: Guarded, answered: Mapping[int, int]
) -> dict[str, pa.Array]:
    """Give the columns of which a value is clipped."""
    names = accepted.schema.names
    columns: dict[str, list[object]] = {}
    for i, place in answered.items():
        for finding in guarded.flags[i]:
            if finding.policy == "clip":
                name = finding.column
                values = columns.setdefault(name, accepted[name].to_pylist())
                values[place] = guarded.rows[i][names.index(name)]
    return {name: pa.array(values, accepted[name].type) for name, values in columns.items()}
