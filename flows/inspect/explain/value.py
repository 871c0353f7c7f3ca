"""A value and all that is known of it, gathered from the stores and the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from feature_repo import catalog
from feature_repo.agreement import FloatArray, agree, same_number
from feature_repo.catalog import BAR_FIELDS, Symbol, Timeframe
from feature_repo.moments import to_us
from feature_repo.sessions import is_open, session_day
from feature_repo.stores.schemas import Revised
from feature_repo.stores.tables import OfflineTables
from flows.compute.derive import opens_us
from flows.inspect.explain.explanation import Explanation, Known, NoSuchBarError, Rejected, number
from flows.inspect.explain.origin import bar_of, indicator_of
from flows.inspect.explain.shown import read_shown
from flows.ledger import Ledger
from fsclient.errors import InvalidRequestError


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
    """Explains the value of a feature at the newest bar that had closed by ``at``, by default ``now``.

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
    at_bar: dict[str, Any] = {"start": open_time, "end": open_time, **span}
    opens = opens_us(bars)
    is_derived = not pd.isna(bar["source_bars"])
    table: Revised = "bars" if name in BAR_FIELDS else "indicators"
    rows = tables.read(table, columns=[name], all_revisions=True, **at_bar)
    revisions = [Known(created=created, value=number(value)) for created, value in _columns(rows, "created", name)]
    made = (
        indicator_of(name, bars, spec, frame)
        if table == "indicators"
        else bar_of(name, bars, is_derived, spec, frame, tables)
    )
    shown = read_shown(client, project, spec, frame, name, open_time)
    stored = revisions[-1].value if revisions else None
    same = agree if table == "indicators" else same_number
    values = [
        stored,
        *([made["recomputed"]] if made["kind"] != "ingested" else []),
        *([shown.value] if shown.in_window else []),
    ]
    return Explanation(
        symbol=spec.name,
        timeframe=frame.name,
        feature=name,
        open_time=open_time,
        event_timestamp=open_time + step,
        trading_day=date.fromordinal(
            int(session_day(spec.session, opens[-1:], frame)[0]) + date(1970, 1, 1).toordinal()
        ),
        session=spec.session.name,
        expected=bool(is_open(spec.session, opens[-1:], frame)[0]),
        **made,
        stored=stored,
        online=shown.value,
        in_window=shown.in_window,
        online_as_of=shown.as_of,
        agree=all(same(_array(values[0]), _array(value))[0] for value in values[1:]),
        revisions=revisions,
        written_by=_writer(ledger, spec, frame, table, revisions),
        quarantined=[
            Rejected(kind=kind, rule=rule, detail=detail, created=created)
            for kind, rule, detail, created in _columns(
                tables.read("quarantine", columns=["kind", "rule", "detail"], **at_bar),
                "kind",
                "rule",
                "detail",
                "created",
            )
        ],
        doubt=shown.doubt or (doubt.reason if (doubt := ledger.doubts().get((spec.name, frame.name))) else ""),
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


def _writer(ledger: Ledger, symbol: Symbol, timeframe: Timeframe, table: str, revisions: Sequence[Known]) -> str:
    if not revisions:
        return ""
    written_us = to_us(revisions[-1].created)
    for revision in ledger.revisions(symbol=symbol.name, since_us=written_us, limit=100_000):
        if (revision.timeframe, revision.table, revision.at_us) == (timeframe.name, table, written_us):
            kinds = {run.id: run.kind for run in ledger.runs(limit=100_000)}
            return f"{kinds.get(revision.run, 'run')} {revision.run}"
    return ""


def _columns(rows: Any, *names: str) -> list[tuple[Any, ...]]:
    return list(zip(*(rows[name].to_pylist() for name in names), strict=True))


def _array(value: float | None) -> FloatArray:
    return np.array([np.nan if value is None else value])
