#!/usr/bin/env bash
# vectorbt 1.0.0 installs with plotly 7.1.0 and then cannot be imported.
#
# Guess before running: what pip resolves for a library imports.
# Seen: ValueError: Invalid property ... 'scattermapbox', from a theme that is registered at import; its
# requirements set no upper bound. plotly below 6 works.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check vectorbt==1.0.0 plotly==7.1.0
"$dir/venv/bin/python" -W ignore - <<'PY'
import importlib.metadata as metadata
print([r for r in metadata.requires("vectorbt") if r.startswith("plotly")])
try:
    import vectorbt
except ValueError as error:
    print(str(error).splitlines()[0])
    assert "scattermapbox" in str(error)
else:
    raise SystemExit("vectorbt imports beside this plotly now")
PY
