"""Judge blocks where they are read, and stage them; what travels on is where their rows were put.

Rows about erased subjects are refused before anything is written, and their content with them.
Knows contracts, windows and tombstones; knows nothing of Ray, sources or commits.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa

from app.config import Config
from app.contracts.rows import Contract
from app.data.cells import cells_of_arrow
from app.data.delivered_labels import LABEL_COLUMNS
from app.data.forgetting import ROW_ID, refuse_erased, withhold_erased
from app.data.intake import Window, judge_block, judge_labels
from app.data.pieces import DELIVERY, NOWHERE, POSITION, Rows
from app.data.sealing import open_sealing
from app.data.seen import hash_ids, hash_unique
from app.data.settling import Ids
from app.data.stagedfiles import StagedFiles
from app.data.staging import STAGED, Staged, stage
from app.data.tables import Tables
from app.data.tally import Tally
from app.data.tally_json import tally_to_json
from app.security.privacy import Pseudonymiser
from app.security.secrets import pseudonym_key
from app.security.tombstones import Hashes as Erased
from app.security.tombstones import Tombstones


@dataclass(frozen=True)
class Judging:
    """What blocks are judged by, and the files that they are staged in."""

    contract: Contract
    pseudonymiser: Pseudonymiser
    erased: Tombstones
    files: StagedFiles

    @classmethod
    def of(cls, config: Config, erased: Erased, folder: Path) -> Self:
        """Make it where it is needed, so that no key travels; `erased` are tombstones' hashes."""
        key = pseudonym_key(config)
        files = StagedFiles(folder, open_sealing(config))
        return cls(config.contract, Pseudonymiser(key), Tombstones(key, erased), files)


def judge_where_read(
    block: pa.Table, *, config: Config, erased: Erased, folder: Path, window: Window
) -> pa.Table:
    """Do judge_and_stage in a process that was sent no more than a configuration."""
    return judge_and_stage(block, judging=Judging.of(config, erased, folder), window=window)


def judge_and_stage(block: pa.Table, *, judging: Judging, window: Window) -> pa.Table:
    """Judge and stage a block of one delivery; returns its row of STAGED, none for no rows."""
    if not block.num_rows:
        return STAGED.empty_table()
    contract = judging.contract
    judged = judge_block(block, contract, window, judging.pseudonymiser)
    if block[POSITION][0].as_py() != NOWHERE:
        # The words of a read error are no row.
        judged = refuse_erased(judged, contract, judging.erased)
    hashes = [hash_unique(judged.accepted, column) for column in contract.unique]
    delivery: str = block[DELIVERY][0].as_py()
    staged = stage(judged, hashes, delivery, block, judging.files)
    if staged.problem is None:
        tally = tally_to_json(Tally.collect(judged.accepted, judged.refused, contract))
        staged = replace(staged, tally=judging.files.note(tally, f"{staged.name}-tally"))
    return staged.as_row()


def stage_outcomes(rows: Rows, judging: Judging, window: Window, ids: Ids) -> Staged:
    """Judge and stage a block of outcomes; those of unknown and of erased rows are refused.

    Where the id of a row is personal, outcomes name it by its pseudonym from here on.
    """
    block = _naming_protected(rows.with_places(), judging)
    known = _known(block[ROW_ID], ids, judging.erased)
    judged = judge_labels(block, window, known, judging.contract)
    refused = withhold_erased(judged.refused, judging.contract, judging.erased)
    accepted = judged.accepted
    hashes = hash_ids(accepted[ROW_ID], accepted["known_at"].cast(pa.int64()))
    return stage(judged._replace(refused=refused), [hashes], rows.digest, block, judging.files)


def read_seen(tables: Tables, contract: Contract) -> dict[str, Ids]:
    """Read what is in the unique columns of accepted rows, a part at a time."""
    seen = {column.name: Ids() for column in contract.unique}
    for part in tables.scan("events", list(seen)):
        for column in contract.unique:
            hashes = hash_unique(part, column)
            seen[column.name].before.add(hashes.at(part[column.name].is_valid().to_numpy()))
    return seen


def _naming_protected(block: pa.Table, judging: Judging) -> pa.Table:
    if judging.contract.id not in judging.contract.personal:
        return block
    row_ids = cells_of_arrow(block[ROW_ID], LABEL_COLUMNS.by_name[ROW_ID]).array
    # What cannot be read as an id is null by now: nobody sees it.
    protected = judging.pseudonymiser.apply(row_ids)
    return block.set_column(block.schema.get_field_index(ROW_ID), ROW_ID, protected)


def _known(row_ids: pa.ChunkedArray, ids: Ids, erased: Tombstones) -> pa.Array:
    """Return those of some ids that are ids of accepted rows."""
    cells = cells_of_arrow(row_ids, LABEL_COLUMNS.by_name[ROW_ID]).array.unique().drop_null()
    found = ids.contains(hash_ids(cells))
    # Ids are remembered from before an erasure.
    return cells.filter(pa.array(np.logical_and(found, ~erased.rows_in(cells))))
