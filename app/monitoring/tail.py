"""Follow the logs of one model: read what is new, fold it, judge due windows, record all at once.

Knows tables, ledger and artifacts; knows nothing of Ray, threads or the machine's clock. Killed at
any instant, it resumes from the state and offsets of its last transaction, reads the same log again
and comes to the same evidence.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from app.config import Config
from app.contracts.records import DatasetVersion, Evidence
from app.data.tables import TableName, open_tables
from app.ledger.clock import read_clock
from app.ledger.database import Ledger
from app.ledger.epochs import check_epoch, take_epoch
from app.ledger.evidence import monitor_name, read_evidence, read_fold, record_fold
from app.ledger.progress import Progress, write_progress
from app.monitoring.alarms import Alarm, standing_alarm
from app.monitoring.diagnosis import diagnose
from app.monitoring.evidence import (
    Window,
    champion,
    due_windows,
    evidence,
    judged,
    sample,
)
from app.monitoring.fold import Batch, fold, profiled
from app.monitoring.performance import skewed_share
from app.monitoring.state import FoldState, StateUnreadable, pack, sample_schema, unpack
from app.monitoring.versions import Resident, Versions
from app.registry.artifacts import Artifacts

logger = logging.getLogger(__name__)
# A row is shipped to events before its prediction is: reading in the other order finds both.
READING_ORDER: tuple[TableName, ...] = ("predictions", "labels", "events", "quarantine")
CHECKPOINT_SECONDS = 10.0
HEARTBEAT_SECONDS = 2.0
EPISODE_LENGTH = 60


@dataclass(frozen=True)
class Tick:
    """What one look at the logs brought."""

    num_rows: int
    evidence: tuple[Evidence, ...]
    watermark: datetime
    seconds: float


@dataclass(frozen=True)
class _Standing:
    """Where the tail is: all of it, so that it changes at one point."""

    state: FoldState
    offsets: dict[str, int]
    latest: Evidence | None
    watermark: datetime | None


class Tail:
    """The monitor of one model, ticked by whoever owns the time. One thread at a time."""

    def __init__(self, config: Config, ledger: Ledger) -> None:
        """Take over as the model's monitor and resume where the last transaction stood."""
        self._config = config
        self._ledger = ledger
        self._tables = open_tables(config)
        self._versions = Versions(ledger, Artifacts(config.artifacts_path))
        self._epoch = take_epoch(ledger, monitor_name(config.name))
        self._standing = _resume(ledger, config)
        self._recorded_offsets = self._standing.offsets
        self._recorded_at = time.monotonic()
        self._spoke_at = float("-inf")

    def tick(self, wall: datetime, detail: Mapping[str, object]) -> Tick:
        """Read, fold, judge and record once.

        Nothing is kept in memory that was not recorded or cannot be read again: an error leaves the
        tail where it was, and the next tick reads the same rows.

        Args:
            wall: the machine's time, for a wall clock and to say when this was.
            detail: what else the progress row should say.
        """
        began = time.perf_counter()
        # The clock first: what its watermark promises is then in the logs.
        clock = read_clock(self._ledger, self._config, wall)
        batch, offsets = self._read()
        state = fold(self.state, batch, self._config.contract)
        state, found = self._judge(state, offsets, clock.watermark)
        after = _Standing(state, offsets, found[-1] if found else self.latest, clock.watermark)
        self._record(after, found, wall, detail)
        self._standing = after
        return Tick(batch.num_rows, found, clock.watermark, time.perf_counter() - began)

    @property
    def state(self) -> FoldState:
        """What the monitor remembers."""
        return self._standing.state

    @property
    def latest(self) -> Evidence | None:
        """The newest evidence."""
        return self._standing.latest

    def complain(self, wall: datetime, problem: str) -> None:
        """Say in the progress row why the last tick failed, leaving all else as it was."""
        self._write_progress(self._progress(self._standing, wall, {"problem": problem}))

    def checkpoint(self, wall: datetime) -> None:
        """Record state and offsets now, so that whoever resumes need not read these rows again."""
        self._write_fold(self._standing, (), self._progress(self._standing, wall, {}))

    def alarm(self) -> Alarm | None:
        """Give the alarm that stands now."""
        recent = read_evidence(self._ledger, self._config.name, limit=EPISODE_LENGTH)
        return standing_alarm(recent, self._config.loop.diagnosis)

    def dataset(self, digest: str) -> DatasetVersion:
        """Name the rows that a version learned from."""
        return self._versions.get(digest).version.dataset

    def _read(self) -> tuple[Batch, dict[str, int]]:
        rows: dict[str, pa.Table] = {}
        offsets: dict[str, int] = {}
        for name in READING_ORDER:
            rows[name], offsets[name] = self._tables.read_since(name, self._standing.offsets[name])
        return Batch(**rows), offsets

    def _judge(
        self, state: FoldState, offsets: dict[str, int], watermark: datetime
    ) -> tuple[FoldState, tuple[Evidence, ...]]:
        """Turn every due window into evidence about the version that answered as champion."""
        config, contract = self._config.monitoring, self._config.contract
        found = []
        for window in due_windows(state, watermark, config):
            version = champion(state, window)
            assert version is not None
            resident = self._versions.get(version)
            if version not in state.profiles:
                events = self._tables.read("events", version=offsets["events"])
                state = profiled(state, version, resident.reference.profile, events, contract)
            share = self._skewed_share(state, window, resident)
            found.append(
                evidence(state, window, self._config.name, resident.reference, config, share)
            )
            state = judged(state, window, config)
        return state, tuple(found)

    def _skewed_share(self, state: FoldState, window: Window, resident: Resident) -> float:
        """Score kept rows again with the version's own bundle and compare with what was logged."""
        rows = sample(state, window, resident.version.digest, self._config.contract)
        if not rows.num_rows:
            return 0.0
        return skewed_share(rows["probability"].to_numpy(), resident.bundle.predict(rows))

    def _record(
        self,
        after: _Standing,
        found: Sequence[Evidence],
        wall: datetime,
        detail: Mapping[str, object],
    ) -> None:
        """Write evidence with state and offsets; without evidence, mostly only the progress.

        Rows folded since the last checkpoint are read again after a crash, which changes nothing.
        """
        now = time.monotonic()
        is_new = after.offsets != self._recorded_offsets
        if found or (is_new and now - self._recorded_at > CHECKPOINT_SECONDS):
            self._write_fold(after, found, self._progress(after, wall, detail))
        elif self._has_moved(after) or now - self._spoke_at > HEARTBEAT_SECONDS:
            self._write_progress(self._progress(after, wall, detail))

    def _write_fold(self, after: _Standing, found: Sequence[Evidence], progress: Progress) -> None:
        record_fold(
            self._ledger,
            self._config.name,
            found,
            after.offsets,
            pack(after.state),
            progress.watermark,
            progress.detail,
            updated_at=progress.updated_at,
            epoch=self._epoch,
        )
        self._recorded_offsets = after.offsets
        self._recorded_at = self._spoke_at = time.monotonic()

    def _write_progress(self, progress: Progress) -> None:
        model = self._config.name
        with self._ledger.transaction() as connection:
            check_epoch(connection, monitor_name(model), self._epoch)
            write_progress(connection, model, progress)
        self._spoke_at = time.monotonic()

    def _has_moved(self, after: _Standing) -> bool:
        before = self._standing
        return (after.offsets, after.watermark) != (before.offsets, before.watermark)

    def _progress(
        self, standing: _Standing, wall: datetime, detail: Mapping[str, object]
    ) -> Progress:
        told = _progress_detail(standing.state, standing.latest, self._config)
        watermark = standing.watermark or datetime.fromtimestamp(0, UTC)
        return Progress("monitor", watermark, {**told, **detail}, wall)


