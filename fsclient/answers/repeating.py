"""How long an answer may be repeated from a cache, what a publish changes, and how a repeated answer is labelled."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import pandas as pd

from feature_repo.freshness import bars_behind, next_close
from fsclient.answers.ages import age_of, as_of_us
from fsclient.provenance import KEY, Provenance
from fsclient.questions.latest import LatestRequest
from fsclient.questions.ranges import Request

SETTLE_S = 5.0
"""A bar that closed should be published within this many seconds; until then a late answer is asked for again."""
UNHEARD_S = 1.0
"""How long an answer is repeated while publishes cannot be heard."""
ABSENT_S = 2.0
"""How long a symbol is remembered as one without data online."""
DOUBTED_S = 2.0
"""How long an answer in doubt is repeated: no publish announces the end of a doubt."""
CLOSED_S = 3600.0
"""How long a range is repeated that can only change by a correction, which is heard."""


def lifetime_s(request: Request, record: Provenance, read_us: int, now_us: int, *, is_followed: bool) -> float:
    """How long an answer may be repeated: until the next bar closes.

    The next is the first after the answer was read: one that closed meanwhile is not in it.

    Args:
        read_us: when it was read, as in ``record``.
        is_followed: whether the answer is dropped when a publish changes it.
    """
    if not is_followed:
        return UNHEARD_S
    if record.as_of is None or record.recomputed:
        return ABSENT_S
    if record.doubt:
        return DOUBTED_S
    if isinstance(request, LatestRequest):
        close_us = _next_close_us(request, read_us // request.tick_us)
    else:
        span = request.span
        end_us = span.end.value // 1000 + span.timeframe.microseconds
        as_of = as_of_us(record.as_of)
        if end_us <= now_us and not bars_behind(span.symbol.session, span.timeframe, as_of, end_us):
            return CLOSED_S  # no bar can follow the last one in the range
        close_us = next_close(span.symbol.session, span.timeframe, read_us)
    until_s = (close_us - now_us) / 1e6
    if record.age_bars in (1, 2, 3):  # the bar that just closed is due any moment
        until_s = min(until_s, SETTLE_S)
    return max(until_s, 0.001)


@lru_cache(maxsize=1024)  # the same for all lookups between two of the moments at which bars can close
def _next_close_us(request: LatestRequest, tick: int) -> int:
    pairs = {(symbol.session, timeframe) for symbol in request.symbols for timeframe in request.by_timeframe}
    return min(next_close(session, timeframe, tick * request.tick_us) for session, timeframe in pairs)


def prefixes(changed: Iterable[tuple[str, str]]) -> set[str]:
    """The beginnings of the keys of all answers that a publish of these symbols and timeframes may have changed."""
    pairs = set(changed)
    return {"*|"} | {f"{symbol}|{tf}|" for symbol, tf in pairs} | {f"{symbol}|*|" for symbol, _ in pairs}


def from_cache(answer: pd.DataFrame, request: Request, now_us: int) -> pd.DataFrame:
    """A cached answer, the caller's own already, labelled as such; its age as of now."""
    record = answer.attrs[KEY]
    record["source"] = "cache"
    if not isinstance(request, LatestRequest):  # a lookup is not repeated past the next close, so its age stands
        span = request.span
        record["age_bars"] = age_of(span.symbol, span.timeframe, as_of_us(record["as_of"]), now_us)
    return answer
