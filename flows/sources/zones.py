"""Time zones: checked by name, and read where a file declares one; a clock may change its zone at a date."""

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
_MAX_BESIDE_H = 14
_BESIDE = re.compile(r"(.*?)([+-]\d{1,2})h", re.DOTALL)  # no IANA name ends like this
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

    A date is the first day on the new zone, whose 00:00 is the moment of the change. A zone may be followed by the
    hours that the clock is ahead of it: ``Europe/Zurich-6h`` is six hours behind Zurich's.

    Raises:
        SourceError: a name is not an IANA zone (the message names the nearest), or a date is invalid or out of order.
    """
    first, *rest = text.split(",")
    zones, starts = [first.strip() if rest else first], [np.datetime64(np.iinfo(np.int64).min + 1, "us")]
    _check_zone(zones[0])
    for change in rest:
        change_match = _CHANGE.fullmatch(change)
        try:
            start = pd.Timestamp(change_match[1] if change_match else "")
        except ValueError:
            start = pd.NaT
        if change_match is None or pd.isna(start):
            raise SourceError(
                f"--tz has {shown(change)}, which is not a change of zone",
                remedy="Write ZONE,DATE=ZONE, as Europe/Berlin,2014-11-23=Europe/Athens.",
            )
        _check_zone(change_match[2])
        zones.append(change_match[2])
        starts.append(
            _zone_to_utc(np.array([start.to_datetime64()], "datetime64[us]"), change_match[2], first=False)[0]
        )
    if any(later <= earlier for earlier, later in itertools.pairwise(starts)):
        raise SourceError(
            f"the dates of {shown(text)} do not ascend", remedy="Name the changes of zone in their order."
        )
    ends = [*starts[1:], np.datetime64(np.iinfo(np.int64).max, "us")]
    return tuple(Period(zone=z, start=s, end=e) for z, s, e in zip(zones, starts, ends, strict=True))


def to_utc(wall: Instants, text: str, *, first: bool = False) -> Instants:
    """Times on a wall clock as UTC instants, datetime64[us]; NaT where the clock skipped or repeated a time.

    A time is read in every zone that the clock was set to; the reading that falls into that zone's own period counts.

    Args:
        text: the clock, as ``clock`` reads it.
        first: take the earlier of two instants with one wall-clock time; else they are NaT too.
    """
    periods = clock(text)
    if len(periods) == 1:
        return _zone_to_utc(wall, text, first=first)
    instants, readings = np.full(len(wall), np.datetime64("NaT", "us")), np.zeros(len(wall), int)
    for period in periods:
        read = _zone_to_utc(wall, period.zone, first=first)
        counts = (read >= period.start) & (read < period.end) & (np.isnat(instants) if first else True)
        instants[counts] = read[counts]
        readings += counts
    instants[readings != 1] = np.datetime64("NaT", "us")
    return instants


def _zone_to_utc(wall: Instants, zone: str, *, first: bool) -> Instants:
    name, beside = _parts(zone)
    if name == "UTC":
        return wall - np.timedelta64(beside, "h")
    twice: Mask | str = np.ones(len(wall), bool) if first else "NaT"
    index = pd.DatetimeIndex(wall - np.timedelta64(beside, "h"))
    index = index.tz_localize(name, ambiguous=twice, nonexistent="NaT")
    instants: Instants = index.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]")
    return instants


def _parts(zone: str) -> tuple[str, int]:
    """The name of a zone, and how many hours a clock is ahead of it: -6 of ``Europe/Zurich-6h``, else 0."""
    match = _BESIDE.fullmatch(zone)
    return (match[1], int(match[2])) if match else (zone, 0)


def is_zone(name: str) -> bool:
    # The list, not ZoneInfo(name): that opens any file below the zone folders, "localtime" among them.
    return name in zoneinfo.available_timezones() and name != "localtime"


def _check_zone(text: str) -> None:
    name, beside = _parts(text)
    if is_zone(name) and abs(beside) <= _MAX_BESIDE_H:
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
