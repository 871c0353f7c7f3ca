"""Answers on the wire: an Arrow stream for programs, JSON for people. In both, the values are the answer's to the bit.

An Arrow answer has the index as its first column, then the frame's own, and the provenance as JSON in the schema's
metadata. Nothing in it can run: no pickles, no extension types.
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
from fsclient.frames import Int64Array, moments_of, utc_index
from fsclient.provenance import KEY, from_dict
from fsclient.questions.latest import LatestRequest
from fsclient.questions.ranges import RangeRequest

ARROW = "application/vnd.apache.arrow.stream"
JSON = "application/json"

_MOMENT = pa.timestamp("us", tz="UTC")


class ReplyError(ConnectionError):
    """What came is not what was asked for: cut off, of somebody else, or of another version."""


# ------------------------------------------------------------------------------------------------- the service's


def frame_to_arrow(frame: pd.DataFrame) -> bytes:
    """An answer as an Arrow stream."""
    columns = {str(frame.index.name): _arrow(frame.index), **{str(name): _arrow(frame[name]) for name in frame}}
    return _stream(columns, {KEY: orjson.dumps(frame.attrs[KEY])})


def bars_to_arrow(bars: RangeValues) -> bytes:
    """Bars without a provenance: what a computation elsewhere needs."""
    opens = pa.array(bars.opens_us.astype("datetime64[us]"), type=_MOMENT)
    return _stream({"open_time": opens, **{name: pa.array(bars.columns[name]) for name in BAR_FIELDS}}, {})


def frame_to_json(frame: pd.DataFrame) -> bytes:
    """An answer as ``{"rows": [...], "provenance": {...}}``: NaN is null, times are ISO-8601 with a ``Z``."""
    columns = {str(frame.index.name): _plain(frame.index), **{str(name): _plain(frame[name]) for name in frame}}
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    return orjson.dumps({"rows": rows, KEY: frame.attrs[KEY]})


def _stream(columns: Mapping[str, Any], metadata: Mapping[str, bytes]) -> bytes:
    table = pa.table(dict(columns)).replace_schema_metadata(dict(metadata))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body: bytes = sink.getvalue().to_pybytes()
    return body


def _arrow(column: pd.Series | pd.Index) -> Any:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return pa.array(column.to_numpy(dtype="datetime64[us]"), type=_MOMENT)
    if column.dtype == np.float64:
        return pa.array(column.to_numpy())  # NaN stays NaN
    return pa.array([str(cell) for cell in column], type=pa.string())


def _plain(column: pd.Series | pd.Index) -> list[Any]:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        moments = column.to_numpy(dtype="datetime64[us]")
        return [None if text == "NaT" else _short(text) for text in np.datetime_as_string(moments).tolist()]
    return list(column.tolist())  # orjson writes NaN as null


def _short(moment: str) -> str:
    return moment.removesuffix(".000000") + "Z"


# -------------------------------------------------------------------------------------------------- the client's


def latest_from_arrow(body: bytes, request: LatestRequest) -> LatestAnswer:
    """A lookup's answer.

    Raises:
        ReplyError: it is none, or not this one's.
    """
    table = _read(body, ("symbol", *request.names, "event_timestamp", "age_bars"))
    if table["symbol"].to_pylist() != [symbol.name for symbol in request.symbols]:
        raise ReplyError("an answer of other symbols")
    floats = np.stack([table[name].to_numpy() for name in (*request.names, "age_bars")])
    floats.flags.writeable = False
    moments = moments_of(_us(table["event_timestamp"]))
    return LatestAnswer(request=request, floats=floats, moments=moments, record=_record(table))


def range_from_arrow(body: bytes, names: Sequence[str] | None) -> RangeAnswer:
    """A range's answer; ``names`` None when the service names the columns.

    Raises:
        ReplyError: it is none, or not this one's.
    """
    table = _read(body, None if names is None else ("open_time", *names))
    columns = tuple(table.column_names[1:])
    values = np.empty((len(columns), len(table)))
    for row, name in zip(values, columns, strict=True):
        row[:] = table[name].to_numpy()
    index = utc_index(_us(table["open_time"]), "open_time")
    return RangeAnswer(index=index, names=columns, values=values, record=_record(table))


def bars_from_arrow(body: bytes) -> RangeValues:
    """Bars.

    Raises:
        ReplyError: it is none.
    """
    table = _read(body, ("open_time", *BAR_FIELDS))
    columns = {name: table[name].to_numpy().astype(np.float64) for name in BAR_FIELDS}
    return RangeValues(opens_us=_us(table["open_time"]), columns=columns)


def _read(body: bytes, names: tuple[str, ...] | None) -> Any:
    try:
        table = pa.ipc.open_stream(body).read_all()
    except pa.ArrowException as error:
        raise ReplyError("an answer that is no Arrow stream") from error
    if names is not None and tuple(table.column_names) != names:
        raise ReplyError("an answer of other columns")
    return table


def _us(column: Any) -> Int64Array:
    found: Int64Array = column.cast(pa.int64()).fill_null(NO_BAR).to_numpy()
    return found


def _record(table: Any) -> Any:
    try:
        return from_dict(orjson.loads((table.schema.metadata or {})[KEY.encode()]))
    except (KeyError, TypeError, ValueError) as error:
        raise ReplyError("an answer without a provenance") from error


def range_body(span: RangeRequest) -> dict[str, Any]:
    """A range as the service is asked for it."""
    known = span.as_known_at
    return {
        "symbol": span.symbol.name,
        "timeframe": span.timeframe.name,
        "start_date": span.start.isoformat(),
        "end_date": span.end.isoformat(),
        **({} if known is None else {"as_known_at": known.isoformat()}),
    }
