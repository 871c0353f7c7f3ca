"""The quality gate: which rows of a batch may be stored, and whether its symbol may go on.

Great-expectations judges the batch. When it finds a fault, the rules' masks find the rows, and it judges the rest
again: a batch goes on only when both agree. What cannot be judged does not pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pandas as pd

from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS, Symbol, Timeframe
from flows.quality.closed_hours import idle_bars
from flows.quality.masks import BoolArray, bad_rows, batch_problem
from flows.quality.rules import (
    CLOSED_FOR_S,
    IDLE,
    ON_GRID,
    UNIT_FACTOR,
    Rule,
    bar_rules,
    indicator_rules,
    may_be_nan_column,
)
from flows.quality.units import unit_factors
from flows.quality.verdict import Verdict

MAX_BAD_SHARE = 0.05
_NOTHING: Mapping[str, int] = MappingProxyType({})


def check_bars(
    frame: pd.DataFrame,
    *,
    symbol: Symbol,
    timeframe: Timeframe,
    now: datetime,
    on_grid: BoolArray,
    max_bad_share: float = MAX_BAD_SHARE,
    good_before: int = 0,
    rejected: Mapping[str, int] = _NOTHING,
    around: pd.DataFrame | None = None,
) -> Verdict:
    """Judges bars of one symbol and timeframe.

    Args:
        frame: ``open_time`` (datetime64[us, UTC]), ``open high low close volume`` (float64; a NaN volume was not
            reported). Other columns are kept and not judged.
        now: the moment, with its time zone, by which a bar must have closed.
        on_grid: whether each row's ``open_time`` opens a bar of the timeframe, shape (rows,).
        max_bad_share: the largest share of bad rows, 0 to below 1, with which the symbol may go on.
        good_before: known good rows that the batch follows and that count in the share: a single bad bar after a good
            year does not make a bad batch.
        rejected: rule -> how many rows of the batch its reader has already rejected by it. They count as bad: when half
            of a file is not bars, the other half cannot be trusted.
        around: stored bars before and after the batch, in whose unit its prices are expected, columns as ``frame``;
            None: the prices are taken in whatever unit they are, as those of derived bars.

    Raises:
        ValueError: ``now`` has no time zone, ``on_grid`` does not fit the frame, or ``max_bad_share`` is no share.
    """
    if now.tzinfo is None:
        raise ValueError(f"now ({now}) has no time zone: pass it in UTC")
    flags = _flags("on_grid", on_grid, frame)
    factors = np.ones(len(frame))

    def table() -> pd.DataFrame:
        closed_for = pd.Timestamp(now) - (frame["open_time"] + pd.Timedelta(seconds=timeframe.seconds))
        if around is not None:
            factors[:] = unit_factors(frame, around)
        derived = {
            ON_GRID: flags,
            CLOSED_FOR_S: closed_for.dt.total_seconds().to_numpy(),
            IDLE: _idle(frame, flags, symbol, timeframe),
            UNIT_FACTOR: factors,
        }
        return _table(frame, ("open_time", *BAR_FIELDS), derived)

    subject = f"{symbol.name} {timeframe.name} bars"
    rules = bar_rules(symbol, timeframe)
    verdict = judge(
        frame, rules, table, subject=subject, max_bad_share=max_bad_share, good_before=good_before, rejected=rejected
    )
    if verdict.reason and "unit_error" in verdict.by_rule:
        return replace(verdict, reason=f"{verdict.reason}; {_of_units(frame, factors)}")
    return verdict


def _idle(frame: pd.DataFrame, on_grid: BoolArray, symbol: Symbol, timeframe: Timeframe) -> BoolArray:
    idle = np.zeros(len(frame), dtype=np.bool_)
    judged = on_grid & frame["open_time"].notna().to_numpy()
    opens = frame["open_time"].to_numpy(dtype="datetime64[us]").view(np.int64)
    bars = frame[list(BAR_FIELDS)].to_numpy().T
    close_before = np.append(np.nan, bars[3])[:-1]
    idle[judged] = idle_bars(symbol, timeframe, opens[judged], bars[:, judged], close_before[judged])
    return idle


def _of_units(frame: pd.DataFrame, factors: npt.NDArray[np.float64]) -> str:
    """Which bars are in another unit, and by how much."""
    wrong = frame["open_time"][factors != 1]
    finite = factors[(factors != 1) & np.isfinite(factors)]
    size = f"{np.median(finite):.4g} times the prices beside them" if finite.size else "torn between two units"
    first, last = (f"{moment:%Y-%m-%d %H:%M}" for moment in wrong.iloc[[0, -1]])
    bars = f"{len(wrong):,} bars from {first} to {last} UTC are" if len(wrong) > 1 else f"the bar of {first} UTC is"
    return f"{bars} {size}: another unit, or a split that only one part of them reflects"


def check_indicators(
    frame: pd.DataFrame,
    *,
    may_be_nan: Mapping[str, BoolArray],
    max_bad_share: float = MAX_BAD_SHARE,
    good_before: int = 0,
    below_zero: bool = False,
    subject: str = "indicators",
) -> Verdict:
    """Judges indicator rows of one symbol and timeframe.

    Args:
        frame: ``event_timestamp`` (datetime64[us, UTC]) and every indicator field of the catalog (float64). Other
            columns are kept and not judged.
        may_be_nan: field -> in which rows it may be NaN, shape (rows,), as ``nan_allowed`` computes it.
        max_bad_share, good_before: as for ``check_bars``.
        below_zero: whether the symbol's prices may be zero and below.
        subject: name of the batch in the report.

    Raises:
        ValueError: ``may_be_nan`` lacks a field or does not fit the frame, or ``max_bad_share`` is no share.
    """
    lacking = [name for name in INDICATOR_FIELDS if name not in may_be_nan]
    if lacking:
        raise ValueError(f"may_be_nan lacks {', '.join(lacking)}: compute it with nan_allowed")
    flags = {may_be_nan_column(name): _flags(name, may_be_nan[name], frame) for name in INDICATOR_FIELDS}

    def table() -> pd.DataFrame:
        return _table(frame, ("event_timestamp", *INDICATOR_FIELDS), flags)

    rules = indicator_rules(below_zero=below_zero)
    return judge(frame, rules, table, subject=subject, max_bad_share=max_bad_share, good_before=good_before)


def judge(
    frame: pd.DataFrame,
    rules: tuple[Rule, ...],
    table: Callable[[], pd.DataFrame],
    *,
    subject: str,
    max_bad_share: float,
    good_before: int = 0,
    rejected: Mapping[str, int] = _NOTHING,
) -> Verdict:
    """Judges a batch by ``rules``.

    Args:
        frame: the batch, shape (rows, columns).
        table: makes the columns that the rules name, shape (rows, named columns). It is called after ``frame`` has
            passed the rules about the whole batch, so its columns and types can be relied on.
        good_before, rejected: as for ``check_bars``.

    Raises:
        ValueError: there are no rules, or ``max_bad_share`` is no share.
    """
    if not rules:
        raise ValueError(f"{subject}: there are no rules, and a suite without expectations passes anything")
    if not 0 <= max_bad_share < 1:
        raise ValueError(f"max_bad_share must be at least 0 and below 1, not {max_bad_share}")
    rejected_rows = sum(rejected.values())
    problem = batch_problem(rules, frame)
    if problem:
        rule, reason = problem
        nothing = frame.iloc[:0]
        return Verdict(
            subject=subject,
            passed=False,
            good=nothing,
            bad=_annotated(nothing, nothing, rules, {}),
            rows=len(frame) + rejected_rows,
            bad_rows=rejected_rows,
            by_rule={**rejected, rule.name: len(frame)},
            reason=reason,
            rules=rules,
            expectations=0,
        )
    columns = table()
    from flows.quality.suite import evaluate  # imports great-expectations, which takes seconds

    first = evaluate(rules, columns)
    masks = {} if first.success else {r.name: mask for r in rules if (mask := bad_rows(r, columns)).any()}
    none = np.zeros(len(frame), dtype=np.bool_)
    bad = np.logical_or.reduce([none, *masks.values()])
    counted = np.logical_or.reduce([none, *(masks[r.name] for r in rules if r.name in masks and not r.sets_aside)])
    aside = int((bad & ~counted).sum())
    judged = len(frame) - aside + rejected_rows + good_before
    share = (counted.sum() + rejected_rows) / max(judged, 1)
    reason = ""
    if share > max_bad_share:
        reason = f"{100 * share:.4g} % of the rows are bad, at most {100 * max_bad_share:.4g} % are tolerated"
    elif not first.success and not bad.all():
        last = evaluate(rules, columns[~bad]) if bad.any() else first
        if not last.success:
            failed = ", ".join(last.failed)
            reason = f"great-expectations and the masks disagree: {failed} fails on rows that the masks pass"
    good = frame if first.success else frame[~bad]
    return Verdict(
        subject=subject,
        passed=not reason,
        good=frame.iloc[:0] if reason else good,
        bad=_annotated(frame[bad], columns[bad], rules, {name: mask[bad] for name, mask in masks.items()}),
        rows=len(frame) + rejected_rows,
        bad_rows=int(bad.sum()) + rejected_rows,
        set_aside=aside,
        by_rule={**rejected, **{name: int(mask.sum()) for name, mask in masks.items()}},
        reason=reason,
        rules=rules,
        expectations=first.expectations,
    )


def _flags(name: str, flags: BoolArray, frame: pd.DataFrame) -> BoolArray:
    array = np.asarray(flags)
    if array.dtype != np.bool_ or array.shape != (len(frame),):
        raise ValueError(f"{name} must be booleans of shape ({len(frame)},), is {array.dtype} of shape {array.shape}")
    return array


def _table(frame: pd.DataFrame, columns: Sequence[str], derived: Mapping[str, npt.NDArray[np.generic]]) -> pd.DataFrame:
    return pd.concat([frame[list(columns)].reset_index(drop=True), pd.DataFrame(derived)], axis=1)


def _annotated(
    rows: pd.DataFrame, columns: pd.DataFrame, rules: Sequence[Rule], masks: Mapping[str, BoolArray]
) -> pd.DataFrame:
    """``rows`` with the rules that each one breaks and the values that the first of them judged."""
    names, details = np.full(len(rows), "", dtype=object), np.full(len(rows), "", dtype=object)
    for rule in (r for r in rules if r.name in masks):
        mask = masks[rule.name]
        first = mask & (names == "")
        values = zip(*(columns[name][first] for name in rule.columns), strict=True)
        details[first] = [", ".join(map("{}={}".format, rule.columns, row)) for row in values]
        names[mask] += f",{rule.name}"
    joined = [text[1:] for text in names]
    return rows.assign(rule=[text.partition(",")[0] for text in joined], rules=joined, detail=details)
