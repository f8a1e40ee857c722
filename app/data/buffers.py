"""View the buffers of Arrow arrays as numbers. Knows memory; knows nothing of what it holds."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def numbers_of(buffer: pa.Buffer, kind: npt.DTypeLike) -> npt.NDArray[np.int32 | np.int64]:
    """View the whole numbers of a kind that a buffer holds.

    A valid array needs so many bytes at least: a stranger's buffer may end in the middle of one.

    >>> numbers_of(pa.py_buffer(bytes([1, 0, 0, 0, 9])), "<i4").tolist()
    [1]
    """
    size = np.dtype(kind).itemsize
    return np.frombuffer(buffer, kind, buffer.size // size)
