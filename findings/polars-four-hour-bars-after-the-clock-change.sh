#!/usr/bin/env bash
# polars 2.1.0: where 4-hour windows lie after a night of summer time depends on the first row of the frame.
#
# Guess before running: group_by_dynamic(every='4h') cuts a day into the same windows whatever the frame begins
# with.
# Seen: a frame that begins before the change has bars at 05:00, 09:00 and 13:00 Athens, one that begins after
# it at 04:00, 08:00 and 12:00: a backfill and a day's increment never agree.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check polars==2.1.0
"$dir/venv/bin/python" -W ignore - <<'PY'
from datetime import datetime
import polars as pl
hours = pl.DataFrame({"t": pl.datetime_range(datetime(2024, 3, 30), datetime(2024, 4, 1, 23), "1h", time_zone="Europe/Athens", eager=True)})
def starts(frame):
    bars = frame.group_by_dynamic("t", every="4h").agg(pl.len())
    return [t.hour for t in bars["t"] if (t.day, t.month) == (31, 3)]
long, short = starts(hours), starts(hours.slice(30))
print(long, short)
assert long[1:4] == [5, 9, 13] and short[:3] == [4, 8, 12]
PY
