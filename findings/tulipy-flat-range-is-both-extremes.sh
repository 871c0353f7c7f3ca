#!/usr/bin/env bash
# tulipy 0.4.0: of bars without a range, stochastic and Williams %R both answer 0, which for the one is the bottom of its
# scale and for the other the top; RSI of the same bars is NaN.
#
# Guess before running: 0/0 is NaN in all three.
# Seen: %K 0 (oversold), %R 0 (overbought), RSI NaN.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check tulipy==0.4.0
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import tulipy

flat = np.full(20, 1.1)
k, _ = tulipy.stoch(flat, flat, flat, 5, 3, 3)
r, rsi = tulipy.willr(flat, flat, flat, 5), tulipy.rsi(flat, 5)
print("stoch", set(k), "willr", set(r), "rsi", set(map(str, rsi)))
assert (k == 0).all() and (r == 0).all() and np.isnan(rsi).all()
falling = np.arange(20.0, 0.0, -1.0)  # where both are extreme for good reason
print("at the bottom: stoch", tulipy.stoch(falling, falling, falling, 5, 3, 3)[0][-1],
      "willr", tulipy.willr(falling, falling, falling, 5)[-1])
assert tulipy.willr(falling, falling, falling, 5)[-1] == -100.0
PY
