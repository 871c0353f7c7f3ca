"""Feast's stored bytes as NumPy arrays and back, without Feast and without a Python object per value.

The layout is Feast's own (its "online store format" specification): one Redis hash per entity, with one field per
feature, named by the 32-bit MurmurHash3 of ``view:feature``, holding a serialized protobuf ``Value``. The two values we
write are fixed in form: a double is a tag byte and eight bytes, a list of doubles a short header and then the packed
little-endian doubles, so that both decode with one ``numpy.frombuffer``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache, lru_cache

import mmh3
import numpy as np
import numpy.typing as npt

from feature_repo.catalog import ENTITY

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_STRING = 2  # feast.types.ValueType.STRING
_DOUBLE_TAG = b"\x29"  # Value.double_val: field 5, eight bytes
_LIST_TAG = b"\x7a"  # Value.double_list_val: field 15, length-delimited
_PACKED_TAG = b"\x0a"  # DoubleList.val: field 1, packed
_DOUBLE_BYTES = 9
_YEAR_1, _YEAR_10000 = -62_135_596_800, 253_402_300_800  # seconds since 1970 that a Timestamp may hold


class CodecError(ValueError):
    """Stored bytes that are not what this layout writes; never shown to a user as a value."""


# -------------------------------------------------------------------------------------------- keys and fields


def entity_key(symbol: str, project: str) -> bytes:
    """The Redis key of a symbol: Feast's entity key (version 3) and the project; every part carries its length."""
    name, value = ENTITY.encode(), symbol.encode()
    head = struct.pack("<III", 1, _STRING, len(name)) + name
    return head + struct.pack("<II", _STRING, len(value)) + value + project.encode()


@cache
def field_key(view: str, feature: str) -> bytes:
    """The hash field of a feature."""
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


@cache
def timestamp_key(view: str) -> bytes:
    """The hash field of a view's event timestamp (Feast's)."""
    return f"_ts:{view}".encode()


@cache
def revision_key(view: str) -> bytes:
    """The hash field of a view's revision (ours; Feast ignores it): see ``revision``."""
    return f"_rev:{view}".encode()


@cache
def doubt_key(timeframe: str) -> bytes:
    """The hash field that says why a symbol's views of a timeframe are in doubt (ours, UTF-8), if they are."""
    return f"_doubt:{timeframe}".encode()


FENCE_KEY = b"_fence"
"""The hash field of the highest fencing token that has written a symbol (ours); see ``publish``."""


def revision(event_us: int, created_us: int) -> bytes:
    """Which of two writes is newer: by bar first, then by when its newest revision was written.

    Fixed-width digits, because Redis scripts compare strings by the server's locale, which agrees on digits only.

    Raises:
        ValueError: a moment before 1970: a sign is no digit.
    """
    if event_us < 0 or created_us < 0:
        raise ValueError("the online store holds the newest bars; one that closed before 1970 is none")
    return b"%020d%020d" % (event_us, created_us)


def read_revision(stored: bytes) -> tuple[int, int]:
    """Event timestamp and created of a stored revision, microseconds since 1970-01-01 UTC."""
    if len(stored) != 40 or not stored.isdigit():
        raise CodecError(f"a revision has 40 digits, not {len(stored)} bytes")
    return int(stored[:20]), int(stored[20:])


# --------------------------------------------------------------------------------------------------- scalars


def encode_double(value: float) -> bytes:
    """One float64 as a ``Value``; NaN and infinities keep their bits."""
    return _DOUBLE_TAG + struct.pack("<d", value)


def encode_doubles(values: Sequence[float]) -> list[bytes]:
    """Several float64, each as a ``Value``."""
    return [encode_double(value) for value in values]


