#!/usr/bin/env bash
# DuckDB 2.0.1: the difference of two TIMESTAMPTZ is a count of calendar days of the session's zone, not a time.
#
# Guess before running: midnight to midnight over the spring change in New York is 23 hours, '23:00:00'.
# Seen: '1 day', of which extract(epoch) makes 86,400 s; the two epochs differ by 82,800 s. So the age of a bar computed
# by a subtraction is an hour off over a clock change, and depends on the session's TimeZone.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==2.0.1
"$dir/venv/bin/python" -W ignore - <<'PY'
import duckdb

QUERY = """
select (b - a)::varchar, extract(epoch from b - a), epoch(b) - epoch(a)
from (select TIMESTAMPTZ '2024-03-10 05:00+00' as a, TIMESTAMPTZ '2024-03-11 04:00+00' as b)
"""
connection = duckdb.connect()
seen = {}
for zone in ("America/New_York", "UTC"):
    connection.execute(f"set TimeZone = '{zone}'")
    seen[zone] = connection.execute(QUERY).fetchone()
    print(zone, seen[zone])
assert seen["America/New_York"] == ("1 day", 86400.0, 82800.0)
assert seen["UTC"] == ("23:00:00", 82800.0, 82800.0)
PY
