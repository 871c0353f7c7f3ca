"""Cached values as bytes that another process reads: Arrow for tables, JSON for plain values, never pickle.

An answer of the client has its one Arrow form, see ``answers.arrow``; other tables have pandas' own.

What is decoded equals what was encoded, in values and in types; what these formats would bend (NaN in a dict, a tuple,
a categorical column) has no encoding and is not shared. Only a DatetimeIndex's ``freq`` is not kept.

A value is an 8-byte header (magic, version of this layout, kind) and its payload.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa

from fsclient.answers.arrow import frame_from_arrow, frame_to_arrow, is_answer

_MAGIC = b"FSTORE"
_VERSION = b"\x01"
_ANSWER, _FRAME, _SERIES, _JSON, _BYTES = b"A", b"F", b"S", b"J", b"B"
_HEADER = len(_MAGIC) + len(_VERSION) + 1
_SERIES_NAME = b"fstore.series_name"


def encode(value: Any) -> bytes | None:
    """The value's bytes; None when no encoding restores it exactly."""
    if type(value) is pd.DataFrame and is_answer(value) and _is_json(value.attrs):
        return _header(_ANSWER) + frame_to_arrow(value)
    if type(value) is pd.DataFrame:
        return _encode_table(_FRAME, value, {}) if _is_plain(value) else None
    if type(value) is pd.Series:
        frame = value.to_frame("value")
        frame.attrs = value.attrs
        named = value.name is None or type(value.name) is str
        metadata = {_SERIES_NAME: orjson.dumps(value.name)} if named else {}
        return _encode_table(_SERIES, frame, metadata) if named and _is_plain(frame) else None
    if type(value) is bytes:
        return _header(_BYTES) + value
    return _header(_JSON) + orjson.dumps(value) if _is_json(value) else None


def decode(data: bytes) -> Any:
    """What ``encode`` was given.

    Raises:
        ValueError: not bytes of ``encode``, of another version of it, or damaged.
    """
    header, kind, payload = data[: _HEADER - 1], data[_HEADER - 1 : _HEADER], data[_HEADER:]
    if header != _MAGIC + _VERSION:
        raise ValueError("not a cached value, or one of another version")
    if kind == _BYTES:
        return payload
    if kind not in (_ANSWER, _FRAME, _SERIES, _JSON):
        raise ValueError(f"a cached value of unknown kind {kind!r}")
    try:
        if kind == _ANSWER:
            return frame_from_arrow(payload)
        return orjson.loads(payload) if kind == _JSON else _decode_table(kind, payload)
    except Exception as error:
        raise ValueError(f"a damaged cached value: {type(error).__name__}") from error


def _header(kind: bytes) -> bytes:
    return _MAGIC + _VERSION + kind


def _encode_table(kind: bytes, frame: pd.DataFrame, metadata: dict[bytes, bytes]) -> bytes:
    table = pa.Table.from_pandas(frame)
    table = table.replace_schema_metadata({**table.schema.metadata, **metadata})
    sink = pa.BufferOutputStream()
    sink.write(_header(kind))
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _decode_table(kind: bytes, payload: bytes) -> pd.DataFrame | pd.Series:
    with pa.ipc.open_stream(pa.py_buffer(payload)) as reader:
        table = reader.read_all()
    table.validate(full=True)  # the bytes come from outside: no offset may point out of them
    frame = table.to_pandas()
    if kind == _FRAME:
        return frame
    series = frame["value"].rename(orjson.loads(table.schema.metadata[_SERIES_NAME]))
    series.attrs = frame.attrs
    return series


def _is_plain(frame: pd.DataFrame) -> bool:
    """Whether Arrow restores the frame exactly: numbers, booleans and times under unique string names."""
    names = frame.columns
    return bool(
        len(names) > 0
        and names.name is None
        and names.is_unique
        and all(type(name) is str for name in names)
        and all(map(_is_plain_dtype, frame.dtypes))
        and _is_plain_index(frame.index)
        and frame.index.name not in names
        and _is_json(frame.attrs)
    )


def _is_plain_index(index: pd.Index) -> bool:
    if type(index) not in (pd.Index, pd.RangeIndex, pd.DatetimeIndex) or type(index.name) not in (str, type(None)):
        return False
    if index.dtype == np.dtype(object):
        return all(type(label) is str for label in index)
    return _is_plain_dtype(index.dtype)


def _is_plain_dtype(dtype: Any) -> bool:
    return isinstance(dtype, pd.DatetimeTZDtype) or (isinstance(dtype, np.dtype) and dtype.kind in "biufM")


def _is_json(value: Any) -> bool:
    """Whether JSON restores the value exactly, types included."""
    kind = type(value)
    if kind is float:
        return math.isfinite(value)
    if kind is int:
        return bool(-(2**63) <= value < 2**64)
    if kind is str:
        return bool(value == value.encode("utf-8", "ignore").decode())  # no lone surrogates
    if kind is dict:
        return all(type(key) is str and _is_json(key) and _is_json(item) for key, item in value.items())
    if kind is list:
        return all(map(_is_json, value))
    return kind is bool or value is None
