"""What a strategy loads with ``import fsclient``, and with its first client and lookup: never what it does not use."""

from __future__ import annotations

import ast
import inspect
import json
import pickle
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import fsclient

_NEVER = {"prefect", "great_expectations", "dash", "plotly", "fastapi", "starlette", "uvicorn", "sqlalchemy", "feast"}
_LATER = {"redis", "hiredis", "deltalake", "httpx", "exchange_calendars", "duckdb", "yaml", "opentelemetry"}
"""What the first client or the first question to a store loads."""
_HEAVY = {"pandas", "numpy", "pyarrow"}
_LIGHT = (
    "import fsclient",
    "from fsclient import FeatureStoreUnavailable, Provenance, StaleDataError, provenance",
    "from fsclient import feature_store_metrics",
)
_THREADS = """
import sys, threading
import fsclient

sys.setswitchinterval(1e-5)
start, classes = threading.Barrier(16), []

def first():
    start.wait()
    classes.append((fsclient.FeatureStoreClient, fsclient.FeatureCache, fsclient.feature_store_metrics))

threads = [threading.Thread(target=first) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(classes) == 16 and len(set(classes)) == 1, classes
"""
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


@pytest.mark.parametrize("program", _LIGHT)
def test_an_import_waits_for_no_data_frames(program: str, tmp_path: Path) -> None:
    loaded = loaded_by(program, tmp_path)
    assert "fsclient" in loaded
    assert loaded & (_HEAVY | _NEVER | _LATER) == set()


@pytest.mark.parametrize("first", ["fsclient.provenance", "fsclient.client", "fsclient.sync"])
def test_provenance_is_the_function_whatever_was_imported_before(first: str, tmp_path: Path) -> None:
    """Its module has the same name, and a module that is loaded becomes an attribute of its package."""
    program = f"import {first}\nimport fsclient\nfrom fsclient import provenance\n"
    loaded_by(program + "assert provenance is fsclient.provenance and callable(provenance), provenance", tmp_path)


def test_threads_may_use_a_name_for_the_first_time_at_once(tmp_path: Path) -> None:
    loaded_by(_THREADS, tmp_path)


def test_every_name_is_there_listed_and_of_the_module_that_type_checkers_see() -> None:
    source = ast.parse(inspect.getsource(fsclient))
    imported = {
        alias.name: node.module
        for node in ast.walk(source)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("fsclient.")
        for alias in node.names
    }
    assert imported.keys() == set(fsclient.__all__)
    assert set(fsclient.__all__) <= set(dir(fsclient))
    for name, module in imported.items():
        assert getattr(fsclient, name) is getattr(sys.modules[module], name), name
    assert vars(fsclient)["_MODULES"].items() <= imported.items()
    everything: dict[str, object] = {}
    exec("from fsclient import *", everything)  # noqa: S102  # as a notebook does
    assert set(fsclient.__all__) <= everything.keys()
    with pytest.raises(AttributeError, match="module 'fsclient' has no attribute 'FeatureStoreCleint'"):
        _ = fsclient.FeatureStoreCleint  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        exec("from fsclient import FeatureStoreCleint", {})  # noqa: S102


def test_help_shows_the_names_and_pickle_finds_them() -> None:
    shown = pydoc.plain(pydoc.render_doc(fsclient))
    for name in ("FeatureStoreClient", "SyncFeatureStoreClient", "FeatureCache", "StaleDataError", "provenance"):
        assert name in shown
    for name in ("FeatureStoreClient", "CallRecord", "feature", "provenance"):
        assert pickle.loads(pickle.dumps(getattr(fsclient, name))) is getattr(fsclient, name)  # noqa: S301
    assert isinstance(pickle.loads(pickle.dumps(fsclient.StaleDataError("old"))), fsclient.StaleDataError)  # noqa: S301
