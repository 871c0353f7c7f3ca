#!/usr/bin/env bash
# talipp 2.7.0: one unknown close is NaN for ever in EMA and SMA, and nothing at all in RSI.
#
# Guess before running: NaN in, NaN out, in each of the three (or in none).
# Seen: EMA and SMA are NaN to the end; RSI goes on as if the price had not moved and differs from the true one
# in the fifth digit; no value is unknown.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check talipp==2.7.0 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import math, numpy as np
from talipp.indicators import EMA, RSI, SMA
close = list(100 + np.cumsum(np.random.default_rng(2).normal(0, 1, 300)))
holed = close[:150] + [math.nan] + close[151:]
print("EMA", EMA(14, holed)[-1], "SMA", SMA(14, holed)[-1], "RSI", RSI(14, holed)[-1], "true RSI", RSI(14, close)[-1])
assert math.isnan(EMA(14, holed)[-1]) and math.isnan(SMA(14, holed)[-1])
rsi = RSI(14, holed)
assert not any(value is not None and math.isnan(value) for value in rsi) and 0 < abs(rsi[-1] - RSI(14, close)[-1]) < 0.1
PY
