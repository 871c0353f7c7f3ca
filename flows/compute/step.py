"""One symbol and timeframe on its way from stored bars to features: derive, check, compute, check again, compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_repo.agreement import agree, equal
from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS, WINDOW_BARS, Symbol, Timeframe
from feature_repo.sessions import on_grid
from feature_repo.stores.schemas import TIME, Revised
from feature_repo.stores.window import column, microseconds
from flows.compute.changes import Changes, Int64Array, compare, withdraw_others
from flows.compute.derive import closes, complete_until, derive_bars, opens_us
from flows.compute.increment import STATE_FIELDS, compute_from, input_columns
from flows.compute.job import BAR_COLUMNS, History, Job
from flows.compute.rejected import quarantine_rows
from flows.quality import Verdict, check_bars, check_indicators, nan_allowed

_CONTEXT_BARS = WINDOW_BARS
"""How many known rows before the new ones count as good beside them: a lone bad bar is not all of a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the gates let pass.

    Attributes:
        max_bad_share: a batch with a larger share of bad rows stops its symbol.
        min_completeness: a derived bar made of a smaller share of the source bars that an open market makes is
            quarantined as ``incomplete``.
    """

    max_bad_share: float
    min_completeness: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """A symbol and timeframe that passed both gates and waits to be stored: what has changed, not the history.

    Attributes:
        bars: how many bars were made or recomputed.
        event_us: close of the newest of them, microseconds since 1970-01-01 UTC; None when there are none.
        verdicts: what the gates said, by what they judged.
    """

    job: Job
    bars: int
    event_us: int | None
    bar_changes: Changes
    feature_changes: Changes
    quarantine: Sequence[pd.DataFrame]
    verdicts: Mapping[Revised, Verdict] = field(default_factory=dict)

    def changes(self, table: Revised) -> Changes:
        """What it changes in a table."""
        return self.bar_changes if table == "bars" else self.feature_changes


class Stopped(Exception):  # noqa: N818  # a verdict about data, not an error of the program
    """A gate stopped this symbol; the message says why.

    Attributes:
        table: what the gate judged: ``bars`` or ``indicators``.
        verdict: what it said.
        quarantine: the rows that it rejected.
    """

    def __init__(self, table: Revised, verdict: Verdict, quarantine: Sequence[pd.DataFrame]) -> None:
        super().__init__(f"{'derived ' if table == 'bars' else ''}{table}: {verdict.reason}")
        self.table: Revised = table
        self.verdict = verdict
        self.quarantine = quarantine


def compute(job: Job, history: History, *, now: datetime, limits: Limits) -> Computed:
    """Derives the bars (when the job has a source), computes the indicators and puts both before the gate.

    Raises:
        Stopped: a gate stopped the symbol at this timeframe.
        TailTooShort: the job must be computed from ``whole_history``.
    """
    symbol, timeframe = job.symbol, job.timeframe
    stored = _closed_bars(history.bars, timeframe, now)
    known, fresh = _split(stored, job.since_us)
    good_before = min(len(known), _CONTEXT_BARS)
    quarantine: list[pd.DataFrame] = []
    verdicts: dict[Revised, Verdict] = {}
    if job.source is not None and history.source is not None:
        source = _closed_bars(history.source, job.source, now)
        fresh = derive(source, symbol, job.source, timeframe, now)
        fresh, incomplete = complete(fresh, limits.min_completeness)
        if len(incomplete):
            quarantine.append(quarantine_rows(incomplete, kind="bars", timeframe=timeframe, now=now))
        if len(fresh):
            verdict = check_bars(
                fresh,
                symbol=symbol,
                timeframe=timeframe,
                now=now,
                on_grid=on_grid(symbol.session, timeframe, opens_us(fresh)),
                max_bad_share=limits.max_bad_share,
                good_before=good_before,
            )
            quarantine.append(quarantine_rows(verdict.bad, kind="bars", timeframe=timeframe, now=now))
            if not verdict.passed:
                raise Stopped("bars", verdict, quarantine)
            verdicts["bars"] = verdict
            fresh = verdict.good.reset_index(drop=True)
    if fresh.empty:
        return _without_withdrawn(
            Computed(
                job=job,
                bars=0,
                event_us=None,
                bar_changes=_NO_CHANGES,
                feature_changes=_NO_CHANGES,
                quarantine=quarantine,
                verdicts=verdicts,
            ),
            history,
            np.empty(0, np.int64),
            now,
        )
    bars = pd.concat([known, fresh], ignore_index=True) if len(known) else fresh
    features, may_be_nan = _features(job, history, bars, len(known))
    verdict = check_indicators(
        features,
        may_be_nan=may_be_nan,
        max_bad_share=limits.max_bad_share,
        good_before=good_before,
        below_zero=symbol.may_be_below_zero,
    )
    quarantine.append(quarantine_rows(verdict.bad, kind="indicators", timeframe=timeframe, now=now))
    if not verdict.passed:
        raise Stopped("indicators", verdict, quarantine)
    verdicts["indicators"] = verdict
    # A bar whose indicators are bad is not published either: a view shows all of a bar or nothing of it.
    kept = ~features["open_time"].isin(verdict.bad["open_time"]).to_numpy()
    features, fresh = features[kept].reset_index(drop=True), fresh[kept].reset_index(drop=True)
    fresh = fresh.assign(event_timestamp=features["event_timestamp"])
    computed = Computed(
        job=job,
        bars=len(fresh),
        event_us=int(features["event_timestamp"].iloc[-1].value // 1000) if len(features) else None,
        bar_changes=compare(fresh, history.bars, values=BAR_COLUMNS) if job.source else _NO_CHANGES,
        feature_changes=compare(
            features, history.features, values=INDICATOR_FIELDS, same=equal if job.withdraws else agree
        ),
        quarantine=quarantine,
        verdicts=verdicts,
    )
    return _without_withdrawn(computed, history, opens_us(fresh), now)


def _without_withdrawn(computed: Computed, history: History, kept_us: Int64Array, now: datetime) -> Computed:
    """What was computed, and after a withdrawal the end of the stored rows that depended on it alone."""
    job = computed.job
    if not job.withdraws:
        return computed
    reason, closed = "the bars that it was made of were withdrawn", pc.field("event_timestamp") <= pa.scalar(now, TIME)
    features = withdraw_others(computed.feature_changes, history.features.filter(closed), kept_us, reason=reason)
    bars = computed.bar_changes
    if job.source is not None:
        bars = withdraw_others(bars, history.bars.filter(closed), kept_us, reason=reason)
    return replace(computed, bar_changes=bars, feature_changes=features)


def _features(
    job: Job, history: History, bars: pd.DataFrame, first: int
) -> tuple[pd.DataFrame, Mapping[str, np.typing.NDArray[np.bool_]]]:
    """The indicators of ``bars`` from row ``first`` on, and where they may be unknown."""
    inputs, opens = input_columns(bars, job.symbol, job.timeframe), opens_us(bars)
    state = {name: np.full(len(bars), np.nan) for name in STATE_FIELDS}
    stored_opens = microseconds(history.state, "open_time")
    at = np.searchsorted(stored_opens, opens)
    is_stored = at < len(stored_opens)
    is_stored[is_stored] = stored_opens[at[is_stored]] == opens[is_stored]
    for name in STATE_FIELDS:
        state[name][is_stored] = column(history.state, name)[at[is_stored]]
    values = compute_from(first, inputs, opens, job.timeframe, whole=history.whole, stored=state)
    features = pd.DataFrame({name: values[name] for name in INDICATOR_FIELDS})
    features.insert(0, "open_time", bars["open_time"].iloc[first:].reset_index(drop=True))
    features.insert(1, "event_timestamp", closes(features, job.timeframe))
    return features, {name: allowed[first:] for name, allowed in nan_allowed(inputs).items()}


def derive(bars: pd.DataFrame, symbol: Symbol, source: Timeframe, target: Timeframe, now: datetime) -> pd.DataFrame:
    """The target bars that source bars make and that have closed by ``now``."""
    now_us = int(now.timestamp() * 1e6)
    until_us = complete_until(symbol.session, source, int(opens_us(bars)[-1]), now_us) if len(bars) else None
    return derive_bars(bars, session=symbol.session, source=source, target=target, watermark_us=until_us)


def complete(bars: pd.DataFrame, least: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Derived bars that have enough source bars, and the others with the rule that they broke."""
    short = (bars["source_bars"] < least * bars["expected_bars"]).to_numpy()
    lacking = bars[short]
    details = lacking["source_bars"].astype(str) + " of " + lacking["expected_bars"].astype(str) + " source bars"
    return bars[~short].reset_index(drop=True), lacking.assign(rule="incomplete", rules="incomplete", detail=details)


def _split(bars: pd.DataFrame, since_us: int | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The bars before the job's beginning, and those from it on."""
    first = 0 if since_us is None else int(np.searchsorted(opens_us(bars), since_us))
    return bars.iloc[:first].reset_index(drop=True), bars.iloc[first:].reset_index(drop=True)


def _closed_bars(rows: pa.Table, timeframe: Timeframe, now: datetime) -> pd.DataFrame:
    """The bars table of stored bars that have closed. One stored under a clock that ran ahead has to wait for its
    close: published, it would stand in the way of every bar before it.
    """
    bars: pd.DataFrame = rows.select(["open_time", *BAR_FIELDS]).to_pandas()
    return bars[closes(bars, timeframe) <= now].reset_index(drop=True)


_NO_CHANGES = Changes(rows=pd.DataFrame(), stored=0, revised=0, unchanged=0, revises_us=0)
