"""Settle in vector operations what is nearly always so: no text comes twice, most rows are kept.

Knows Arrow arrays and positions; knows nothing of contracts, reasons or files.
"""

import sys

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from app.data.buffers import numbers_of

LANE = 8
MAX_LANES = 8
# So many rows at a time stay in the processor's nearest cache.
BLOCK = 4096
# A multiplier of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) spreads bits upwards, the shift
# brings them down again.
MULTIPLIER, HALF = np.uint64(0xBF58476D1CE4E5B9), np.uint64(32)
# How many bits of a lane belong to a text that has so many bytes left.
LANE_MASKS = np.array([(1 << 8 * num_bytes) - 1 for num_bytes in range(LANE + 1)], np.uint64)
# Copying the stretches between dropped rows beats gathering the others up to about so many of them.
ROWS_PER_DROPPED = 64


def surely_distinct(texts: pa.Array) -> bool:
    """Tell whether no text comes twice; False says that it may, and must be looked at.

    Equal texts have equal hashes, so that distinct hashes settle it: eight bytes of every text at a
    time, then one sort, instead of a hash table of texts. Nulls and texts over 64 bytes are left to
    others.
    """
    if texts.type != pa.string() or texts.null_count or sys.byteorder != "little":
        return False
    if len(texts) < 2:
        return True
    _, offsets, content = texts.buffers()
    ends = numbers_of(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    starts, sizes = ends[:-1].astype(np.int64), np.diff(ends)
    num_lanes = -(-int(sizes.max()) // LANE)
    if content is None or num_lanes > MAX_LANES:
        return False
    # A lane may reach beyond the last text; what it finds there is masked.
    held = np.frombuffer(content, np.uint8)[starts[0] : int(ends[-1])]
    lanes = np.ndarray(len(held) + 1, "<u8", np.append(held, np.zeros(LANE, np.uint8)), 0, (1,))
    hashes = np.empty(len(texts), np.uint64)
    for i in range(0, len(texts), BLOCK):
        block = slice(i, i + BLOCK)
        hashes[block] = _hashes(lanes, starts[block] - starts[0], sizes[block], num_lanes)
    hashes.sort()
    return bool((hashes[1:] != hashes[:-1]).all())


def _hashes(
    lanes: npt.NDArray[np.uint64],
    starts: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int32],
    num_lanes: int,
) -> npt.NDArray[np.uint64]:
    """Hash texts by what they hold and by how long they are."""
    hashes = sizes.astype(np.uint64)
    for first in range(0, num_lanes * LANE, LANE):
        places = np.minimum(starts + first, len(lanes) - 1)
        hashes ^= lanes[places] & LANE_MASKS[np.clip(sizes - first, 0, LANE)]
        hashes *= MULTIPLIER
        hashes ^= hashes >> HALF
    return hashes


def take_most(table: pa.Table, positions: npt.NDArray[np.int64]) -> pa.Table:
    """Take the rows at ascending positions, cheaply when nearly all are taken."""
    num_dropped = table.num_rows - len(positions)
    if not num_dropped:
        return table
    if num_dropped * ROWS_PER_DROPPED > table.num_rows:
        return table.take(pa.array(positions))
    # A jump in the positions ends a stretch of rows that stand together.
    firsts = np.flatnonzero(np.diff(positions, prepend=-2) != 1)
    sizes = np.diff(firsts, append=len(positions))
    stretches = zip(positions[firsts].tolist(), sizes.tolist(), strict=True)
    return pa.concat_tables([table.slice(*stretch) for stretch in stretches]).combine_chunks()
