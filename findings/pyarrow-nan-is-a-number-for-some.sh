#!/usr/bin/env bash
# pyarrow 26.0.1: mean and sum take NaN as a number, min_max and quantile skip it, as if it were null.
#
# Guess before running: NaN is no null in Arrow, so all four answer NaN.
# Seen: mean nan, sum nan; min_max 1 and 3; quantile 2. A high and a low of a column with an unknown bar look complete.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==26.0.1 numpy
"$dir/venv/bin/python" -W ignore - <<'PY'
import math

import pyarrow as pa
import pyarrow.compute as pc

values = pa.array([1.0, math.nan, 3.0])
seen = {
    "null_count": values.null_count,
    "mean": pc.mean(values).as_py(),
    "sum": pc.sum(values).as_py(),
    "min_max": pc.min_max(values).as_py(),
    "quantile": pc.quantile(values, 0.5).to_pylist(),
}
print(seen)
assert seen["null_count"] == 0
assert math.isnan(seen["mean"]) and math.isnan(seen["sum"])
assert seen["min_max"] == {"min": 1.0, "max": 3.0}
assert seen["quantile"] == [2.0]
PY
