#!/usr/bin/env bash
# deltalake 1.6.6: an empty string in a partition column is read back as null, and the list of partitions keeps
# both.
#
# Guess before running: '' and null stay two values.
# Seen: the rows of '' come back with null; partitions() lists '' and None.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check deltalake==1.6.6 pyarrow==26.0.1
"$dir/venv/bin/python" -W ignore - <<'PY'
import tempfile
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
path = tempfile.mkdtemp()
write_deltalake(path, pa.table({"s": ["", "a", None], "v": [1.0, 2.0, 3.0]}), partition_by=["s"])
rows = sorted(DeltaTable(path).to_pyarrow_table().to_pylist(), key=lambda row: row["v"])
partitions = sorted((p["s"] for p in DeltaTable(path).partitions()), key=str)
print(rows, partitions)
assert [row["s"] for row in rows] == [None, "a", None] and set(partitions) == {None, "", "a"}
PY
