"""What is explained of a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

import numpy as np

from flows.errors import FixableError

Kind = Literal["ingested", "derived", "indicator"]


class NoSuchBarError(FixableError):
    """There is no bar whose value could be explained; the message says which bars there are."""


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
            ``in_window`` says that the bar is not, or no longer, among those that are online).
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


def number(value: Any) -> float | None:
    """A value as it is shown; None for NaN."""
    return None if value is None or np.isnan(value) else float(value)
