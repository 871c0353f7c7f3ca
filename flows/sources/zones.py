"""Time zones: checked by name, and found where a file declares one; a clock may change its zone at a date."""

from __future__ import annotations

import difflib
import itertools
import re
import zoneinfo
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from flows.sources.error import SourceError, shown
from flows.sources.spellings import Instants, Mask

_DECLARATION = re.compile(r"\b(?:time ?zone|tz)\s*[:=]?\s*([\w/+-]+)|([\w/+-]+)\s+time ?zone\b", re.IGNORECASE)
_CHANGE = re.compile(r"\s*(\d{4}-\d{2}-\d{2})\s*=\s*(.*?)\s*", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A time in which a clock was set to one zone: from ``start`` until ``end``, instants in UTC."""

    zone: str
    start: np.datetime64
    end: np.datetime64


@lru_cache(maxsize=256)
def clock(text: str) -> tuple[Period, ...]:
    """The periods of a clock: of a zone's name one, of ``Europe/Berlin,2014-11-23=Europe/Athens`` two.

    A date is the first day on the new zone, whose 00:00 is the moment of the change.

    Raises:
        SourceError: a name is no IANA zone (the message names the nearest), or the dates are none or do not ascend.
    """
    first, *rest = text.split(",")
    zones, starts = [first.strip() if rest else first], [np.datetime64(np.iinfo(np.int64).min + 1, "us")]
    _check_zone(zones[0])
    for change in rest:
        found = _CHANGE.fullmatch(change)
        try:
            start = pd.Timestamp(found[1] if found else "")
        except ValueError:
            start = pd.NaT
        if found is None or pd.isna(start):
            raise SourceError(
                f"--tz has {shown(change)}, which is no change of zone",
                remedy="Write ZONE,DATE=ZONE, as Europe/Berlin,2014-11-23=Europe/Athens.",
            )
        _check_zone(found[2])
        zones.append(found[2])
        starts.append(to_utc(np.array([start.to_datetime64()], "datetime64[us]"), found[2])[0])
    if any(later <= earlier for earlier, later in itertools.pairwise(starts)):
        raise SourceError(
            f"the dates of {shown(text)} do not ascend", remedy="Name the changes of zone in their order."
        )
    ends = [*starts[1:], np.datetime64(np.iinfo(np.int64).max, "us")]
    return tuple(Period(zone=z, start=s, end=e) for z, s, e in zip(zones, starts, ends, strict=True))


def to_utc(wall: Instants, zone: str, *, first: bool = False) -> Instants:
    """Times on a zone's wall clock as UTC instants, datetime64[us]; NaT where the clock skips a time.

    Args:
        first: take the earlier of two instants with one wall-clock time; else they are NaT too.
    """
    twice: Mask | str = np.ones(len(wall), bool) if first else "NaT"
    index = pd.DatetimeIndex(wall).tz_localize(zone, ambiguous=twice, nonexistent="NaT")
    instants: Instants = index.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]")
    return instants


def is_zone(name: str) -> bool:
    # The list, not ZoneInfo(name): that opens any file below the zone folders, "localtime" among them.
    return name in zoneinfo.available_timezones() and name != "localtime"


def _check_zone(name: str) -> None:
    if is_zone(name):
        return
    zones = {zone.casefold(): zone for zone in zoneinfo.available_timezones()}
    cities = {zone.rpartition("/")[2].casefold(): zone for zone in sorted(zones.values())}
    wanted = name.casefold().replace(" ", "_")
    near = [zones[n] for n in difflib.get_close_matches(wanted, zones, n=2)]
    near += [cities[n] for n in difflib.get_close_matches(wanted, cities, n=2)]
    hint = f"Did you mean {' or '.join(dict.fromkeys(near))}? " if near else ""
    raise SourceError(
        f"unknown time zone {shown(name)}", remedy=f"{hint}--tz takes IANA names, as Europe/London, Etc/GMT+5 or UTC."
    )


def declared_zone(names: Iterable[str], preamble: Iterable[str]) -> str | None:
    """The zone that a file's time column (``Gmt time``) or a line above its header (``... UTC timezone``) declares."""
    for name in names:
        if {"utc", "gmt"} & set(re.findall("[a-z]+", name.lower())):
            return "UTC"
    for line in preamble:
        for words in _DECLARATION.findall(line):
            for word in filter(None, words):
                if word.upper() in ("UTC", "GMT"):
                    return "UTC"
                if is_zone(word):
                    return str(word)
    return None
