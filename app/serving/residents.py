"""Hold the versions that a replica may answer with, and switch between them by one reference.

A version is loaded, tried on golden rows and only then shown to requests; one that fails or hangs
is reported and never takes traffic. Knows bundles and roles; knows nothing of SQL, HTTP or Ray.
Time is a parameter, in seconds of any steady clock.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from app.contracts.records import Roles
from app.contracts.rows import Column, Contract
from app.contracts.shares import ONLY_CHAMPION
from app.contracts.targets import refuse_other_target
from app.contracts.times import micros_in
from app.contracts.windows import refuse_other_windows
from app.data.features import Encoder
from app.data.profile import Profile
from app.serving.arms import Stamp, salt_of
from app.serving.faults import Faults
from app.serving.loading import Loading, StillLoading

logger = logging.getLogger(__name__)
RETRY_SECONDS = 5.0
# What takes longer is told as a problem; should it come after all, it is welcome.
HANGS_SECONDS = 60.0
TOLERANCE = 1e-6
GOLDEN_TIME = datetime(2013, 1, 1, 12, tzinfo=UTC)


class Bundle(Protocol):
    """What a resident version can do."""

    @property
    def contract(self) -> Contract:
        """The columns that it was made for."""

    @property
    def encoder(self) -> Encoder:
        """The ranges and vocabularies of the rows that it learned from."""

    @property
    def profile(self) -> Profile:
        """The histograms of those rows."""

    def predict(self, table: pa.Table) -> npt.NDArray[np.float64]:
        """Return one probability a row; for other tasks see ModelBundle.predict."""

    def predict_rows(
        self, rows: Sequence[Sequence[Any]], names: Sequence[str]
    ) -> npt.NDArray[np.float64]:
        """Return the same for a few rows of plain values; see ModelBundle.predict_rows."""


class VersionUnfit(ValueError):
    """A version that loads and yet must not answer requests."""


@dataclass(frozen=True)
class Generation:
    """What a replica answers with: one numbered set of roles and the versions behind it."""

    roles: Roles
    bundles: Mapping[str, Bundle] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)

    @property
    def champion(self) -> Bundle | None:
        """The version that answers, when there is one and it is resident."""
        return self.bundles.get(self.roles.champion) if self.roles.champion else None

    @property
    def sure_champion(self) -> Bundle:
        """The version that answers, of a generation that is known to have it."""
        champion = self.champion
        assert champion is not None, "a generation that answers has a champion"
        return champion

    @cached_property
    def shadow(self) -> Bundle | None:
        """The version that scores after the answer, when there is one and it is resident."""
        return self.bundles.get(self.roles.shadow) if self.roles.shadow else None

    @cached_property
    def alone(self) -> Stamp:
        """What records say where the champion answers alone."""
        return Stamp(str(self.roles.champion), self.roles.generation, "champion", 1.0)

    @cached_property
    def salt(self) -> bytes | None:
        """Salt of the experiment under way; None where the champion answers alone.

        A challenger that is not resident here gets no share here.
        """
        challenger = self.roles.challenger
        if self.roles.shares == ONLY_CHAMPION or challenger not in self.bundles:
            return None
        return salt_of(self.roles.model, str(challenger))


class Residents:
    """Follow the roles. One thread advances; any thread reads `current`."""

    def __init__(self, contract: Contract, load: Callable[[str], Bundle]) -> None:
        """`load` gives the bundle of a digest, verified, or raises."""
        self._contract = contract

        def load_and_try(digest: str) -> Bundle:
            bundle = load(digest)
            check_fit(bundle, contract)
            return bundle

        self._loading = Loading(load_and_try)
        self._asked_at: dict[str, float] = {}
        self._held: dict[str, Bundle] = {}
        self._retry_at: dict[str, float] = {}
        self._failed: dict[str, str] = {}
        self.faults = Faults()
        self.current: Generation | None = None

    def advance(self, roles: Roles, steady_seconds: float) -> bool:
        """Follow roles that were read just now. Returns whether `current` has changed.

        Older roles than the current ones are ignored. While the champion is not resident the last
        generation stays. A version that failed is tried again after five seconds; one that is still
        loading is waited for a moment, once, and asked for each time.
        """
        self.faults.tell(steady_seconds)
        current = self.current
        if current is not None and roles.generation < current.roles.generation:
            return False
        parts = (roles.champion, roles.previous, roles.challenger, roles.shadow)
        wanted = [digest for digest in parts if digest]
        for digest in wanted:
            if digest not in self._held and steady_seconds >= self._retry_at.get(
                digest, steady_seconds
            ):
                self._admit(digest, steady_seconds)
        self._failed = {digest: self._failed[digest] for digest in wanted if digest in self._failed}
        self._asked_at = {key: at for key, at in self._asked_at.items() if key in wanted}
        if roles.champion and roles.champion not in self._held:
            return False
        self.faults.keep(wanted)
        # Only now may the versions of the last generation go.
        self._held = {digest: self._held[digest] for digest in wanted if digest in self._held}
        if current is not None and current.roles == roles and current.bundles == self._held:
            return False
        # A copy: what is admitted later is another set of versions, not a change of this one.
        self.current = Generation(roles, dict(self._held), self.faults)
        logger.info("generation %d: champion %s", roles.generation, roles.champion)
        return True

    @property
    def problems(self) -> dict[str, str]:
        """Versions that cannot be loaded or that failed over live rows, with the reason."""
        return {**self.faults.problems, **self._failed}

    def _admit(self, digest: str, steady_seconds: float) -> None:
        """Load and try one version; hold it, or the reason why not, or ask again next time."""
        waited = steady_seconds - self._asked_at.setdefault(digest, steady_seconds)
        try:
            bundle = self._loading.get(digest)
        except StillLoading:
            if waited >= HANGS_SECONDS:
                self._failed[digest] = f"not loaded in {HANGS_SECONDS:g} s"
            return
        # A foreign artifact can raise anything; it must not end the thread that follows the roles.
        except Exception as error:
            logger.exception("version %s cannot serve", digest)
            self._failed[digest] = f"{type(error).__name__}: {error}"
            self._retry_at[digest] = steady_seconds + RETRY_SECONDS
            self._asked_at.pop(digest)
            return
        self._asked_at.pop(digest)
        self._failed.pop(digest, None)
        self._retry_at.pop(digest, None)
        self._held[digest] = bundle


def check_fit(bundle: Bundle, contract: Contract) -> None:
    """Warm a version up on golden rows and refuse it when its answers cannot be trusted.

    Raises VersionUnfit when it needs columns that requests do not have, predicts something else
    than they ask, when an answer is no probability, when a row's answer depends on the rows beside
    it, or when a row that is read value by value is answered otherwise than in a table.
    """
    given = {column.name: column for column in (*contract.columns, *contract.derived)}
    for column in bundle.contract.features:
        offered = given.get(column.name)
        if offered is None or offered.kind != column.kind:
            got = "no such column" if offered is None else f"kind {offered.kind}"
            raise VersionUnfit(
                f"the version needs column {column.name} of kind {column.kind}, requests have "
                f"{got}; train again on this contract"
            )
    try:
        refuse_other_windows(bundle.contract, contract)
    except ValueError as error:
        raise VersionUnfit(f"the version's {error}") from error
    try:
        refuse_other_target(bundle.contract, contract)
    except ValueError as error:
        raise VersionUnfit(str(error)) from error
    rows = golden_rows(contract)
    together = np.asarray(bundle.predict(rows))
    if together.shape != (rows.num_rows,):
        raise VersionUnfit(f"expected {rows.num_rows} probabilities, got shape {together.shape}")
    if not np.all(np.isfinite(together) & (together >= 0) & (together <= 1)):
        raise VersionUnfit(f"expected probabilities in 0..1, got {together.tolist()}")
    alone = np.concatenate([bundle.predict(rows.slice(i, 1)) for i in range(rows.num_rows)])
    worst = float(np.max(np.abs(alone - together)))
    if worst > TOLERANCE:
        raise VersionUnfit(f"a row's probability moves by {worst:.2g} with the rows beside it")
    plain = np.asarray(bundle.predict_rows(plain_rows(rows), rows.column_names))
    if plain.shape != together.shape:
        raise VersionUnfit(
            f"expected {rows.num_rows} probabilities of rows value by value, got {plain.shape}"
        )
    # Written so that what is no number is not near either.
    if not np.all(np.abs(plain - together) <= TOLERANCE):
        raise VersionUnfit(
            f"rows value by value have other probabilities than in a table: {plain.tolist()} and "
            f"{together.tolist()}"
        )


def plain_rows(rows: pa.Table) -> list[list[Any]]:
    """Give a table's rows as plain values: numbers, texts, microseconds since 1970, or None."""
    columns = (
        micros_in(column) if pa.types.is_timestamp(column.type) else column
        for column in rows.columns
    )
    cells = [column.to_pylist() for column in columns]
    return [list(row) for row in zip(*cells, strict=True)]


def golden_rows(contract: Contract) -> pa.Table:
    """Make four rows any version must answer: middling, lowest, highest, as empty as allowed."""
    return pa.table(
        {
            column.name: pa.array(_golden_cells(column), column.arrow_type)
            for column in (*contract.columns, *contract.derived)
        },
        contract.complete_schema,
    )


def _golden_cells(column: Column) -> list[object]:
    cells: list[object]
    if column.kind == "number":
        low = -1e6 if column.minimum is None else column.minimum
        high = 1e6 if column.maximum is None else column.maximum
        cells = [(low + high) / 2, low, high]
    elif column.kind == "time":
        cells = [GOLDEN_TIME] * 3
    else:
        values = column.categories or ("golden",)
        cells = [values[0], values[-1], "never seen before"]
    return [*cells, None if column.nullable else cells[0]]
