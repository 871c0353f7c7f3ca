#!/usr/bin/env bash
# ccxt 4.5.90: two functions of one library begin a week on different days, and a month is thirty days from
# 1970.
#
# Guess before running: build_ohlcvc and round_timeframe agree, weeks begin on Monday and months on the first.
# Seen: round_timeframe says Monday and the first of the month; build_ohlcvc cuts weeks from Thursday, and the
# trades of January 2024 lie in a month that begins on 2023-12-19.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check ccxt==4.5.90
"$dir/venv/bin/python" -W ignore - <<'PY'
import ccxt
exchange = ccxt.binance()
start = exchange.parse8601("2024-01-03T00:00:00")  # a Wednesday
trades = [{"timestamp": start + i * 8 * 3_600_000, "price": 1.0, "amount": 1.0, "symbol": "BTC/USDT", "id": str(i)} for i in range(9)]
rounded = {tf: exchange.iso8601(exchange.round_timeframe(tf, start))[:10] for tf in ("1w", "1M")}
built = {tf: [exchange.iso8601(bar[0])[:10] for bar in exchange.build_ohlcvc(trades, tf)] for tf in ("1w", "1M")}
print(rounded, built)
assert rounded == {"1w": "2024-01-01", "1M": "2024-01-01"}
assert built == {"1w": ["2023-12-28", "2024-01-04"], "1M": ["2023-12-19"]}
PY
