#!/usr/bin/env bash
# orjson and plotly: a missing time on an axis becomes the year 1677.
#
# Guess before running: NaT is serialized as null, as NaN is.
# Seen: 1677-09-21T00:12:43.145224, the smallest 64-bit count of nanoseconds, both from orjson's NumPy option
# and in a plotly figure's JSON, so a chart with one missing time spans 347 years.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check orjson==3.13.0 plotly==7.1.0 pandas==2.3.3
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np, orjson, pandas as pd, plotly.graph_objects as go
raw = orjson.dumps(np.array(["2024-01-01", "NaT"], dtype="datetime64[ns]"), option=orjson.OPT_SERIALIZE_NUMPY).decode()
x = orjson.loads(go.Figure(go.Scatter(x=pd.Series(pd.to_datetime(["2024-01-01", None])), y=[1, 2])).to_json())["data"][0]["x"]
print(raw, x)
assert "1677-09-21" in raw and x[1].startswith("1677-09-21")
PY
