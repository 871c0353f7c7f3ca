#!/usr/bin/env bash
# QuantStats 0.0.86: one day above +100 % turns a series of returns into prices.
#
# Guess before running: sharpe() and volatility() of a series of returns do not depend on how large the returns
# are.
# Seen: 300 gains of which one is 1.2: volatility is about 118 instead of 1.10, the Sharpe ratio 4.0
# instead of 6.5. A series with no loss and a value above 1 is taken for prices and differenced.
#
# Why it matters: a strategy's report on a winning streak is silently of another series.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check quantstats==0.0.86 pandas==2.3.3
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np, pandas as pd, quantstats as qs
rng = np.random.default_rng(1)
calm = pd.Series(rng.uniform(0, 0.05, 300), index=pd.date_range("2023-01-02", periods=300, freq="B"))
wild = calm.copy(); wild.iloc[100] = 1.2  # +120 %: an ordinary day for a new coin
for name, r in (("calm", calm), ("wild", wild)):
    print(name, "volatility", qs.stats.volatility(r), "of", r.std() * 252**.5, "sharpe", qs.stats.sharpe(r), "of", r.mean() / r.std() * 252**.5)
assert abs(qs.stats.volatility(calm) - calm.std() * 252**.5) < 1e-9
assert qs.stats.volatility(wild) > 50 * wild.std() * 252**.5
PY
