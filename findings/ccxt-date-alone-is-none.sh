#!/usr/bin/env bash
# ccxt 4.5.90: parse8601 of a date alone is None, without an error.
#
# Guess before running: 2024-01-03 is ISO 8601 and parses as midnight UTC.
# Seen: None, as is 20240103; with a time it parses. fetch_ohlcv(since=None) then asks for the newest candles
# instead of the history.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check ccxt==4.5.90
"$dir/venv/bin/python" -W ignore - <<'PY'
import ccxt
exchange = ccxt.binance()
for text in ("2024-01-03", "20240103", "2024-01-03T00:00:00", "2024-01-03 00:00:00", "2024-01-03T00:00:00+02:00"):
    print(text, exchange.parse8601(text))
assert exchange.parse8601("2024-01-03") is None and exchange.parse8601("20240103") is None
assert exchange.parse8601("2024-01-03T00:00:00") == 1704240000000
PY
