#!/usr/bin/env bash
# exchange_calendars 4.13.2 ends Shanghai with this year; pandas_market_calendars 5.5.0 answers 2027 from rules.
#
# Guess before running: both libraries know the same sessions, as one is built on the other's data.
# Seen: the one raises past the year's end, the other lists 15 sessions for February 2027, among them 12
# February, before the exchange has published its holidays. Nothing marks them as computed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check exchange_calendars==4.13.2 pandas_market_calendars==5.5.0 pandas==2.3.3
"$dir/venv/bin/python" -W ignore - <<'PY'
import exchange_calendars as xc, pandas_market_calendars as mcal
known = xc.get_calendar("XSHG")
print("exchange_calendars ends", known.last_session.date())
february = mcal.get_calendar("SSE").schedule("2027-02-01", "2027-02-28").index
print("pandas_market_calendars", [day.strftime("%d") for day in february])
assert str(known.last_session.date()) < "2027-01-01" and len(february) == 15
try:
    known.sessions_in_range("2027-02-01", "2027-02-28")
except ValueError as error:
    print(type(error).__name__)
else:
    raise SystemExit("exchange_calendars answers 2027 now")
PY