def _resume(ledger: Ledger, config: Config) -> _Standing:
    """Read state and offsets; a state of another format is folded again from the beginning."""
    latest = read_evidence(ledger, config.name, limit=1)
    newest = latest[-1] if latest else None
    beginning: dict[str, int] = dict.fromkeys(READING_ORDER, -1)
    found = read_fold(ledger, config.name)
    if found is None:
        return _Standing(FoldState.empty(config.contract), beginning, newest, None)
    try:
        state = unpack(found.state)
        if state.samples.schema != sample_schema(config.contract):
            raise StateUnreadable("monitor state: the contract has other columns, or windows, now")
        return _Standing(state, found.offsets, newest, found.watermark)
    except StateUnreadable:
        logger.exception("folding the logs again from the beginning", extra={"model": config.name})
        return _Standing(FoldState.empty(config.contract), beginning, newest, None)


def _progress_detail(
    state: FoldState, latest: Evidence | None, config: Config
) -> dict[str, object]:
    counts = state.counts
    return {
        "says": _sentence(latest, config),
        "num_predictions": counts.num_predictions,
        "num_repeated_predictions": counts.num_repeated_predictions,
        "num_labels": counts.num_labels,
        "num_repeated_labels": counts.num_repeated_labels,
        "num_revised_labels": counts.num_revised_labels,
        "num_unknown_labels": state.num_unknown_labels,
        "num_events": counts.num_events,
        "num_quarantined": counts.num_quarantined,
        "num_expired": counts.num_expired,
        "num_evidence": counts.num_windows,
    }


def _sentence(latest: Evidence | None, config: Config) -> str:
    """Say in a sentence what the monitor saw last."""
    if latest is None:
        return "folding the logs; no window has ended yet"
    diagnosis = diagnose(latest, config.loop.diagnosis)
    window = f"{latest.start:%Y-%m-%d} to {latest.end:%Y-%m-%d}"
    return f"{window} shows {diagnosis.cause.replace('_', ' ')}: {'; '.join(diagnosis.reasons)}"
