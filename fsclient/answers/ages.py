"""How old an answer is, in bars."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from feature_repo.catalog import Symbol, Timeframe
from feature_repo.freshness import bars_behind
from feature_repo.stores.redis.codec import FloatArray
from fsclient.answers.values import NO_BAR
from fsclient.frames import Int64Array, Moments, moments_of
from fsclient.provenance import from_iso, iso
from fsclient.questions.latest import LatestRequest


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ages:
    """The times of a lookup's answer; the same object until the next bar closes.

    Attributes:
        moments: (1, n), close of each symbol's bar at the request's own timeframe, the oldest if views differ.
        ages: (n,) float64, how many bars the oldest of a symbol's values is behind, each in bars of its own
            timeframe; NaN where there is no bar.
        as_of, age_bars: as in a provenance.
    """

    moments: Moments
    ages: FloatArray
    as_of: str | None
    age_bars: int | None


@lru_cache(maxsize=1024)  # from one close to the next it is the same for all lookups
def ages_of(request: LatestRequest, events: bytes, tick: int) -> Ages:
    """The times of an answer.

    Args:
        events: the closes of the bars that each view holds, (n, v) int64, as ``tobytes`` writes them.
        tick: the moment, in whole ``request.tick_us`` since 1970-01-01: between two of them no bar closes.
    """
    now_us = tick * request.tick_us
    event_us = np.frombuffer(events, dtype=np.int64).reshape(len(request.symbols), -1)
    own = event_us[:, request.own].min(axis=1)
    ages = np.full(len(request.symbols), np.nan)
    for timeframe, at in request.by_timeframe.items():
        for i, us in enumerate(event_us[:, at].min(axis=1).tolist()):
            age = age_of(request.symbols[i], timeframe, us, now_us)
            if age is not None and not age <= ages[i]:  # NaN is no less
                ages[i] = age
    known = own[own != NO_BAR] if (own != NO_BAR).any() else event_us[event_us != NO_BAR]
    as_of = iso(int(known.min())) if len(known) else None
    return Ages(moments=moments_of(own), ages=ages, as_of=as_of, age_bars=oldest(ages))


def age_of(symbol: Symbol, timeframe: Timeframe, event_us: int, now_us: int) -> int | None:
    """How many bars a bar is behind; None for no bar."""
    return None if event_us == NO_BAR else bars_behind(symbol.session, timeframe, event_us, now_us)


def closed_since(request: LatestRequest, read_us: int, now_us: int) -> Int64Array:
    """For each symbol how many bars have closed since a moment, at the timeframe at which it is the most."""
    return np.array(
        [
            max(bars_behind(symbol.session, tf, read_us - tf.microseconds + 1, now_us) for tf in request.by_timeframe)
            for symbol in request.symbols
        ]
    )


def oldest(ages: FloatArray) -> int | None:
    """The highest age; None when there is no bar."""
    known = ages[~np.isnan(ages)]
    return int(known.max()) if len(known) else None


def as_of_us(as_of: str | None) -> int:
    """A provenance's ``as_of`` as a number."""
    return NO_BAR if as_of is None else from_iso(as_of)
