#!/usr/bin/env bash
# pandas-ta-classic 0.8.32: with their defaults, four of its indicators change values of the past when bars are added.
#
# Guess before running: dpo (centered) and the lagging line of ichimoku, no others.
# Seen: those two, and tos_stdevall and vp, which are fitted to the whole series: each value of a backtest knows its end.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check pandas-ta-classic==0.8.32 pandas==3.1.1 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import inspect

import numpy as np
import pandas as pd
import pandas_ta_classic as ta

rng = np.random.default_rng(1)
index = pd.date_range("2024-01-01", periods=300, freq="h")
bars = pd.DataFrame({"open": 100 + rng.normal(size=300).cumsum()}, index=index)
bars["close"] = bars["open"] + rng.normal(size=300) * 0.3
bars["high"] = bars[["open", "close"]].max(axis=1) + rng.random(300)
bars["low"] = bars[["open", "close"]].min(axis=1) - rng.random(300)
bars["volume"] = 1000.0 + rng.integers(1, 100, 300)


def values(function, bars):
    """The first 200 rows of what it answers for these bars; None when it needs more than bars."""
    inputs = [name for name in ("open_", "high", "low", "close", "volume") if name in inspect.signature(function).parameters]
    try:
        answer = function(**{name: bars[name.strip("_")] for name in inputs})
        answer = answer[0] if isinstance(answer, tuple) else answer
        return None if answer is None else pd.DataFrame(answer).iloc[:200].to_numpy(float)
    except (TypeError, ValueError):
        return None


tried, changed = 0, []
for name in sorted({name for names in ta.Category.values() for name in names}):
    function = getattr(ta, name, None)
    if function is None:
        continue
    short, long = values(function, bars.head(201)), values(function, bars)
    if short is None or long is None:
        continue
    tried += 1
    if short.shape != long.shape or not np.allclose(short, long, equal_nan=True):
        changed.append(name)
print(tried, "indicators tried;", "past values changed:", changed)
assert changed == ["dpo", "ichimoku", "tos_stdevall", "vp"]
PY
