#!/usr/bin/env bash
# DuckDB 2.0.1: date_diff counts the boundaries between two dates, of months, quarters, ISO years; of weeks it does not.
#
# Guess before running: Sunday 2024-01-07 to Monday 2024-01-08 is one week boundary, as 31 March to 1 April is one of
# months and of quarters.
# Seen: 0; a week is seven whole days from the first date. date_trunc('week') begins on Mondays all the same, so bars
# grouped by the one and counted by the other disagree.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check duckdb==2.0.1
"$dir/venv/bin/python" -W ignore - <<'PY'
import duckdb

def value(expression):
    result = duckdb.connect().execute(f"select {expression}").fetchone()[0]
    print(f"{expression}: {result}")
    return result

assert value("date_diff('month', DATE '2024-03-31', DATE '2024-04-01')") == 1
assert value("date_diff('quarter', DATE '2024-03-31', DATE '2024-04-01')") == 1
assert value("date_diff('isoyear', DATE '2024-12-29', DATE '2024-12-30')") == 1
assert value("date_diff('week', DATE '2024-01-07', DATE '2024-01-08')") == 0
assert value("date_diff('week', DATE '2024-01-06', DATE '2024-01-12')") == 0
assert value("date_diff('week', DATE '2024-01-06', DATE '2024-01-13')") == 1
assert value("date_trunc('week', DATE '2024-01-07') < date_trunc('week', DATE '2024-01-08')") is True
PY
