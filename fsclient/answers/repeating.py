"""How long an answer may be repeated from a cache, what a publish changes, and how a repeated answer is labelled."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from feature_repo.freshness import bars_behind, next_close
from fsclient.answers.ages import age_of, as_of_us
from fsclient.provenance import KEY, Provenance, from_iso
from fsclient.questions.latest import LatestRequest
from fsclient.questions.ranges import Request

SETTLE_S = 5.0
"""A bar that closed should be published within so many seconds; until then a late answer is asked for again."""
UNHEARD_S = 1.0
"""How long an answer is repeated while publishes cannot be heard."""
ABSENT_S = 2.0
"""How long a symbol without data is remembered as such."""
DOUBTED_S = 2.0
"""How long an answer in doubt is repeated: no publish tells that the doubt is over."""
CLOSED_S = 3600.0
"""How long a range is repeated that can only change by a correction, which is heard."""


def lifetime_s(request: Request, record: Provenance, now_us: int, *, hearing: bool) -> float:
    """How long an answer may be repeated: until the next bar closes, if publishes are heard until then.

    The next is the first after the answer was read: one that closed meanwhile is not in it.
    """
    if not hearing:
        return UNHEARD_S
    if record.as_of is None:
        return ABSENT_S
    if record.doubt:
        return DOUBTED_S
    if isinstance(request, LatestRequest):
        pairs = {(s.session, tf) for s in request.symbols for tf in request.by_timeframe}
    else:
        span = request.span
        end_us = span.end.value // 1000 + span.timeframe.microseconds
        as_of = from_iso(record.as_of)
        if end_us <= now_us and not bars_behind(span.symbol.session, span.timeframe, as_of, end_us):
            return CLOSED_S  # no bar can follow the last one in the range
        pairs = {(span.symbol.session, span.timeframe)}
    read_us = from_iso(record.read_at)
    until_s = min(next_close(session, tf, read_us) - now_us for session, tf in pairs) / 1e6
    if record.age_bars in (1, 2, 3):  # the bar that just closed is due any moment
        until_s = min(until_s, SETTLE_S)
    return max(until_s, 0.001)


def prefixes(changed: Iterable[tuple[str, str]]) -> set[str]:
    """The beginnings of the keys of all answers that a publish of these symbols and timeframes may have changed."""
    pairs = set(changed)
    return {"*|"} | {f"{symbol}|{tf}|" for symbol, tf in pairs} | {f"{symbol}|*|" for symbol, _ in pairs}


def from_cache(answer: pd.DataFrame, request: Request, now_us: int) -> pd.DataFrame:
    """A cached answer, the caller's own already, labelled as such; its age is told as of now."""
    record = answer.attrs[KEY]
    record["source"] = "cache"
    if not isinstance(request, LatestRequest):  # a lookup is not repeated past the next close, so its age stands
        span = request.span
        record["age_bars"] = age_of(span.symbol, span.timeframe, as_of_us(record["as_of"]), now_us)
    return answer
