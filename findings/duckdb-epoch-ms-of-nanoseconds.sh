#!/usr/bin/env bash
# DuckDB 2.0.1: epoch_ms of a TIMESTAMP_NS fails, where epoch_us and epoch_ns work.
#
# Guess before running: milliseconds since 1970, cut.
# Seen: ConversionException "Unimplemented type for cast (INT64 -> INT64)". TIMESTAMP_NS is what a pandas frame of
# nanoseconds becomes; cast to TIMESTAMP first.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==2.0.1
"$dir/venv/bin/python" -W ignore - <<'PY'
import duckdb

STAMP = "TIMESTAMP_NS '2024-01-01 00:00:00.1234567'"
connection = duckdb.connect()
print(connection.execute(f"select epoch_us({STAMP}), epoch_ns({STAMP}), epoch_ms({STAMP}::TIMESTAMP)").fetchone())
try:
    connection.execute(f"select epoch_ms({STAMP})")
except duckdb.ConversionException as error:
    print(type(error).__name__, error)
    assert "INT64 -> INT64" in str(error)
else:
    raise SystemExit("epoch_ms works now")
PY
