#!/usr/bin/env bash
# A huge value long gone from the window: which rolling means still feel it.
#
# Guess before running: after the window has passed the value, every library is back at the mean of the window
# (1.5).
# Seen: pandas 2.3.3, polars 2.1.0 and DuckDB 2.0.1 return 1.5. bottleneck 1.6.0 returns 0.0, numbagg 0.9.6 and
# TA-Lib 0.8.2's SMA 0.3, for ever after: they add and subtract along the series.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check pandas==2.3.3 polars==2.1.0 duckdb==2.0.1 bottleneck==1.6.0 numbagg==0.9.6 ta-lib==0.8.2
"$dir/venv/bin/python" -W ignore - <<'PY'
import bottleneck as bn, duckdb, numbagg, numpy as np, pandas as pd, polars as pl, talib
x = np.r_[np.ones(5), 1e17, np.full(300, 1.5)]  # a volume in wei among volumes in coins
means = {
    "pandas": pd.Series(x).rolling(5).mean().iloc[-1],
    "polars": pl.Series(x).rolling_mean(5)[-1],
    "duckdb": duckdb.sql("select avg(x) over (order by i rows 4 preceding) from (select unnest($1) x, generate_subscripts($1, 1) i) order by i desc limit 1", params=[x.tolist()]).fetchall()[0][0],
    "bottleneck": bn.move_mean(x, 5)[-1],
    "numbagg": numbagg.move_mean(x, window=5)[-1],
    "talib": talib.SMA(x, 5)[-1],
}
print(means)
assert means["pandas"] == means["polars"] == means["duckdb"] == 1.5
assert means["bottleneck"] == 0.0 and round(means["numbagg"], 9) == round(means["talib"], 9) == 0.3
PY
