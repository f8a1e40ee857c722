"""Bring a source in: read → validate → pseudonymise → commit. Repeating it adds nothing.

Knows Ray Data, the source and the tables; what is wrong with a row is for validation to say. Blocks
are judged on the cluster and staged in files; then each delivery is a transaction of its own, its
quarantined rows committed first, its accepted rows last, so that an ingest that was cut off at any
point can simply be run again. Where the policy may stop an ingest, nothing is committed before all
of it is judged. No step holds more than a few blocks of rows in memory.
"""

import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.data

from app.config import Config
from app.data.admission import Taken, admit, tell_readmitted
from app.data.admitting import Part, Plan, commit_delivery, plan_of, position_of
from app.data.arrivals import arriving
from app.data.delivered_labels import label_columns
from app.data.deliveries import Delivery, in_groups
from app.data.halting import IngestStopped
from app.data.ingestion import DeliveryCount, IngestResult, Progress, RefusedFile, Versions, total
from app.data.intake import Window, mark_of
from app.data.judging import Judging, judge_where_read, stage_outcomes
from app.data.pieces import MEGABYTE, SourceError
from app.data.readmission import may_readmit, readmit
from app.data.seen import SeenIds
from app.data.settling import Settled, settle_outcomes, settle_rows
from app.data.silence import notice_silence, told_by
from app.data.sources import Source, open_source
from app.data.staging import Staged, staging_folder
from app.data.tables import Tables
from app.data.uniqueness import UniqueValues
from app.data.watching import Watch

PARTS: tuple[Part, ...] = ("events", "labels")
GROUP_BYTES = 512 * MEGABYTE
GROUP_DELIVERIES = 64


def ingest(
    config: Config,
    tables: Tables,
    until: datetime | None = None,
    *,
    at: datetime | None = None,
    watch: Watch | None = None,
) -> IngestResult:
    """Bring in what a source has and the tables have not: rows asked, outcomes known by `until`.

    `at` is when the rows arrive, by default now. Needs a Ray session. Raises SourceError for a
    source that cannot be read: when that is seen at once, nothing was brought in; when a file turns
    out to be damaged inside, the deliveries before it were. Following, such a file is noted, and
    the others are brought in. Raises IngestStopped for a source that breaks the policy of `intake`:
    then nothing was brought in. Raises Busy while another ingest works in this workspace.
    Tables that came to have many small files are compacted.
    """
    watch, at = watch or Watch(), at or datetime.now(UTC)
    watch.silence = None
    try:
        with staging_folder(config.workspace) as folder, arriving(config) as erased:
            rows_at, labels_at = (partial(position_of, tables, part) for part in PARTS)
            source = open_source(config, rows_at, labels_at, watch.looks, at)
            judging = Judging.of(config, erased.hashes, folder)
            run = _Run(config, tables, source, watch, judging, at)
            report = run.bring_in(until)
            num_readmitted = run.readmit()
    except (SourceError, IngestStopped) as error:
        watch.silence = notice_silence(config, tables, watch, at, is_told=told_by(error))
        raise
    watch.silence = notice_silence(config, tables, watch, at, is_told=report is not None)
    report = tell_readmitted(config, tables, report or watch.silence, num_readmitted, at)
    for name in ("events", "quarantine", "labels"):
        tables.compact(name, config.tables.small_bytes, config.tables.max_small_files)
    refused = [RefusedFile(name=r.name, problem=r.problem) for r in watch.looks.refused]
    path = str(report) if report else None
    result = total(run.counts, versions_of(tables), watch.looks.waiting, refused, path)
    return result.model_copy(update={"num_readmitted": num_readmitted})


def versions_of(tables: Tables) -> Versions:
    """Return the versions of the tables that an ingest writes."""
    return Versions(*(tables.version(name) for name in ("events", "quarantine", "labels")))


