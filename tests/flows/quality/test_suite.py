"""How great-expectations is run: quietly, completely, on the right batch, and without keeping it."""

import gc
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from flows.quality.rules import Rule, Within
from flows.quality.suite import evaluate, gx

Batch = gx.datasource.fluent.interfaces.Batch

RULES = tuple(
    Rule(name=f"{name}_out_of_bounds", description="", columns=(name,), demand=Within(low=0.0, high=1.0))
    for name in ("a", "b")
)


@pytest.fixture
def validations(monkeypatch):
    """Results of great-expectations, as they were returned."""
    results = []
    validate = Batch.validate

    def spy(self, *args, **options):
        results.append(validate(self, *args, **options))
        return results[-1]

    monkeypatch.setattr(Batch, "validate", spy)
    return results


def test_no_rules_are_no_success():
    assert not evaluate((), pd.DataFrame({"a": [0.5]})).success


def test_an_expectation_that_is_dropped_is_no_success(monkeypatch):
    table = pd.DataFrame({"a": [0.5], "b": [0.5]})
    validate = Batch.validate

    def forgetful(self, suite, **options):
        result = validate(self, suite, **options)
        result.results.pop()
        return result

    assert evaluate(RULES, table).success
    monkeypatch.setattr(Batch, "validate", forgetful)
    assert not evaluate(RULES, table).success


def test_an_expectation_that_cannot_be_evaluated_is_no_success():
    evaluation = evaluate(RULES, pd.DataFrame({"a": [0.5]}))
    assert not evaluation.success
    assert evaluation.failed == ("expect_columns_to_keep (bounds)",)


def test_results_hold_no_rows(make_bars, check, validations):
    check(make_bars(1000).assign(close=np.nan))
    assert len(validations) == 1
    assert all(result.result == {} for result in validations[0].results)


def test_a_batch_is_released():
    table = pd.DataFrame({"a": [0.5], "b": [0.5]})
    alive = weakref.ref(table)
    evaluate(RULES, table)
    del table
    gc.collect()
    assert alive() is None


def test_each_thread_gets_the_verdict_on_its_own_batch():
    good = pd.DataFrame({"a": np.full(500, 0.5), "b": 0.5})
    bad = good.assign(b=2.0)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            successes = list(pool.map(lambda i: evaluate(RULES, bad if i % 2 else good).success, range(100)))
    finally:
        sys.setswitchinterval(interval)
    assert successes == [True, False] * 50


QUIET = """
import os, socket, sys, warnings

def refuse(*_, **__):
    raise AssertionError("the network was tried")

socket.socket.connect = socket.getaddrinfo = refuse
from flows.quality import check_bars
assert "great_expectations" not in sys.modules, "importing the gate imports great-expectations"

from datetime import UTC, datetime
import numpy as np, pandas as pd
from feature_repo.catalog import symbol, timeframe
times = pd.date_range("2024-01-01", periods=5, freq="min", tz="UTC").as_unit("us")
bars = pd.DataFrame({"open_time": times} | dict.fromkeys(("open", "high", "low", "close", "volume"), 1.1))
now, on_grid = datetime(2024, 3, 1, tzinfo=UTC), np.ones(5, dtype=bool)
assert check_bars(bars, symbol=symbol("EUR/USD"), timeframe=timeframe("1m"), now=now, on_grid=on_grid).passed
assert not os.listdir() + os.listdir(os.environ["TMPDIR"]), "files were written"
import logging
assert logging._warnings_showwarning is None, "warnings are sent to a logger"
warnings.warn("still shown")
"""


def test_it_is_quiet(tmp_path):
    """No network, no progress bars, no files, no cloud; and the process' warnings are still shown."""
    work, home = tmp_path / "work", tmp_path / "home"
    work.mkdir(), home.mkdir()
    cloud = {"GX_CLOUD_ACCESS_TOKEN": "token", "GX_CLOUD_ORGANIZATION_ID": "4f2d6a3e-0000-4000-8000-000000000000"}
    environ = {"HOME": str(home), "TMPDIR": str(home), "PATH": "", **cloud}
    process = subprocess.run(
        [sys.executable, "-c", QUIET], cwd=work, env=environ, capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout == ""
    assert process.stderr.splitlines() == ["<string>:21: UserWarning: still shown"]
    assert list(home.iterdir()) == []
