#!/usr/bin/env bash
# ta 0.11.0: the KST indicator's first values come from the mean of the whole series, the future included.
#
# Guess before running: cutting the future off changes no value of an indicator.
# Seen: rows 14 to 43 differ by up to 18 between 300 bars and their first 250: what a shift leaves empty is
# filled with the mean of all prices. They are numbers, not NaN, so nothing marks them as warm-up.
#
# Why it matters: a backtest that trains on a KST from the first bar has seen the last one.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check ta==0.11.0 pandas==2.3.3
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np, pandas as pd, ta
close = pd.Series(100 + np.cumsum(np.random.default_rng(2).normal(0, 1, 300)))
whole, cut = ta.trend.kst(close), ta.trend.kst(close[:250])
differ = np.flatnonzero((whole[:250] - cut).abs() > 1e-9)
print("rows", differ[0], "to", differ[-1], "differ by up to", (whole[:250] - cut).abs().max())
assert (differ[0], differ[-1]) == (14, 43) and (whole[:250] - cut).abs().max() > 10
PY