class _Run:
    """One ingest at work."""

    def __init__(
        self,
        config: Config,
        tables: Tables,
        source: Source,
        watch: Watch,
        judging: Judging,
        at: datetime,
    ) -> None:
        self.config, self.contract = config, config.contract
        self.tables, self.source = tables, source
        self.watch, self.judging, self.at = watch, judging, at
        self.counts: list[DeliveryCount] = []
        self.num_rows = 0
        outcomes = Taken(label_columns(self.contract), ())
        self.taken = {"events": Taken(self.contract), "labels": outcomes}
        # Deliveries that are settled and wait until the policy lets all of them through.
        self.held: list[tuple[Plan, Delivery, Settled]] | None = (
            [] if config.intake.may_stop else None
        )
        self.unique = UniqueValues(tables, self.contract, watch, judging.erased)

    def bring_in(self, until: datetime | None) -> Path | None:
        """Bring in rows, then outcomes, and leave a report; returns its path, if there is one."""
        source = self.source
        # An outcome known at `until` is known by then.
        known = mark_of(until + timedelta(microseconds=1) if until else None)
        rows = plan_of(self.tables, "events", source.deliveries, mark_of(until), source.reached)
        told = source.label_deliveries
        labels = plan_of(self.tables, "labels", told, known, source.labels_reached)
        pending = frozenset(d.digest for plan in (rows, labels) for d in plan.pending)
        if pending and pending == self.watch.stopped:
            return None
        try:
            self._bring_rows(rows)
            self._bring_labels(labels)
        except SourceError:
            # What came before the damaged file is in: it is told of, too.
            if self.counts:
                self._admit(until)
            raise
        if self.held and self.watch.stop():
            # Half of an ingest cannot be held against the policy.
            return None
        try:
            report = self._admit(until)
        except IngestStopped:
            self.watch.stopped = pending
            raise
        for plan, delivery, settled in self.held or ():
            self._commit(plan, delivery, settled)
        self.unique.leave()
        return report

    def readmit(self) -> int:
        """Take up outcomes that came before their rows; returns how many."""
        if self.watch.stop() or not may_readmit(self.tables):
            return 0
        return readmit(self.tables, self.watch.waiting, self.judging.erased, self.at)

    def _admit(self, until: datetime | None) -> Path | None:
        rows, outcomes = (self.taken[part].arrived() for part in PARTS)
        if self.watch.looks.following and not rows.pending and not outcomes.pending:
            # A follower looks every few seconds; when it matters that nothing comes, it is told.
            return None
        return admit(self.config, self.tables, rows, outcomes, self.at, until)

    def _bring_rows(self, plan: Plan) -> None:
        """Bring in rows up to a moment: groups of deliveries are judged together, in order."""
        for group in in_groups(plan.pending, GROUP_BYTES, GROUP_DELIVERIES):
            for delivery, blocks in self._judge(group, plan):
                if self.watch.stop():
                    return
                self._take(plan, delivery, partial(self._settle_rows, delivery, blocks))

    def _bring_labels(self, plan: Plan) -> None:
        """Bring in outcomes up to a moment, one delivery after the other."""
        for delivery in plan.pending:
            if self.watch.stop():
                return
            self._take(plan, delivery, partial(self._judge_labels, delivery, plan.window))

    def _take(self, plan: Plan, delivery: Delivery, settle: Callable[[], Settled]) -> None:
        """Settle a delivery and commit it; following, one that cannot be read is left out."""
        try:
            settled = settle()
            delivery.refuse_changed()
        except SourceError as error:
            if not self.watch.looks.following:
                raise
            self.watch.looks.set_aside(delivery, str(error))
            return
        # All of the delivery is known here, and none committed.
        self.taken[plan.part].add(delivery, settled)
        if self.held is None:
            self._commit(plan, delivery, settled)
        else:
            self.held.append((plan, delivery, settled))
        self.unique.add(settled.ids)

    def _commit(self, plan: Plan, delivery: Delivery, settled: Settled) -> None:
        last = delivery is plan.pending[-1] and not self.watch.looks.refused
        version = commit_delivery(self.tables, plan, delivery, settled, self.at, last=last)
        settled.discard()
        if plan.part == "events":
            self.unique.note(version)
        self.counts.append(
            DeliveryCount(
                name=delivery.name,
                digest=delivery.digest,
                table=plan.part,
                num_in=settled.num_in,
                num_accepted=settled.num_accepted,
                num_quarantined=settled.num_quarantined,
                rewritten=plan.rewritten(delivery),
            )
        )
        self._tell(plan)

    def _judge(
        self, group: Sequence[Delivery], plan: Plan
    ) -> Iterator[tuple[Delivery, list[Staged]]]:
        """Judge the blocks of some deliveries on the cluster; their rows go into files.

        Yields each delivery as soon as all of it is judged, in order; the cluster goes on with the
        next ones while it is committed. A block that a second try brings is the same one, by its
        first position.
        """
        act = partial(
            judge_where_read,
            config=self.config,
            erased=self.judging.erased.hashes,
            folder=self.judging.files.folder,
            window=plan.window,
        )
        staged: dict[str, dict[int, Staged]] = defaultdict(dict)
        waiting = deque(group)
        for block in map(Staged.of_row, self._blocks(group, act)):
            if self.watch.stop():
                return
            while waiting[0].digest != block.delivery:
                # Blocks come in order: of this one there are no more.
                yield waiting[0], list(staged.pop(waiting.popleft().digest, {}).values())
            staged[block.delivery][block.first] = block
            self.num_rows += block.num_in
            self._tell(plan)
        for delivery in waiting:
            yield delivery, list(staged.pop(delivery.digest, {}).values())

    def _blocks(
        self, group: Sequence[Delivery], act: Callable[[pa.Table], pa.Table]
    ) -> Iterator[dict[str, Any]]:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        for batch in _batches(self.source.map_blocks(group, act)):
            yield from batch.to_pylist()

    def _settle_rows(self, delivery: Delivery, blocks: Sequence[Staged]) -> Settled:
        problem = next((block.problem for block in blocks if block.problem), None)
        if problem:
            raise SourceError(problem)
        secret = self.judging.pseudonymiser
        files = self.judging.files
        return settle_rows(delivery.digest, blocks, self.contract, self.unique.seen, secret, files)

    def _judge_labels(self, delivery: Delivery, window: Window) -> Settled:
        """Judge outcomes block by block; rows that they name must be known by now."""
        outcomes, blocks, files = SeenIds(), list[Staged](), self.judging.files
        ids = self.unique.seen[self.contract.id]
        for rows in self.source.labels(delivery):
            staged = stage_outcomes(rows, self.judging, window, ids)
            blocks.append(settle_outcomes(staged, outcomes, files, self.contract))
        return Settled(delivery.digest, tuple(blocks), {}, files)

    def _tell(self, plan: Plan) -> None:
        done = sum(count.table == plan.part for count in self.counts)
        self.watch.tell(Progress(done, len(plan.pending), self.num_rows))


def _batches(dataset: ray.data.Dataset | None) -> Iterator[pa.Table]:
    if dataset is None:
        return iter(())
    batches: Iterator[pa.Table] = iter(
        dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    )
    return batches
