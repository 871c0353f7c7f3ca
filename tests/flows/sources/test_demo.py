"""The bars of the demo."""

import importlib.util
import subprocess
import sys

import pytest

from feature_repo.catalog import symbol, timeframe
from flows.sources import DEMO, MissingExtraError, SourceError, bundled, read_bars

installed = pytest.mark.skipif(
    importlib.util.find_spec("backtesting") is None, reason="the demo extra is not installed"
)


@installed
@pytest.mark.parametrize(("name", "tf", "file"), DEMO)
def test_every_bundled_file_gives_clean_bars(name, tf, file):
    source = read_bars(bundled(file), symbol=symbol(name), timeframe=timeframe(tf))
    rows = {"EURUSD.csv": 5000, "GOOG.csv": 2148}[file]
    assert (len(source.frame), len(source.rejected), source.notes.out_of_order, source.notes.duplicates) == (
        rows,
        0,
        0,
        0,
    )
    assert source.frame["open_time"].is_unique
    inside = source.frame["close"].between(symbol(name).price_min, symbol(name).price_max)
    assert inside.all()


@installed
def test_finding_the_bars_does_not_import_their_package():
    code = "import sys; from flows.sources import bundled; bundled('GOOG.csv'); print('backtesting' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r'not installed\. Install the extra "demo"'):
        bundled("EURUSD.csv")


def test_only_the_files_of_the_demo_are_bundled():
    with pytest.raises(SourceError, match=r"no bundled file '\.\./__init__\.py'\. There are EURUSD\.csv, GOOG\.csv"):
        bundled("../__init__.py")
