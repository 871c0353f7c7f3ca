#!/usr/bin/env bash
# Prefect 3.8.8: an hourly cron in a zone with summer time leaves out an hour in autumn.
#
# Guess before running: 0 * * * * runs 25 times on the day that has 25 hours.
# Seen: after 01:00 -04:00 comes 02:00 -05:00, two hours later: the repeated hour has no run. The same cron in
# UTC has it.
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

seen = runs(CronSchedule(cron="0 * * * *", timezone="America/New_York"), 4, datetime(2024, 11, 3, tzinfo=NY))
print(seen)
assert seen == ["2024-11-03 00:00:00-04:00", "2024-11-03 01:00:00-04:00", "2024-11-03 02:00:00-05:00", "2024-11-03 03:00:00-05:00"]
PY
