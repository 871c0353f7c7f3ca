#!/usr/bin/env bash
# stockstats 0.6.10: every column has a value from the first row on; what can't be known yet is made up.
#
# Guess before running: a mean of the rows there are for close_10_sma, but NaN for rsi_14, log-ret and a rate of change;
# MACD is the difference of two plain exponential averages (adjust=False).
# Seen: RSI is 50 on the first row and 100 or 0 on the second; log-ret and the rate of change are 0.0; MACD uses
# adjust=True, and is a quarter off the plain one after 40 rows. Nothing marks those rows.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check stockstats==0.6.10 pandas==3.1.1 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import pandas as pd
import stockstats

close = pd.Series(100 + np.sin(np.arange(40) / 3) + np.arange(40) / 20)
frame = pd.DataFrame({"open": close, "close": close, "high": close + 1, "low": close - 1, "volume": 1000.0})
stock = stockstats.wrap(frame.copy())
names = ("close_10_sma", "rsi_14", "log-ret", "close_5_roc")
head = {name: [round(float(value), 4) for value in stock[name].head(2)] for name in names}
print(head)
assert head["rsi_14"] == [50.0, 100.0]
assert head["log-ret"][0] == 0.0 and head["close_5_roc"] == [0.0, 0.0]
spans = {adjust: [close.ewm(span=n, adjust=adjust).mean() for n in (12, 26)] for adjust in (True, False)}
macd = {adjust: float((fast - slow).iloc[-1]) for adjust, (fast, slow) in spans.items()}
print("macd", float(stock["macd"].iloc[-1]), macd)
assert np.isclose(stock["macd"].iloc[-1], macd[True]) and not np.isclose(macd[True], macd[False], rtol=1e-3)
PY
