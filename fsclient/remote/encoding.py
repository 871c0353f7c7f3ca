"""What goes over the wire beside an answer's Arrow form: media types, JSON for people, and a range's question."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pandas as pd

from fsclient.provenance import KEY
from fsclient.questions.ranges import RangeRequest

ARROW = "application/vnd.apache.arrow.stream"
JSON = "application/json"


class ReplyError(ConnectionError):
    """What came is not what was asked for: cut off, of another service, or of another version."""


def frame_to_json(frame: pd.DataFrame) -> bytes:
    """An answer as ``{"rows": [...], "provenance": {...}}``: NaN is null, times are ISO-8601 with a ``Z``."""
    columns = {str(frame.index.name): _plain(frame.index), **{str(name): _plain(frame[name]) for name in frame}}
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    return orjson.dumps({"rows": rows, KEY: frame.attrs[KEY]})


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


def _plain(column: pd.Series | pd.Index) -> list[Any]:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        moments = column.to_numpy(dtype="datetime64[us]")
        return [None if text == "NaT" else _short(text) for text in np.datetime_as_string(moments).tolist()]
    return list(column.tolist())  # orjson writes NaN as null


def _short(moment: str) -> str:
    return moment.removesuffix(".000000") + "Z"
