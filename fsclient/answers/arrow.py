"""The one Arrow form of an answer: on the wire, in the cache's shared tier, and in the last good answers on disk.

An Arrow stream that has the frame's index as its first column, then the frame's own columns, and the provenance as
JSON in the schema's metadata. Values are the answer's to the bit: NaN stays NaN, and only a moment can be null. Nothing
in it can run: no pickles, no extension types. Whatever reads it checks it, as the bytes come from outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa

from feature_repo.catalog import BAR_FIELDS
from fsclient.answers.answers import LatestAnswer, RangeAnswer
from fsclient.answers.values import NO_BAR, RangeValues
from fsclient.frames import UTC_US, Int64Array, moments_of, utc_index
from fsclient.provenance import KEY, Provenance, from_dict, from_iso
from fsclient.questions.latest import LatestRequest

_MOMENT = pa.timestamp("us", tz="UTC")
_INDEXES = ("symbol", "open_time")


class ArrowFormError(ValueError):
    """Bytes that are not an answer in this form, or not the answer to the question that was asked."""


def is_answer(frame: pd.DataFrame) -> bool:
    """Whether a frame is an answer of the client as it was made: what this form holds exactly."""
    names = frame.columns
    symbols = frame.index.dtype == object and all(type(label) is str for label in frame.index)
    return bool(
        frame.attrs.keys() == {KEY}
        and _is_record(frame.attrs[KEY])
        and frame.index.name in _INDEXES
        and (symbols or frame.index.dtype == UTC_US)
        and len(names) > 0
        and names.name is None
        and names.is_unique
        and all(type(name) is str and name not in _INDEXES for name in names)
        and all(dtype in (np.float64, UTC_US) for dtype in frame.dtypes)
    )


def frame_to_arrow(frame: pd.DataFrame) -> bytes:
    """An answer's frame; see ``is_answer``."""
    columns = {str(frame.index.name): _to_arrow(frame.index), **{str(name): _to_arrow(frame[name]) for name in frame}}
    return _stream(columns, {KEY: orjson.dumps(frame.attrs[KEY])})


def bars_to_arrow(bars: RangeValues) -> bytes:
    """Bars without a provenance: what a computation elsewhere needs."""
    opens = pa.array(bars.opens_us.astype("datetime64[us]"), type=_MOMENT)
    return _stream({"open_time": opens, **{name: pa.array(bars.columns[name]) for name in BAR_FIELDS}}, {})


def frame_from_arrow(body: bytes) -> pd.DataFrame:
    """An answer's frame, with memory of its own.

    Raises:
        ArrowFormError: it is not one.
    """
    table = _read(body, None)
    record = _record(table)
    index_name, *names = table.column_names
    frame = pd.DataFrame({name: _from_arrow(table[name]) for name in names}, index=_from_arrow(table[index_name]))
    frame.index.name = index_name
    frame.attrs[KEY] = record.as_dict()
    return frame


def latest_from_arrow(body: bytes, request: LatestRequest) -> LatestAnswer:
    """A lookup's answer.

    Raises:
        ArrowFormError: it is not one, or not to this request.
    """
    table = _read(body, ("symbol", *request.names, "event_timestamp", "age_bars"))
    if table["symbol"].to_pylist() != [symbol.name for symbol in request.symbols]:
        raise ArrowFormError("an answer of other symbols")
    floats = np.stack([table[name].to_numpy() for name in (*request.names, "age_bars")])
    floats.flags.writeable = False
    moments = moments_of(_us(table["event_timestamp"]))
    record = _record(table)
    return LatestAnswer(
        request=request, floats=floats, moments=moments, record=record, read_us=from_iso(record.read_at)
    )


def range_from_arrow(body: bytes, names: Sequence[str] | None) -> RangeAnswer:
    """A range's answer; ``names`` None when its own column names are to be kept.

    Raises:
        ArrowFormError: it is not one, or not of these columns.
    """
    table = _read(body, None if names is None else ("open_time", *names))
    columns = tuple(table.column_names[1:])
    values = np.empty((len(columns), len(table)))
    for row, name in zip(values, columns, strict=True):
        row[:] = table[name].to_numpy()
    index = utc_index(_us(table["open_time"]), "open_time")
    record = _record(table)
    return RangeAnswer(index=index, names=columns, values=values, record=record, read_us=from_iso(record.read_at))


def bars_from_arrow(body: bytes) -> RangeValues:
    """Bars, as ``bars_to_arrow`` writes them.

    Raises:
        ArrowFormError: they are not.
    """
    table = _read(body, ("open_time", *BAR_FIELDS))
    columns = {name: table[name].to_numpy().astype(np.float64) for name in BAR_FIELDS}
    return RangeValues(opens_us=_us(table["open_time"]), columns=columns)


def _is_record(record: Any) -> bool:
    try:
        return bool(from_dict(record).as_dict() == record)
    except (KeyError, TypeError):
        return False


def _stream(columns: Mapping[str, Any], metadata: Mapping[str, bytes]) -> bytes:
    table = pa.table(dict(columns)).replace_schema_metadata(dict(metadata))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def _to_arrow(column: pd.Series | pd.Index) -> Any:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return pa.array(column.to_numpy(dtype="datetime64[us]"), type=_MOMENT)
    if column.dtype == np.float64:
        return pa.array(column.to_numpy())  # NaN stays NaN
    return pa.array([str(cell) for cell in column], type=pa.string())


def _from_arrow(column: Any) -> Any:
    if column.type == _MOMENT:
        return pd.DatetimeIndex(moments_of(_us(column)).reshape(-1))
    if column.type == pa.float64():
        return column.to_numpy()
    if column.type == pa.string():
        return pd.Index(column.to_pylist(), dtype=object)
    raise ArrowFormError(f"an answer with a column of type {column.type}")


def _read(body: bytes, names: tuple[str, ...] | None) -> Any:
    try:
        table = pa.ipc.open_stream(body).read_all()
        table.validate(full=True)  # no offset may point out of the bytes
    except (pa.ArrowException, OSError) as error:
        raise ArrowFormError("not an Arrow stream, or a damaged one") from error
    if len(table.column_names) < 2 or (names is not None and tuple(table.column_names) != names):
        raise ArrowFormError("an answer of other columns")
    return table


def _us(column: Any) -> Int64Array:
    us: Int64Array = column.cast(pa.int64()).fill_null(NO_BAR).to_numpy()
    return us


def _record(table: Any) -> Provenance:
    try:
        return from_dict(orjson.loads((table.schema.metadata or {})[KEY.encode()]))
    except (KeyError, TypeError, ValueError) as error:
        raise ArrowFormError("an answer without a provenance") from error
