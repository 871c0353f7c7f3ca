#!/usr/bin/env bash
# deltalake 1.6.6: whether DELETE ... v > 70 takes a NaN depends on what else lies in its file.
#
# Guess before running: NaN > 70 is false, so the row stays (or it is always deleted, if NaN sorts last).
# Seen: beside an 80 the NaN row is deleted with it; beside nothing above the bound the file is skipped by its
# statistics and the NaN stays; alone in a file it is deleted.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check deltalake==1.6.6 pyarrow==26.0.1
"$dir/venv/bin/python" -W ignore - <<'PY'
import tempfile
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
def left(values, predicate):
    path = tempfile.mkdtemp()
    write_deltalake(path, pa.table({"v": pa.array(values, pa.float64())}))
    DeltaTable(path).delete(predicate)
    return [str(v) for v in DeltaTable(path).to_pyarrow_table()["v"].to_pylist()]
cases = {p: left(v, p) for v, p in (([1.0, float("nan"), 80.0], "v > 70"), ([1.0, float("nan"), 80.0], "v > 90"), ([float("nan")], "v > 95"))}
print(cases)
assert cases == {"v > 70": ["1.0"], "v > 90": ["1.0", "nan", "80.0"], "v > 95": []}
PY
