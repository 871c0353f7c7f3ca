"""The gaps of stored series, read symbol by symbol; only open times are read, and only gaps are kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from feature_repo import catalog
from feature_repo.catalog import Timeframe
from feature_repo.gaps import Gaps, find_gaps
from feature_repo.stores.tables import OfflineTables
from feature_repo.stores.window import microseconds
from flows.inspect.outages import Gap, Outage, find_outages, split_gaps


@dataclass(frozen=True, slots=True, kw_only=True)
class GapReport:
    """The gaps of some symbols at one timeframe, within a range.

    Attributes:
        gaps: symbol -> its gaps by cause, ascending; symbols without gaps included.
        outages: session -> when its feed was down.
        bars: symbol -> how many bars are stored in all.
        problems: symbol -> why its gaps are unknown.
    """

    timeframe: str
    gaps: Mapping[str, Sequence[Gap]]
    outages: Mapping[str, Sequence[Outage]]
    bars: Mapping[str, int]
    problems: Mapping[str, str]


def report_gaps(
    asked: Sequence[str],
    known: Sequence[str],
    timeframe: Timeframe,
    tables: OfflineTables,
    *,
    start_us: int | None = None,
    end_us: int | None = None,
) -> GapReport:
    """The gaps of the symbols ``asked`` for that reach into ``[start_us, end_us]``, microseconds since 1970-01-01 UTC.

    Args:
        known: every symbol with bars: whether a feed was down is seen in its other symbols. All of a series is read,
            because a gap may begin long before the range.
    """
    gaps_of: dict[str, Gaps] = {}
    spans: dict[str, tuple[int, int]] = {}
    bars: dict[str, int] = {}
    problems: dict[str, str] = {}
    sessions: dict[str, list[str]] = defaultdict(list)
    wanted = {catalog.SYMBOLS[name].session.name for name in asked if name in catalog.SYMBOLS}
    for name in dict.fromkeys([*asked, *known]):
        try:
            symbol = catalog.symbol(name)
            if symbol.session.name not in wanted:
                continue
            rows = tables.read_range("bars", timeframe=timeframe.name, symbol=name, start=None, end=None, columns=[])
            opens = microseconds(rows, "open_time")
            if not opens.size:
                continue
            gaps_of[name] = find_gaps(opens, session=symbol.session, timeframe=timeframe)
        except (ValueError, LookupError, OSError) as error:  # one bad symbol never stops the others
            problems[name] = str(error)
            continue
        spans[name] = int(opens[0]), int(opens[-1]) + timeframe.microseconds
        bars[name] = int(opens.size)
        sessions[symbol.session.name].append(name)
    outages = {
        session: find_outages({name: gaps_of[name] for name in names}, spans) for session, names in sessions.items()
    }
    gaps: dict[str, Sequence[Gap]] = {}
    for name in (name for name in asked if name in gaps_of):
        session = catalog.symbol(name).session
        pieces = split_gaps(gaps_of[name], outages[session.name], session=session, timeframe=timeframe)
        gaps[name] = [p for p in pieces if _reaches(p.start_us, p.end_us, start_us, end_us)]
    return GapReport(
        timeframe=timeframe.name,
        gaps=gaps,
        outages={
            s: [o for o in downs if _reaches(o.start_us, o.end_us, start_us, end_us)] for s, downs in outages.items()
        },
        bars={name: bars[name] for name in gaps},
        problems={name: problems[name] for name in asked if name in problems},
    )


def _reaches(first_us: int, last_us: int, start_us: int | None, end_us: int | None) -> bool:
    return (start_us is None or last_us > start_us) and (end_us is None or first_us <= end_us)
