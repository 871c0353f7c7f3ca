"""One value explained: the bars and parameters it came from, what was known when, and whether the stores agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from feature_repo import catalog
from feature_repo.catalog import BAR_FIELDS, PRODUCER, WINDOW_TIME, Indicator, Symbol, Timeframe
from feature_repo.moments import to_datetime, to_us
from feature_repo.sessions import bar_close, is_open, session_day
from feature_repo.stores.codec import decode_array, doubt_key, entity_key, field_key, read_revision, revision_key
from feature_repo.stores.tables import OfflineTables
from flows.agreement import FloatArray, agree, same_number
from flows.bars import derive_bars, opens_us
from flows.errors import MendableError
from flows.features import input_columns
from flows.increment import STATE_FIELDS, compute_from
from flows.ledger import Ledger
from fsclient.errors import InvalidRequestError

SHOWN_BARS = 5
Kind = Literal["ingested", "derived", "indicator"]


class NoSuchBarError(MendableError):
    """There is no bar to explain a value of; the message says which there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One revision of the value: what it was from ``created`` until the next one."""

    created: datetime
    value: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A row of this bar in the quarantine."""

    kind: str
    rule: str
    detail: str
    created: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A value, and why it is what it is. Moments are UTC; a value is None where there is none (warm-up, no volume).

    Attributes:
        open_time, event_timestamp, trading_day, session, expected: the bar: when it opened and closed, its day, its
            market, and whether that was open.
        kind: how the value came to be: ``ingested`` as it is, ``derived`` from shorter bars, or an ``indicator``.
        indicator, parameters, inputs: of an indicator: its name, its parameters, the bar columns it takes.
        from_timeframe, from_bars, from_first, from_last, from_shown: the bars it was made of: how many, the open times
            of the first and the last, and the last few themselves. An indicator's are those that its warm-up declares
            (all earlier ones that it depends on, if it never forgets); a derived value's, the source bars.
        expected_bars: of a derived bar: how many source bars an open market makes.
        lookback, warm_up: bars that must precede the bar until it has a value, and until that is converged (None: it
            never forgets); ``preceding``: how many do, since history began or an input was last unknown.
        stored, recomputed, online: the value in the offline store, computed just now, and shown online (None too when
            ``in_window`` says that the bar is not, or not any more, among those that are online).
        agree: whether all that could be compared are the same.
        online_as_of: close of the newest bar that is online; None: nothing is.
        revisions: what was known of the value when, oldest first.
        written_by: the kind and id of the run that wrote the newest revision; empty when the ledger does not remember.
        quarantined: rows of this bar that a gate rejected.
        doubt: why the symbol's values are in doubt; empty when they are not.
    """

    symbol: str
    timeframe: str
    feature: str
    open_time: datetime
    event_timestamp: datetime
    trading_day: date
    session: str
    expected: bool
    kind: Kind
    indicator: str
    parameters: Mapping[str, float]
    inputs: tuple[str, ...]
    from_timeframe: str
    from_bars: int
    from_first: datetime | None
    from_last: datetime | None
    from_shown: Sequence[Mapping[str, Any]]
    expected_bars: int | None
    lookback: int
    warm_up: int | None
    preceding: int
    stored: float | None
    recomputed: float | None
    online: float | None
    in_window: bool
    online_as_of: datetime | None
    agree: bool
    revisions: Sequence[Known]
    written_by: str
    quarantined: Sequence[Rejected]
    doubt: str


def explain(
    symbol: str,
    feature: str,
    timeframe: str,
    *,
    at: datetime | None,
    tables: OfflineTables,
    ledger: Ledger,
    client: Any,
    project: str,
    now: datetime,
) -> Explanation:
    """Explains the value of a feature at the newest bar that had closed by ``at`` (by ``now`` when not given).

    Args:
        feature: a bar column, or an output of an indicator.
        client: a synchronous redis-py client of the online store.

    Raises:
        CatalogError: an unknown symbol, timeframe or feature.
        InvalidRequestError: the feature is an indicator of several outputs.
        NoSuchBarError: no bar had closed by then.
    """
    spec, frame = catalog.symbol(symbol), catalog.timeframe(timeframe)
    name = _field(feature)
    moment = min(at or now, now)
    step = timedelta(seconds=frame.seconds)
    span: dict[str, Any] = {"timeframe": frame.name, "symbols": [spec.name]}
    columns = [*BAR_FIELDS, "source_bars", "expected_bars"]
    bars: pd.DataFrame = tables.read("bars", columns=columns, end=moment - step, **span).to_pandas()
    if bars.empty:
        raise NoSuchBarError(_nothing(spec, frame, moment, tables))
    bar = bars.iloc[-1]
    open_time = bar["open_time"].to_pydatetime()
    this: dict[str, Any] = {"start": open_time, "end": open_time, **span}
    opens = opens_us(bars)
    is_derived = not pd.isna(bar["source_bars"])
    table: Literal["bars", "indicators"] = "bars" if name in BAR_FIELDS else "indicators"
    revisions = [
        Known(created=created, value=_number(value))
        for created, value in _columns(tables.read(table, columns=[name], all_revisions=True, **this), "created", name)
    ]
    made = (
        _indicator_of(name, bars, spec, frame)
        if table == "indicators"
        else _bar_of(name, bars, is_derived, spec, frame, tables)
    )
    shown = _online(client, project, spec, frame, name, open_time)
    stored = revisions[-1].value if revisions else None
    same = agree if table == "indicators" else same_number
    values = [stored, *([made["recomputed"]] if made["kind"] != "ingested" else []), *([shown[0]] if shown[1] else [])]
    return Explanation(
        symbol=spec.name,
        timeframe=frame.name,
        feature=name,
        open_time=open_time,
        event_timestamp=open_time + step,
        trading_day=date.fromordinal(int(session_day(spec.session, opens[-1:])[0]) + date(1970, 1, 1).toordinal()),
        session=spec.session.name,
        expected=bool(is_open(spec.session, opens[-1:], frame)[0]),
        **made,
        stored=stored,
        online=shown[0],
        in_window=shown[1],
        online_as_of=shown[2],
        agree=all(same(_array(values[0]), _array(value))[0] for value in values[1:]),
        revisions=revisions,
        written_by=_writer(ledger, spec, frame, table, revisions),
        quarantined=[
            Rejected(kind=kind, rule=rule, detail=detail, created=created)
            for kind, rule, detail, created in _columns(
                tables.read("quarantine", columns=["kind", "rule", "detail"], **this),
                "kind",
                "rule",
                "detail",
                "created",
            )
        ],
        doubt=shown[3] or (doubt.reason if (doubt := ledger.doubts().get((spec.name, frame.name))) else ""),
    )


def _field(feature: str) -> str:
    names = catalog.field_names([feature])
    if len(names) > 1:
        raise InvalidRequestError(f"{feature} has several values: ask for one of {', '.join(names)}")
    return names[0]


def _nothing(symbol: Symbol, timeframe: Timeframe, moment: datetime, tables: OfflineTables) -> str:
    opens = tables.read("bars", timeframe=timeframe.name, symbols=[symbol.name], columns=[])["open_time"]
    what = f"no {timeframe.name} bar of {symbol.name} had closed by {moment:%Y-%m-%d %H:%M} UTC"
    if not len(opens):
        return f"{what}: none is stored; `fstore ingest` brings bars, `fstore materialize` makes the longer ones"
    return f"{what}: the first one opened at {opens[0].as_py():%Y-%m-%d %H:%M} UTC"


# ------------------------------------------------------------------------------------------- how it was made


def _indicator_of(name: str, bars: pd.DataFrame, symbol: Symbol, timeframe: Timeframe) -> dict[str, Any]:
    indicator, opens = PRODUCER[name], opens_us(bars)
    inputs = input_columns(bars, symbol)
    last = len(bars) - 1
    unknown = np.full(len(bars), np.nan)
    values = compute_from(
        last, inputs, opens, timeframe, whole=True, stored=dict.fromkeys(STATE_FIELDS, unknown)
    )  # fmt: skip
    began = _began(indicator, inputs)
    if indicator.kind == "vwap":
        first = int(np.flatnonzero(inputs["session_day"] == inputs["session_day"][-1])[0])
    else:
        first = began if indicator.warm_up is None else max(began, last - indicator.warm_up)
    used = bars.iloc[first:]
    return {
        "kind": "indicator",
        "indicator": indicator.name,
        "parameters": dict(indicator.parameters),
        "inputs": indicator.inputs,
        "from_timeframe": timeframe.name,
        **_made_of(used, [i for i in indicator.inputs if i in BAR_FIELDS]),
        "expected_bars": None,
        "lookback": indicator.lookback,
        "warm_up": indicator.warm_up,
        "preceding": last - began,
        "recomputed": _number(values[name][0]),
    }


def _began(indicator: Indicator, inputs: Mapping[str, FloatArray]) -> int:
    """The row after the last one with an unknown input: an indicator starts anew there."""
    unknown = np.flatnonzero(np.logical_or.reduce([np.isnan(inputs[name]) for name in indicator.inputs]))
    return int(unknown[-1]) + 1 if unknown.size else 0


def _bar_of(
    name: str, bars: pd.DataFrame, is_derived: bool, symbol: Symbol, timeframe: Timeframe, tables: OfflineTables
) -> dict[str, Any]:
    about: dict[str, Any] = {"indicator": "", "parameters": {}, "inputs": (), "lookback": 0, "warm_up": 0}
    about |= {"preceding": len(bars) - 1, "expected_bars": None, "recomputed": None}
    bar = bars.iloc[-1]
    source = _source(symbol, timeframe, bar["open_time"].to_pydatetime(), tables) if is_derived else None
    if source is None:
        return (
            about
            | {"kind": "derived" if is_derived else "ingested", "from_timeframe": ""}
            | _made_of(bars.iloc[:0], [])
        )
    origin, rows = source
    close_us = int(bar_close(symbol.session, timeframe, opens_us(bars)[-1:])[0])
    made = derive_bars(rows, session=symbol.session, source=origin, target=timeframe, watermark_us=close_us)
    return about | {
        "kind": "derived",
        "from_timeframe": origin.name,
        **_made_of(rows, [name]),
        "expected_bars": int(made["expected_bars"].iloc[0]),
        "recomputed": _number(made[name].iloc[0]),
    }


def _source(
    symbol: Symbol, timeframe: Timeframe, open_time: datetime, tables: OfflineTables
) -> tuple[Timeframe, pd.DataFrame] | None:
    """The source bars of a derived bar: the longest shorter timeframe that was ingested there."""
    opens = np.array([to_us(open_time)], np.int64)
    last = to_datetime(int(bar_close(symbol.session, timeframe, opens)[0]) - 1)
    for origin in sorted(catalog.TIMEFRAMES.values(), key=lambda tf: -tf.seconds):
        if origin.seconds < timeframe.seconds:
            rows = tables.read(
                "bars", timeframe=origin.name, symbols=[symbol.name], start=open_time, end=last,
                columns=[*BAR_FIELDS, "source_bars"],
            ).to_pandas()  # fmt: skip
            rows = rows[rows["source_bars"].isna()].reset_index(drop=True)
            if len(rows):
                return origin, rows
    return None


def _made_of(bars: pd.DataFrame, columns: Sequence[str]) -> dict[str, Any]:
    shown = bars.tail(SHOWN_BARS)[["open_time", *columns]]
    return {
        "from_bars": len(bars),
        "from_first": bars["open_time"].iloc[0].to_pydatetime() if len(bars) else None,
        "from_last": bars["open_time"].iloc[-1].to_pydatetime() if len(bars) else None,
        "from_shown": tuple(
            {"open_time": row["open_time"].to_pydatetime(), **{c: _number(row[c]) for c in columns}}
            for _, row in shown.iterrows()
        ),
    }


# -------------------------------------------------------------------------------------------- where it is


def _online(
    client: Any, project: str, symbol: Symbol, timeframe: Timeframe, name: str, open_time: datetime
) -> tuple[float | None, bool, datetime | None, str]:
    """The value online, whether the bar is in the window, the window's newest close, and the doubt about it."""
    window = catalog.view("window", timeframe.name).name
    keys = [field_key(window, WINDOW_TIME), field_key(window, name), revision_key(window), doubt_key(timeframe.name)]
    times, values, revision, doubt = client.hmget(entity_key(symbol.name, project), keys)
    reason = doubt.decode(errors="replace") if doubt else ""
    if times is None or values is None or revision is None:
        return None, False, None, reason
    as_of = to_datetime(read_revision(revision)[0])
    at = np.flatnonzero(decode_array(times) == open_time.timestamp())
    if not at.size:
        return None, False, as_of, reason
    return _number(decode_array(values)[at[0]]), True, as_of, reason


def _writer(ledger: Ledger, symbol: Symbol, timeframe: Timeframe, table: str, revisions: Sequence[Known]) -> str:
    if not revisions:
        return ""
    written_us = to_us(revisions[-1].created)
    for one in ledger.revisions(symbol=symbol.name, since_us=written_us, limit=100_000):
        if (one.timeframe, one.table, one.at_us) == (timeframe.name, table, written_us):
            kinds = {run.id: run.kind for run in ledger.runs(limit=100_000)}
            return f"{kinds.get(one.run, 'run')} {one.run}"
    return ""


def _columns(rows: Any, *names: str) -> list[tuple[Any, ...]]:
    return list(zip(*(rows[name].to_pylist() for name in names), strict=True))


def _number(value: Any) -> float | None:
    return None if value is None or np.isnan(value) else float(value)


def _array(value: float | None) -> npt.NDArray[np.float64]:
    return np.array([np.nan if value is None else value])
