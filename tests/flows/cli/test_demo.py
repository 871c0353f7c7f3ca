"""``fstore demo``: the main job on real bars, as a new user starts it, and once more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from feature_repo.stores.redis.embedded import stop_server
from flows.settings import Settings


@pytest.fixture
def home(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with its own embedded server, as by default."""
    monkeypatch.delenv("FSTORE_REDIS_URL")
    yield settings.home
    stop_server(settings.home)


def rows(out: str) -> list[list[str]]:
    """The words of each line about a symbol and timeframe."""
    return [words for line in out.splitlines() if (words := line.split())[1:2] in (["1h"], ["4h"], ["1d"])]


def test_the_demo_and_then_nothing_new(home: Path, fstore: Callable[..., Any], prefect_server: str) -> None:
    first = fstore("demo")
    assert (first.code, first.err) == (0, "")
    assert "Nothing new" not in first.out
    read = {(symbol, tf): words for symbol, tf, *words in rows(first.out)[:2]}
    assert read["EUR/USD", "1h"][3:5] == ["5,000", "5,000"]
    computed = {(symbol, tf): words for symbol, tf, *words in rows(first.out) if "yes" in words}
    assert [*computed] == [("EUR/USD", "1h"), ("EUR/USD", "4h"), ("EUR/USD", "1d"), ("GOOG", "1d")]
    assert "bar closed (UTC)" in first.out
    assert "Try next" in first.out
    stop_server(home)  # as it ends with a process of its own

    second = fstore("demo")
    assert second.code == 0
    assert "Nothing new: every bar and every value was already stored" in second.out
    assert not [words for words in rows(second.out) if "yes" in words]
    lookup = first.out.partition("Newest features")[2].partition("Done in")[0]
    assert lookup == second.out.partition("Newest features")[2].partition("Done in")[0]

    status = fstore("status", "--json")
    assert [(row["symbol"], row["timeframe"]) for row in status.json["views"]] == [*computed]
    assert all(row["online"] == row["offline"] for row in status.json["views"])
    run_again = fstore("materialize", "--symbol", "GOOG", "--timeframe", "1d", "--json")
    assert (run_again.code, [o["stored"] for o in run_again.json]) == (0, [0])


def test_a_missing_package_is_named_with_its_remedy(
    home: Path, fstore: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.sources import demo

    monkeypatch.setattr(demo, "_PACKAGE", "no_such_package")
    ended = fstore("demo")
    assert ended.code == 2
    assert ended.err.strip().endswith('Install the extra "demo": pip install "fstore[demo]".')
