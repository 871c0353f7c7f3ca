"""Time zones: checked by name, and found where a file declares one."""

from __future__ import annotations

import difflib
import re
import zoneinfo
from collections.abc import Iterable

from flows.sources.error import SourceError, shown

_DECLARATION = re.compile(r"\b(?:time ?zone|tz)\s*[:=]?\s*([\w/+-]+)|([\w/+-]+)\s+time ?zone\b", re.IGNORECASE)


def is_zone(name: str) -> bool:
    # The list, not ZoneInfo(name): that opens any file below the zone folders, "localtime" among them.
    return name in zoneinfo.available_timezones() and name != "localtime"


def check_zone(name: str) -> None:
    """Check that ``name`` is an IANA time zone.

    Raises:
        SourceError: it is none; the message names the nearest.
    """
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
