"""Bring a source in: read → validate → pseudonymise → commit. Repeating it adds nothing.

Knows Ray Data, the source and the tables; what is wrong with a row is for validation to say. Blocks
are judged on the cluster and staged in files; then each delivery is a transaction of its own, its
quarantined rows committed first, its accepted rows last, so that an ingest that was cut off at any
point can simply be run again. No step holds more than a few blocks of rows in memory.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa
import ray.data

from app.config import Config
from app.contracts.rows import Contract
from app.data.cells import cells_of_arrow
from app.data.commits import Part, Plan, commit, plan_of, position_of
from app.data.deliveries import Delivery, in_groups
from app.data.ingestion import DeliveryCount, IngestResult, Progress, RefusedFile, Versions, total
from app.data.intake import Window, judge_block, judge_labels, mark_of
from app.data.looks import Looks
from app.data.pieces import DELIVERY, MEGABYTE, POSITION, SourceError
from app.data.seen import SeenIds, hash_ids
from app.data.settling import Ids, Settled, settle_outcomes, settle_rows
from app.data.sources import Source, open_source
from app.data.staging import STAGED, Staged, stage, staging_folder
from app.data.tables import Tables
from app.data.validation import LABEL_COLUMNS
from app.security.privacy import Pseudonymiser
from app.security.secrets import pseudonym_key

PARTS: tuple[Part, ...] = ("events", "labels")
GROUP_BYTES = 512 * MEGABYTE
GROUP_DELIVERIES = 64


def _silent(_progress: Progress) -> None:
    """Tell nobody."""


@dataclass
class Watch:
    """Who looks on while an ingest works, and what one ingest leaves for the next.

    `stop` is asked between deliveries: what is committed stays, the rest is for another time.
    """

    tell: Callable[[Progress], None] = _silent
    stop: Callable[[], bool] = bool
    looks: Looks = field(default_factory=Looks)
    ids: Ids = field(default_factory=Ids)
    ids_version: int = -1


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
    the others are brought in. Raises Busy while another ingest works in this workspace.
    """
    watch = watch or Watch()
    with staging_folder(config.workspace) as folder:
        rows_at, labels_at = (partial(position_of, tables, part) for part in PARTS)
        source = open_source(config, rows_at, labels_at, watch.looks)
        run = _Run(config, tables, source, watch, folder, at or datetime.now(UTC))
        run.bring_rows(mark_of(until))
        # An outcome known at `until` is known by then.
        run.bring_labels(mark_of(until + timedelta(microseconds=1) if until else None))
        run.leave_ids()
    versions = Versions(*(tables.version(name) for name in ("events", "quarantine", "labels")))
    refused = [RefusedFile(name=r.name, problem=r.problem) for r in watch.looks.refused]
    return total(run.counts, versions, watch.looks.waiting, refused)


