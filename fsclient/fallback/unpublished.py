"""What the online store lacks of a lookup, and the rows that are computed from stored bars instead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fsclient.answers.answers import LatestAnswer
from fsclient.answers.completeness import is_complete
from fsclient.answers.values import NO_BAR
from fsclient.frames import moments_of
from fsclient.provenance import iso
from fsclient.questions.latest import LatestRequest, latest_request

Pairs = frozenset[tuple[str, str]]
"""Symbols and timeframes."""


def absent_pairs(answer: LatestAnswer) -> Pairs:
    """The symbols and timeframes of which the online store has no bar, or not all that was asked for.

    Those of rows that were computed already are among them: a service may have done so.
    """
    request, record = answer.request, answer.record
    recomputed = {pair for pair in request.pairs if pair[0] in record.recomputed}
    empty = [gap for gap in record.missing if gap["reason"] == "no_data"]
    if empty:
        view_of = {name: view for name, (view, _) in zip(request.names, request.columns, strict=True)}
        recomputed |= {(gap["symbol"], view_of[gap["feature"]].timeframe.name) for gap in empty}
    return frozenset(recomputed)


def is_empty(answer: LatestAnswer, absent: Pairs) -> bool:
    """Whether nothing of an answer comes from the online store."""
    return answer.record.as_of is None or (bool(answer.record.recomputed) and absent >= answer.request.pairs)


def unpublished_part(answer: LatestAnswer, absent: Pairs, seen: set[tuple[str, str]]) -> LatestRequest | None:
    """The lookup of the symbols that lack values which the online store was never seen to have; None when none do."""
    request, lost = answer.request, {symbol for symbol, _ in absent & seen}
    empty = {gap["symbol"] for gap in answer.record.missing if gap["reason"] == "no_data"}
    symbols = [symbol.name for symbol in request.symbols if symbol.name in empty - lost]
    return latest_request(symbols, request.names, request.timeframe.name) if symbols else None


def with_rows(answer: LatestAnswer, computed: LatestAnswer) -> LatestAnswer:
    """``answer`` with those rows of ``computed`` that have more; ``answer`` itself if none has."""
    former, later = _empty_cells(answer), _empty_cells(computed)
    at = {symbol.name: row for row, symbol in enumerate(answer.request.symbols)}
    rows = {s.name: row for row, s in enumerate(computed.request.symbols) if later[s.name] < former[s.name]}
    if not rows:
        return answer
    floats, closes_us = answer.floats.copy(), answer.moments.asi8.reshape(-1).copy()
    for name, row in rows.items():
        floats[:, at[name]] = computed.floats[:, row]
        closes_us[at[name]] = computed.moments.asi8.reshape(-1)[row]
    floats.flags.writeable = False
    known = closes_us[closes_us != NO_BAR]
    missing = (
        *(gap for gap in answer.record.missing if gap["symbol"] not in rows),
        *(gap for gap in computed.record.missing if gap["symbol"] in rows),
    )
    ages = floats[-1][~np.isnan(floats[-1])]
    record = replace(
        answer.record,
        source="recomputed",
        origin="recomputed",
        as_of=iso(int(known.min())) if len(known) else computed.record.as_of,
        age_bars=int(ages.max()),
        complete=is_complete(missing),
        missing=missing,
        recomputed=tuple(s.name for s in answer.request.symbols if s.name in {*rows, *answer.record.recomputed}),
    )
    return replace(answer, floats=floats, moments=moments_of(closes_us), record=record)


def _empty_cells(answer: LatestAnswer) -> dict[str, set[str]]:
    """For each symbol the features of which there is no bar."""
    cells: dict[str, set[str]] = {symbol.name: set() for symbol in answer.request.symbols}
    for gap in answer.record.missing:
        if gap["reason"] == "no_data":
            cells[gap["symbol"]].add(gap["feature"])
    return cells
