#!/usr/bin/env bash
# vectorbt 1.0.0: RSI, ATR and MACD default to simple averages.
#
# Guess before running: vbt.RSI.run(close, 14) is Wilder's RSI and vbt.MACD.run(close) a difference of
# exponential averages, as their names say elsewhere.
# Seen: 41.07 instead of 39.31, and -1.67 instead of -1.38, each equal to TA-Lib only with ewm=True or
# macd_ewm=True.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check vectorbt==1.0.0 'plotly<6' ta-lib==0.8.2 pandas==2.3.3
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np, pandas as pd, talib, vectorbt as vbt
close = pd.Series(100 + np.cumsum(np.random.default_rng(2).normal(0, 1, 300)), index=pd.date_range("2024-01-01", periods=300, freq="1h"))
rsi = [vbt.RSI.run(close, 14).rsi.iloc[-1], vbt.RSI.run(close, 14, ewm=True).rsi.iloc[-1], talib.RSI(close.values, 14)[-1]]
macd = [vbt.MACD.run(close).macd.iloc[-1], vbt.MACD.run(close, macd_ewm=True).macd.iloc[-1], talib.MACD(close.values)[0][-1]]
print("RSI default, ewm, TA-Lib", rsi); print("MACD default, ewm, TA-Lib", macd)
assert abs(rsi[1] - rsi[2]) < 0.01 < 1 < abs(rsi[0] - rsi[2])
assert abs(macd[1] - macd[2]) < 1e-6 < 0.2 < abs(macd[0] - macd[2])
PY
