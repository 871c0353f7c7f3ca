"""What a strategy loads with ``import fsclient``, and with its first client and lookup: never what it does not use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_NEVER = {"prefect", "great_expectations", "dash", "plotly", "fastapi", "starlette", "uvicorn", "sqlalchemy", "feast"}
_LATER = {"redis", "hiredis", "deltalake", "httpx", "exchange_calendars", "duckdb", "yaml", "opentelemetry"}
"""What the first client or the first question to a store loads."""
_CLIENT = """
import asyncio, fsclient

async def main():
    async with fsclient.FeatureStoreClient(publish_metrics=False, on_unavailable="fail") as client:
        await client.get_latest("EUR/USD", ["close", "rsi_14"])

asyncio.run(main())
"""


def loaded_by(program: str, home: Path) -> set[str]:
    """Top-level packages in a new process after ``program``."""
    report = "\nimport json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    environment = {"FSTORE_HOME": str(home), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", program + report], env=environment, capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_package_loads_no_store_no_engine_and_no_server(tmp_path: Path) -> None:
    loaded = loaded_by("from fsclient import *", tmp_path)
    assert "fsclient" in loaded
    assert loaded & (_NEVER | _LATER) == set()


def test_a_client_and_its_lookup_load_no_engine_and_no_server(tmp_path: Path) -> None:
    loaded = loaded_by(_CLIENT, tmp_path)
    assert "redis" in loaded
    assert loaded & _NEVER == set()
