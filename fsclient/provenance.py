"""Where an answer came from, as of which bar, how old it is, and what it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

Source = Literal["cache", "online", "offline", "recomputed", "last_good"]
KEY = "provenance"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The record that every answer carries, as a plain dict in ``frame.attrs["provenance"]``.

    Attributes:
        source: where the values were read; for ``cache`` they were last read from ``origin``.
        origin: the store behind a cached answer; the same as ``source`` otherwise.
        read_at: ISO-8601 UTC moment at which ``origin`` was read.
        as_of: ISO-8601 UTC close of the newest bar in the answer, the oldest of several symbols; None when it holds
            none.
        age_bars: closed bars that an open market has made since then; None when there is no bar. The highest of several
            symbols and timeframes, each value's age in bars of its own timeframe.
        complete: whether every bar that an open market made in the asked range is there, with every value that the
            source reports.
        missing: what is not there, each ``{"symbol", "reason", ...}``: ``gap`` (bars of an open market, with ``start``,
            ``end``, ``bars``), ``no_data`` (no bar at all of a known symbol, in the range if one was asked for),
            ``not_stored`` (the bar is there, this feature of it was never stored or published), ``warm_up`` (too few
            bars before it), ``not_reported`` (a volume that the source does not report), ``expired`` (older than
            ``max_age_bars``), ``calendar_ends`` (from ``start`` on the exchange's calendar is not known, so nobody can
            say whether bars are missing).
        stale: whether the answer may not be what the store would say now, or the store itself doubts it.
        doubt: what failed the last comparison of the stores, each ``{"symbol", "timeframe", "reason"}``.
        recomputed: the symbols of a lookup whose rows were computed from stored bars; all other rows were read from the
            online store.
    """

    source: Source
    origin: Source
    read_at: str
    as_of: str | None
    age_bars: int | None
    complete: bool
    missing: tuple[Mapping[str, Any], ...] = field(default=())
    stale: bool = False
    doubt: tuple[Mapping[str, Any], ...] = field(default=())
    recomputed: tuple[str, ...] = ()

    @classmethod
    def of_read(
        cls,
        source: Source,
        read_us: int,
        *,
        as_of: str | None,
        age_bars: int | None,
        complete: bool,
        missing: tuple[Mapping[str, Any], ...],
        doubt: tuple[Mapping[str, Any], ...],
        recomputed: tuple[str, ...] = (),
    ) -> Provenance:
        """The record of what was read from a store just now, at ``read_us`` (microseconds since 1970-01-01 UTC)."""
        return cls(
            source=source,
            origin=source,
            read_at=iso(read_us),
            as_of=as_of,
            age_bars=age_bars,
            complete=complete,
            missing=missing,
            stale=bool(doubt),
            doubt=doubt,
            recomputed=recomputed,
        )

    def as_dict(self) -> dict[str, Any]:
        """A plain dict that JSON (and so Parquet metadata) can hold."""
        return {
            "source": self.source,
            "origin": self.origin,
            "read_at": self.read_at,
            "as_of": self.as_of,
            "age_bars": self.age_bars,
            "complete": self.complete,
            "missing": list(map(dict, self.missing)),
            "stale": self.stale,
            "doubt": list(map(dict, self.doubt)),
            "recomputed": list(self.recomputed),
        }


_FIELDS = tuple(each.name for each in fields(Provenance))


def provenance(frame: pd.DataFrame | pd.Series) -> Provenance:
    """The provenance of a frame or series that a client returned, read back from Parquet or not.

    Raises:
        ValueError: it has none: it does not come from a client, or an operation dropped it.
    """
    try:
        return from_dict(frame.attrs[KEY])
    except (TypeError, KeyError):
        raise ValueError(
            "this frame has no provenance; a client's answers have, until an operation drops attrs"
        ) from None


def from_dict(record: Mapping[str, Any]) -> Provenance:
    """Back from ``Provenance.as_dict``, of this version or another: a field that this one lacks is left out.

    Raises:
        TypeError, KeyError: it is not such a record.
    """
    known = {name: record[name] for name in _FIELDS if name in record}
    lists = {"missing": tuple(record["missing"])}
    lists |= {name: tuple(record.get(name, ())) for name in ("doubt", "recomputed")}  # not in every older record
    return Provenance(**{**known, **lists})


def iso(us: int) -> str:
    """Microseconds since 1970-01-01 as ISO-8601 in UTC with a ``Z``."""
    seconds, micros = divmod(us, 1_000_000)
    return f"{_second(seconds)}.{micros:06d}Z" if micros else _second(seconds) + "Z"


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:-6]


@lru_cache(maxsize=4096)
def from_iso(moment: str) -> int:
    """Back again."""
    return (datetime.fromisoformat(moment) - _EPOCH) // timedelta(microseconds=1)
