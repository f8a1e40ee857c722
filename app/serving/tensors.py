"""Read and write tensors of the Open Inference Protocol, one column each, in JSON or in binary.

Numbers of every width are widened to FP64 exactly or refused; NaN, and null in JSON, stand for a
value that is not known. BYTES are UTF-8 texts, each behind its length in four bytes, little-endian.
What a tensor claims is held against what came before anything is made of it. Knows datatypes, JSON
values and Arrow arrays; knows nothing of columns, requests or HTTP.
"""

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from app.serving.messages import Refused

# The protocol's name of each number's type, and its layout in memory.
NUMBERS = {
    **{f"FP{size * 8}": f"<f{size}" for size in (2, 4, 8)},
    **{f"INT{size * 8}": f"<i{size}" for size in (1, 2, 4, 8)},
    **{f"UINT{size * 8}": f"<u{size}" for size in (1, 2, 4, 8)},
}
TEXT = "BYTES"
NUMBER = "FP64"
# Beyond this a whole number may have no FP64 of its own.
LARGEST_EXACT = 2**53
LENGTH = struct.Struct("<I")

Array = npt.NDArray[np.float64]


def numbers_of_binary(content: memoryview, datatype: str, num_rows: int, where: str) -> pa.Array:
    """Read numbers as float64; NaN is null. Raises Refused with 400."""
    layout = np.dtype(NUMBERS[datatype])
    expected = num_rows * layout.itemsize
    if len(content) != expected:
        got = f"{len(content)} bytes for {num_rows} values of {datatype}"
        raise Refused(400, where, got, f"send {expected} bytes")
    values = np.frombuffer(content, layout)
    if layout.kind in "iu" and layout.itemsize == 8:
        inexact = (values > LARGEST_EXACT) | (values < -LARGEST_EXACT)
        _refuse_inexact(np.flatnonzero(inexact), where)
    # A copy: what is read lies at any place of the body, and Arrow's arrays are aligned.
    return pa.array(values.astype(np.float64), from_pandas=True)


def numbers_of_json(data: Sequence[object], datatype: str, where: str) -> pa.Array:
    """Read numbers as float64; null is null. Raises Refused with 400.

    A number of FP32 is rounded to FP32 as if it had come in binary.
    """
    whole = not datatype.startswith("FP")
    if datatype == "FP16":
        raise Refused(400, where, "FP16 in JSON", "send it in binary, or as FP32")
    allowed = (int,) if whole else (int, float)
    _refuse_others(data, (*allowed, type(None)), "whole numbers" if whole else "numbers", where)
    if not whole:
        return pa.array(_floats(data, datatype, where), from_pandas=True)
    limits = np.iinfo(np.dtype(NUMBERS[datatype]))
    outside = [i for i, n in enumerate(data) if n is not None and not limits.min <= n <= limits.max]  # type: ignore[operator]
    if outside:
        raise Refused(400, where, f"value {outside[0]} is no {datatype}", "send a wider datatype")
    inexact = [i for i, n in enumerate(data) if n is not None and abs(n) > LARGEST_EXACT]  # type: ignore[arg-type]
    _refuse_inexact(inexact, where)
    return pa.array(data, pa.int64()).cast(pa.float64())


def texts_of_binary(content: memoryview, num_rows: int, where: str) -> pa.Array:
    """Read texts, each behind its length. Raises Refused with 400."""
    change = "send each value as its length in four bytes, little-endian, and its UTF-8 bytes"
    pieces = []
    place, end = 0, len(content)
    for number in range(num_rows):
        start = place + LENGTH.size
        if start > end:
            got = f"{number} of {num_rows} values in {end} bytes"
            raise Refused(400, where, got, change)
        place = start + LENGTH.unpack_from(content, place)[0]
        if place > end:
            raise Refused(400, where, f"value {number} reaches beyond the tensor", change)
        pieces.append(bytes(content[start:place]))
    if place != end:
        raise Refused(400, where, f"{end - place} bytes behind the last value", change)
    try:
        return pa.array(pieces, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        raise Refused(400, where, "a value that is no UTF-8 text", change) from None


def texts_of_json(data: Sequence[object], where: str) -> pa.Array:
    """Read texts; null is null. Raises Refused with 400."""
    _refuse_others(data, (str, type(None)), "texts", where)
    return pa.array(data, pa.string())


def binary_of(values: pa.Array) -> bytes:
    r"""Write a column without nulls as the bytes of a tensor: numbers FP64, texts BYTES.

    >>> binary_of(pa.array(["ab"]))
    b'\x02\x00\x00\x00ab'
    """
    if pa.types.is_floating(values.type):
        return values.to_numpy().astype(NUMBERS[NUMBER]).tobytes()  # type: ignore[no-any-return]
    encoded = (text.encode() for text in values.to_pylist())
    return b"".join(part for text in encoded for part in (LENGTH.pack(len(text)), text))


def _floats(data: Sequence[object], datatype: str, where: str) -> Array:
    try:
        values = np.array([np.nan if n is None else n for n in data], np.float64)
    except OverflowError:
        raise Refused(400, where, "a number beyond FP64", "send one that it can hold") from None
    if datatype == "FP64":
        return values
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32).astype(np.float64)
    beyond = np.flatnonzero(np.isinf(narrow))
    if len(beyond):
        got = f"value {beyond[0]} is no {datatype}"
        raise Refused(400, where, got, "send FP64")
    return narrow


def _refuse_others(
    data: Sequence[object], allowed: tuple[type, ...], wanted: str, where: str
) -> None:
    # By the very type: True is an int to isinstance.
    if set(map(type, data)) <= set(allowed):
        return
    place = next(i for i, value in enumerate(data) if type(value) not in allowed)
    got = f"value {place} is of type {type(data[place]).__name__}"
    raise Refused(400, where, got, f"send {wanted}, or null for what is not known")


def _refuse_inexact(places: Sequence[int] | npt.NDArray[np.intp], where: str) -> None:
    if len(places):
        got = f"value {places[0]} is beyond 2**53, where FP64 skips whole numbers"
        raise Refused(400, where, got, "send FP64, or text if it is a name")
