"""Where an answer came from, as of which bar, how old it is, and what it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

import pandas as pd

Source = Literal["cache", "online", "offline", "recomputed", "last_good"]
KEY = "provenance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The record that every answer carries, as a plain dict in ``frame.attrs["provenance"]``.

    Attributes:
        source: where the values were read; for ``cache`` they were last read from ``origin``.
        origin: the store behind a cached answer; the same as ``source`` otherwise.
        as_of: ISO-8601 UTC close of the newest bar in the answer; None when it holds none.
        age_bars: closed bars that an open market has made since then; None when there is no bar.
        complete: whether every bar that an open market made in the asked range is there with every value.
        missing: what is not, each ``{"symbol", "reason", ...}``: ``gap`` (with ``start``, ``end``, ``bars``),
            ``no_data`` (a known symbol that has none), ``not_stored`` (a feature that was never published),
            ``warm_up`` (a value that does not exist yet).
        stale: whether the answer may not be what the store would say now.
    """

    source: Source
    origin: Source
    as_of: str | None
    age_bars: int | None
    complete: bool
    missing: tuple[Mapping[str, Any], ...] = field(default=())
    stale: bool = False

    def as_dict(self) -> dict[str, Any]:
        """A plain dict that JSON (and so Parquet metadata) can hold."""
        return {
            "source": self.source,
            "origin": self.origin,
            "as_of": self.as_of,
            "age_bars": self.age_bars,
            "complete": self.complete,
            "missing": [dict(m) for m in self.missing],
            "stale": self.stale,
        }


def provenance(frame: pd.DataFrame | pd.Series) -> Provenance:
    """The provenance of a frame or series that a client returned, read back from Parquet or not.

    Raises:
        ValueError: it has none: it does not come from a client, or an operation dropped it.
    """
    record = frame.attrs.get(KEY)
    if not isinstance(record, Mapping):
        raise ValueError("this frame has no provenance; a client's answers have, until an operation drops attrs")
    return Provenance(**{**record, "missing": tuple(record.get("missing", ()))})


@lru_cache(maxsize=1024)
def iso(us: int) -> str:
    """Microseconds since 1970-01-01 as ISO-8601 in UTC with a ``Z``."""
    seconds, micros = divmod(us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros).isoformat().replace("+00:00", "Z")