def decode_doubles(stored: Sequence[bytes | None]) -> tuple[FloatArray, BoolArray]:
    """Values of many fields at once.

    Returns:
        (n,) float64 values, NaN where there is none; (n,) bool, whether the field holds a value (NaN included).

    Raises:
        CodecError: a field holds something other than a double or null.
    """
    try:
        uniform = {_DOUBLE_BYTES}.issuperset(map(len, stored))  # type: ignore[arg-type]
    except TypeError:  # a None
        uniform = False
    if not uniform or not stored:
        return _decode_with_holes(stored)
    n, cells = len(stored), b"".join(stored)  # type: ignore[arg-type]
    if cells[::_DOUBLE_BYTES] != _DOUBLE_TAG * n:
        raise CodecError("a field does not hold a double")
    values = np.ndarray(n, dtype="<f8", buffer=cells, offset=1, strides=(_DOUBLE_BYTES,))
    return values.astype(np.float64), np.ones(n, dtype=np.bool_)


def _decode_with_holes(stored: Sequence[bytes | None]) -> tuple[FloatArray, BoolArray]:
    values = np.full(len(stored), np.nan)
    present = np.zeros(len(stored), dtype=np.bool_)
    for i, cell in enumerate(stored):
        if not cell:
            continue
        if len(cell) != _DOUBLE_BYTES or cell[:1] != _DOUBLE_TAG:
            raise CodecError(f"a field of {len(cell)} bytes does not hold a double")
        values[i] = struct.unpack_from("<d", cell, 1)[0]
        present[i] = True
    return values, present


# ---------------------------------------------------------------------------------------------------- arrays


def encode_array(values: FloatArray) -> bytes:
    """A one-dimensional float64 array as a ``Value`` with a list of doubles."""
    packed = np.ascontiguousarray(values, dtype="<f8").tobytes()
    if not packed:
        return _LIST_TAG + b"\x00"
    inner = _PACKED_TAG + _varint(len(packed)) + packed
    return _LIST_TAG + _varint(len(inner)) + inner


def encode_arrays(columns: Sequence[FloatArray]) -> list[bytes]:
    """Several one-dimensional float64 arrays, each as a ``Value`` with a list of doubles."""
    return [encode_array(column) for column in columns]


def decode_array(stored: bytes) -> FloatArray:
    """The array of a stored list of doubles: read-only, sharing the bytes' memory.

    Raises:
        CodecError: the bytes are no list of doubles, or are cut.
    """
    if stored[:1] != _LIST_TAG:
        raise CodecError(f"a field of {len(stored)} bytes does not hold a list of doubles")
    length, at = _read_varint(stored, 1)
    if length == 0 and len(stored) == at:
        return np.empty(0)
    if at + length != len(stored) or stored[at : at + 1] != _PACKED_TAG:
        raise CodecError("a list of doubles is cut or not packed")
    length, at = _read_varint(stored, at + 1)
    if at + length != len(stored) or length % 8:
        raise CodecError("a list of doubles is cut")
    return np.frombuffer(stored, dtype="<f8", offset=at)


# ------------------------------------------------------------------------------------------------ timestamps


def encode_timestamp(us: int) -> bytes:
    """A protobuf ``Timestamp`` of microseconds since 1970-01-01 UTC."""
    seconds, micros = divmod(us, 1_000_000)
    out = b"\x08" + _varint(seconds) if seconds else b""
    return out + b"\x10" + _varint(micros * 1000) if micros else out


@lru_cache(maxsize=4096)  # thousands of reads see the same bar
def decode_timestamp(stored: bytes) -> int:
    """Microseconds since 1970-01-01 UTC of a protobuf ``Timestamp``, rounded down.

    Raises:
        CodecError: the bytes are no timestamp, or one outside of the years 1 to 9999.
    """
    seconds = nanos = at = 0
    while at < len(stored):
        tag = stored[at]
        value, at = _read_varint(stored, at + 1)
        if tag == 0x08:
            seconds = value
        elif tag == 0x10:
            nanos = value
        else:
            raise CodecError("not a timestamp")
    if not (_YEAR_1 <= seconds < _YEAR_10000 and 0 <= nanos < 1_000_000_000):
        raise CodecError("a timestamp out of range")
    return seconds * 1_000_000 + nanos // 1000


def _varint(value: int) -> bytes:
    if value < 0:
        value += 1 << 64
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(stored: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(stored) or shift > 63:
            raise CodecError("a number is cut")
        byte = stored[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value - (1 << 64) if value >> 63 else value), at
        shift += 7
