#!/usr/bin/env bash
# redis-py 7.4.1 with NumPy 2: a NumPy float is stored as the text np.float64(1.5).
#
# Guess before running: np.float64 is a float, so it is stored as 1.5.
# Seen: its repr, b'np.float64(1.5)', which no reader parses as a number; a Python float is stored as b'1.5'.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check redis==7.4.1 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np
from redis._parsers import Encoder
encode = Encoder("utf-8", "strict", False).encode
print(encode(np.float64(1.5)), encode(1.5))
assert encode(np.float64(1.5)) == b"np.float64(1.5)" and encode(1.5) == b"1.5"
PY
