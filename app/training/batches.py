"""How a network gets its batches: from rows on its device, or chunk by chunk from the host.

Both ways give the same batches, bit for bit; which of them is taken is a matter of memory only.
Knows tensors, devices and the rows' columns; knows nothing of networks, losses or configuration
files.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from app.model.tasks import LearningTask
from app.training.rows import Rows

Residence = Literal["auto", "device", "host"]

# The rest of a card's free memory is for the network, its gradients and a batch's activations.
RESIDENT_SHARE = 0.5
# So many rows travel at once: some tens of megabytes, long enough to hide a gather behind.
CHUNK_ROWS = 2**17


class Batch(NamedTuple):
    """What one step learns from."""

    numbers_BF: Tensor
    categories_BC: Tensor
    targets_B: Tensor
    groups_B: Tensor | None

    @property
    def num_rows(self) -> int:
        """Count the rows."""
        return len(self.targets_B)


class Batches(Protocol):
    """A source of batches."""

    def epoch(self, order_N: Tensor, batch_rows: int, num_steps: int) -> Iterator[Batch]:
        """Give the first `num_steps` batches of the rows in this order; the last may be smaller.

        A batch is the caller's until the next one is asked for.
        """


def open_batches(
    rows: Rows, task: LearningTask, device: torch.device, residence: Residence = "auto"
) -> Batches:
    """Choose where the rows lie: on the device, if they fit within half of its free memory.

    Rows of the CPU stay where they are and are not copied. `host` streams on any device.
    """
    columns = _columns(rows, task)
    if residence == "auto":
        residence = "device" if _fits(columns, device) else "host"
    if residence == "host":
        return StreamedBatches(columns, device)
    return ResidentBatches(columns, device)


class ResidentBatches:
    """Rows on the device: a batch is a gather."""

    def __init__(self, columns: list[Tensor], device: torch.device) -> None:
        """Bring the columns to the device once."""
        # Codes take half the room; a batch of them is widened again.
        self._columns = [_compact(column, device).to(device) for column in columns]
        self._device = device

    def epoch(self, order_N: Tensor, batch_rows: int, num_steps: int) -> Iterator[Batch]:
        """Give batches; see Batches."""
        order_N = order_N.to(self._device)
        for first in range(0, num_steps * batch_rows, batch_rows):
            rows_B = order_N[first : first + batch_rows]
            yield _batch([column.index_select(0, rows_B) for column in self._columns])


class StreamedBatches:
    """Rows in the host's memory: a thread gathers the next chunk while this one is learned from.

    A chunk is gathered into page-locked memory, of which there are two pieces, and sent on a stream
    of its own: copies run beside kernels. On a CPU it is a gather of chunks.
    """

    def __init__(
        self, columns: list[Tensor], device: torch.device, chunk_rows: int = CHUNK_ROWS
    ) -> None:
        """Keep the columns where they are."""
        self._columns, self._device = columns, device
        self._chunk_rows = chunk_rows
        self._on_card = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if self._on_card else None  # type: ignore[no-untyped-call]
        self._buffers: list[list[Tensor]] = [[], []]
        self._sent: list[torch.cuda.Event | None] = [None, None]

    def epoch(self, order_N: Tensor, batch_rows: int, num_steps: int) -> Iterator[Batch]:
        """Give batches; see Batches."""
        order_N = order_N.cpu()[: num_steps * batch_rows]
        # Whole batches, so that a chunk's end is a batch's end.
        size = max(self._chunk_rows // batch_rows, 1) * batch_rows
        chunks = torch.split(order_N, size)
        with ThreadPoolExecutor(1, "chunks") as thread:
            coming: Future[list[Tensor]] = thread.submit(self._bring, chunks[0], 0)
            for number in range(len(chunks)):
                chunk = coming.result()
                if number + 1 < len(chunks):
                    coming = thread.submit(self._bring, chunks[number + 1], number + 1)
                self._await(chunk, number)
                for first in range(0, len(chunks[number]), batch_rows):
                    yield _batch([column[first : first + batch_rows] for column in chunk])

    def _bring(self, rows_M: Tensor, number: int) -> list[Tensor]:
        """Gather a chunk and set it off to the device; runs in the thread."""
        if not self._on_card:
            return [column.index_select(0, rows_M) for column in self._columns]
        place = number % 2
        if (sent := self._sent[place]) is not None:
            sent.synchronize()  # Not before it has left may its memory be written again.
        buffers = self._buffer(place, len(rows_M))
        for column, buffer in zip(self._columns, buffers, strict=True):
            torch.index_select(column, 0, rows_M, out=buffer)
        with torch.cuda.stream(self._stream):
            chunk = [buffer.to(self._device, non_blocking=True) for buffer in buffers]
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(self._stream)
        self._sent[place] = event
        return chunk

    def _buffer(self, place: int, num_rows: int) -> list[Tensor]:
        """Give page-locked memory for a chunk; a later chunk is never larger than the first."""
        if not self._buffers[place] or len(self._buffers[place][0]) < num_rows:
            self._buffers[place] = [
                torch.empty((num_rows, *column.shape[1:]), dtype=column.dtype, pin_memory=True)
                for column in self._columns
            ]
        return [buffer[:num_rows] for buffer in self._buffers[place]]

    def _await(self, chunk: list[Tensor], number: int) -> None:
        """Let the kernels that follow wait for the chunk; this process does not."""
        if not self._on_card:
            return
        event = self._sent[number % 2]
        assert event is not None
        stream = torch.cuda.current_stream(self._device)
        stream.wait_event(event)
        for column in chunk:
            column.record_stream(stream)


def _columns(rows: Rows, task: LearningTask) -> list[Tensor]:
    parts = [rows.encoded.numbers, rows.encoded.categories, task.targets(rows.labels)]
    if rows.groups is not None:
        parts.append(rows.groups)
    return [torch.from_numpy(part) for part in parts]


def _batch(columns: list[Tensor]) -> Batch:
    numbers, categories, targets, *groups = columns
    return Batch(numbers, categories.long(), targets, groups[0] if groups else None)


def _compact(column: Tensor, device: torch.device) -> Tensor:
    """Halve codes of 64 bits on their way to a card; rows of the CPU stay as they are."""
    if device.type == "cpu" or column.dtype != torch.int64 or column.dim() == 1:
        return column
    return column.to(torch.int32)


def _fits(columns: list[Tensor], device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    # What torch keeps to hand out again is free as well.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return sum(column.nbytes for column in columns) <= free * RESIDENT_SHARE
