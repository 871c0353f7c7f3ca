"""What the online store shows of a value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from feature_repo import catalog
from feature_repo.catalog import WINDOW_TIME, Symbol, Timeframe
from feature_repo.moments import to_datetime
from feature_repo.stores.redis.codec import decode_array, doubt_key, entity_key, field_key, read_revision, revision_key
from flows.inspect.explain.explanation import number


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What is online.

    Attributes:
        value: None where there is none, or the bar is not there.
        in_window: whether the bar is among those that are online.
        as_of: close of the newest bar that is online; None when nothing is.
        doubt: why the symbol's values are in doubt; empty when they are not.
    """

    value: float | None = None
    in_window: bool = False
    as_of: datetime | None = None
    doubt: str


def read_shown(
    client: Any, project: str, symbol: Symbol, timeframe: Timeframe, name: str, open_time: datetime
) -> Shown:
    """What is online of a field at a bar, read in one step."""
    window = catalog.view("window", timeframe.name).name
    keys = [field_key(window, WINDOW_TIME), field_key(window, name), revision_key(window), doubt_key(timeframe.name)]
    times, values, revision, doubt = client.hmget(entity_key(symbol.name, project), keys)
    reason = doubt.decode(errors="replace") if doubt else ""
    if times is None or values is None or revision is None:
        return Shown(doubt=reason)
    as_of = to_datetime(read_revision(revision)[0])
    at = np.flatnonzero(decode_array(times) == open_time.timestamp())
    if not at.size:
        return Shown(as_of=as_of, doubt=reason)
    return Shown(value=number(decode_array(values)[at[0]]), in_window=True, as_of=as_of, doubt=reason)
