#!/usr/bin/env bash
# Prefect 3.8.8: an RRULE with COUNT and no DTSTART never runs, and a DTSTART's zone is dropped.
#
# Guess before running: COUNT=3 runs three times from now on; DTSTART;TZID=America/New_York at 17:00 runs at
# 17:00 New York.
# Seen: no run at all, as the count begins in 2020; and 17:00 UTC, the zone of the schedule, in both winter and
# summer.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check prefect==3.8.8 'fastapi<0.151' 'sqlalchemy<2.1'
"$dir/venv/bin/python" -W ignore - <<'PY'
import asyncio
from datetime import datetime
from zoneinfo import ZoneInfo
from prefect.server.schemas.schedules import CronSchedule, RRuleSchedule
NY = ZoneInfo("America/New_York")
def runs(schedule, count, start):
    return [str(moment) for moment in asyncio.run(schedule.get_dates(count, start=start))]

counted = runs(RRuleSchedule(rrule="FREQ=DAILY;COUNT=3"), 5, datetime(2026, 11, 29, tzinfo=NY))
zoned = runs(RRuleSchedule(rrule="DTSTART;TZID=America/New_York:20240301T170000\nRRULE:FREQ=DAILY", timezone="UTC"), 2, datetime(2024, 3, 9, tzinfo=NY))
print(counted, zoned)
assert counted == [] and zoned == ["2024-03-09 17:00:00+00:00", "2024-03-10 17:00:00+00:00"]
PY