class _Run:
    """One ingest at work."""

    def __init__(
        self,
        config: Config,
        tables: Tables,
        source: Source,
        watch: Watch,
        folder: Path,
        at: datetime,
    ) -> None:
        self.contract, self.tables, self.source = config.contract, tables, source
        self.watch, self.folder, self.at = watch, folder, at
        self.pseudonymiser = Pseudonymiser(pseudonym_key(config))
        self.counts: list[DeliveryCount] = []
        self.num_rows = 0
        self._ids: Ids | None = None

    @property
    def ids(self) -> Ids:
        """The ids of accepted rows: read once, and again only when others added some."""
        if self._ids is None:
            self._ids = self.watch.ids
            if self.watch.ids_version != self.tables.version("events"):
                self._ids = Ids()
                for part in self.tables.scan("events", [self.contract.id]):
                    self._ids.before.add(hash_ids(part[self.contract.id]))
        return self._ids

    def leave_ids(self) -> None:
        """Leave the ids to the next ingest of the same watch."""
        if self._ids is not None:
            self._ids.before.merge(self._ids.added)
            self.watch.ids = Ids(self._ids.before)
            self.watch.ids_version = self.tables.version("events")

    def bring_rows(self, until: int) -> None:
        """Bring in rows up to a moment: groups of deliveries are judged together, in order."""
        source = self.source
        plan = plan_of(self.tables, "events", source.deliveries, until, source.reached)
        for group in in_groups(plan.pending, GROUP_BYTES, GROUP_DELIVERIES):
            staged = self._judge(group, plan)
            for delivery in group:
                if self.watch.stop():
                    return
                settle = partial(self._settle_rows, delivery, staged[delivery.digest])
                self._bring_in(plan, delivery, settle)

    def bring_labels(self, until: int) -> None:
        """Bring in outcomes up to a moment, one delivery after the other."""
        source = self.source
        plan = plan_of(self.tables, "labels", source.label_deliveries, until, source.labels_reached)
        for delivery in plan.pending:
            if self.watch.stop():
                return
            self._bring_in(plan, delivery, partial(self._judge_labels, delivery, plan.window))

    def _bring_in(self, plan: Plan, delivery: Delivery, settle: Callable[[], Settled]) -> None:
        """Settle a delivery and commit it; following, one that cannot be read is left out."""
        try:
            settled = settle()
            delivery.refuse_changed()
        except SourceError as error:
            if not self.watch.looks.following:
                raise
            self.watch.looks.set_aside(delivery, str(error))
            return
        # All of the delivery is known here (num_in, num_quarantined, reasons), and none committed.
        last = delivery is plan.pending[-1] and not self.watch.looks.refused
        commit(self.tables, plan, delivery, settled, self.at, last=last)
        self.ids.added.merge(settled.ids)
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

    def _judge(self, group: Sequence[Delivery], plan: Plan) -> dict[str, list[Staged]]:
        """Judge the blocks of some deliveries on the cluster; their rows go into files."""
        act = partial(
            _judge_and_stage,
            contract=self.contract,
            window=plan.window,
            pseudonymiser=self.pseudonymiser,
            folder=self.folder,
        )
        staged: dict[str, list[Staged]] = defaultdict(list)
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        blocks = self.source.map_blocks(group, act)
        for batch in _batches(blocks):
            for block in map(Staged.of_row, batch.to_pylist()):
                staged[block.delivery].append(block)
                self.num_rows += block.num_accepted + block.num_refused
            self._tell(plan)
            if self.watch.stop():
                break
        return staged

    def _settle_rows(self, delivery: Delivery, blocks: Sequence[Staged]) -> Settled:
        problem = next((block.problem for block in blocks if block.problem), None)
        if problem:
            raise SourceError(problem)
        return settle_rows(delivery.digest, blocks, self.contract, self.ids, self.pseudonymiser)

    def _judge_labels(self, delivery: Delivery, window: Window) -> Settled:
        """Judge outcomes block by block; rows that they name must be known by now."""
        outcomes, blocks = SeenIds(), list[Staged]()
        for rows in self.source.labels(delivery):
            block = rows.with_places()
            judged = judge_labels(block, window, self._known(block["row_id"]))
            hashes = hash_ids(judged.accepted["row_id"], judged.accepted["known_at"].cast("int64"))
            staged = stage(judged, hashes, delivery.digest, block[POSITION], self.folder)
            blocks.append(settle_outcomes(staged, outcomes))
        return Settled(delivery.digest, tuple(blocks), SeenIds())

    def _known(self, row_ids: pa.ChunkedArray) -> pa.Array:
        """Return those of some ids that are ids of accepted rows."""
        ids = cells_of_arrow(row_ids, LABEL_COLUMNS.by_name["row_id"]).array.unique().drop_null()
        hashes = hash_ids(ids)
        known = self.ids.before.contains(hashes) | self.ids.added.contains(hashes)
        return ids.filter(pa.array(known))

    def _tell(self, plan: Plan) -> None:
        done = sum(count.table == plan.part for count in self.counts)
        self.watch.tell(Progress(done, len(plan.pending), self.num_rows))


def _judge_and_stage(
    block: pa.Table,
    *,
    contract: Contract,
    window: Window,
    pseudonymiser: Pseudonymiser,
    folder: Path,
) -> pa.Table:
    """Judge a block where it was read; what travels on is where its rows were written."""
    if not block.num_rows:
        return STAGED.empty_table()
    judged = judge_block(block, contract, window, pseudonymiser)
    hashes = hash_ids(judged.accepted[contract.id])
    delivery: str = block[DELIVERY][0].as_py()
    return stage(judged, hashes, delivery, block[POSITION], folder).as_row()


def _batches(dataset: ray.data.Dataset | None) -> Iterator[pa.Table]:
    if dataset is None:
        return iter(())
    batches: Iterator[pa.Table] = iter(
        dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    )
    return batches
