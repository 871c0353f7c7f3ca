"""Every page in every state that it can be in: whole, without a ledger, empty, with one symbol and with 500."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio
import pytest

from feature_repo import catalog
from feature_repo.repo import load_repo
from feature_repo.stores.redis.codec import encode_timestamp, entity_key, timestamp_key
from feature_repo.stores.redis.connection import connect
from fsclient.dashboard import Access, OperationsError, Sources
from fsclient.dashboard.app import PAGES
from fsclient.dashboard.pages import features, overview
from fsclient.dashboard.theme import template
from tests.fsclient.dashboard.conftest import Stack

EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.TITLE)


def components(tree: Any) -> list[Any]:
    """A component and all below it."""
    if isinstance(tree, list | tuple):
        return [component for child in tree for component in components(child)]
    below = getattr(tree, "children", None)
    return [tree, *(components(below) if below is not None else [])]


def text(tree: Any) -> str:
    """All words of a component; of a table those that the browser will make."""
    parts = components(tree)
    tables = [getattr(part, "data-table") for part in parts if hasattr(part, "data-table")]
    return " ".join([*(str(part) for part in parts if isinstance(part, str | int | float)), *tables])


def figures(tree: Any) -> dict[str, Any]:
    return {part.id: part.figure for part in components(tree) if type(part).__name__ == "Graph"}


def show(page: ModuleType, sources: Sources, query: Mapping[str, str] | None = None, theme: str = "light") -> Any:
    return page.layout(sources, dict(query or {}), theme)


def bare(home: Path, url: str | None = None) -> Sources:
    """A machine with no ledger."""
    redis = url or f"unix://{home}/nobody.sock"
    repo = load_repo(variables={"FSTORE_HOME": str(home), "FSTORE_REDIS_URL": redis})
    return Sources.of(repo, access=Access.to("127.0.0.1", None))


@EVERY_PAGE
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_chart_is_one_that_plotly_takes(stack: Stack, page: ModuleType, theme: str) -> None:
    shown = show(page, stack.sources, theme=theme)
    for figure in figures(shown).values():
        go.Figure(figure)
    assert page.TITLE in text(shown)


@EVERY_PAGE
def test_an_empty_machine_says_what_to_do(tmp_path: Path, page: ModuleType) -> None:
    shown = show(page, bare(tmp_path))
    words = text(shown)
    assert "fstore " in words
    for figure in figures(shown).values():
        go.Figure(figure)


@pytest.mark.parametrize("title", ["Quality", "Pipelines", "Alerts"])
def test_a_bare_client_machine_says_that_it_has_no_ledger(stack: Stack, title: str) -> None:
    page = next(page for page in PAGES if title == page.TITLE)
    words = text(show(page, replace(stack.sources, operations=None)))
    assert "no ledger" in words
    assert "FSTORE_LEDGER_URL" in words


class Away:
    def __getattr__(self, name: str) -> Any:
        def fail(*_: Any, **__: Any) -> Any:
            raise OperationsError("the ledger at db:5432/fstore cannot be used: set FSTORE_LEDGER_URL")

        return fail


@EVERY_PAGE
def test_a_ledger_that_does_not_answer_is_reported_and_the_rest_is_shown(stack: Stack, page: ModuleType) -> None:
    words = text(show(page, replace(stack.sources, operations=Away())))
    assert page.TITLE in words
    if page.TITLE in ("Quality", "Pipelines", "Alerts"):
        assert "db:5432/fstore" in words


def test_the_overview_shows_what_needs_attention(stack: Stack) -> None:
    words = text(show(overview, stack.sources))
    assert "Needs attention" in words
    assert "1 alert open" in words
    assert "freshness" in words
    assert "12.5 % of the rows are bad" in words


def test_one_symbol_is_a_table_and_500_are_a_map(tmp_path: Path, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    eur = catalog.SYMBOLS["EUR/USD"]
    symbols = {f"S{n:03}/USD": replace(eur, name=f"S{n:03}/USD") for n in range(500)}
    monkeypatch.setattr(catalog, "SYMBOLS", MappingProxyType(symbols))
    monkeypatch.setattr("feature_repo.catalog.symbols.SYMBOLS", MappingProxyType(symbols))
    sources = bare(tmp_path, stack.url)
    now_us = int(time.time() * 1e6) // 3_600_000_000 * 3_600_000_000
    with connect(stack.url) as client:
        keys = [entity_key(name, sources.repo.project) for name in symbols]
        try:
            publish_stamps(client, keys[:1], now_us)
            assert not figures(show(overview, sources)).keys() & {"overview-map"}
            publish_stamps(client, keys, now_us - 40 * 86_400_000_000)
            sources = bare(tmp_path, stack.url)
            started = time.perf_counter()
            shown = show(overview, sources)
            took_s = time.perf_counter() - started
        finally:
            client.delete(*keys)
    cells = figures(shown)["overview-map"]["data"][0]["z"]
    assert cells.shape == (len(catalog.TIMEFRAMES), 500)
    assert "3,500 views stale" in text(shown)
    assert took_s < 5
    assert len(components(shown)) < 1500


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda client, key, _: client.set(key, "somebody else's"), "its key in the online store can't be read"),
        (lambda client, key, stamp: client.hset(key, stamp, b"\xffgarbled"), "timestamp"),
    ],
    ids=["a foreign key", "a garbled timestamp"],
)
def test_one_bad_symbol_is_named_and_breaks_no_page(
    tmp_path: Path, stack: Stack, damage: Callable[[Any, bytes, bytes], Any], why: str
) -> None:
    sources = bare(tmp_path, stack.url)
    key = entity_key("DOGE/USD", sources.repo.project)
    stamp = timestamp_key(catalog.view("ohlcv", "1h").name)
    with connect(stack.url) as client:
        try:
            damage(client, key, stamp)
            texts = {page.TITLE: text(show(page, sources, {"symbol": "DOGE/USD", "timeframe": "1h"})) for page in PAGES}
        finally:
            client.delete(key)
    assert "1 view unreadable" in texts["Overview"]
    assert "DOGE/USD" in texts["Overview"]
    assert why in texts["Overview"]
    assert "EUR/USD" in texts["Overview"]


def publish_stamps(client: Any, keys: list[bytes], event_us: int) -> None:
    stamps = {timestamp_key(catalog.view("ohlcv", tf).name): encode_timestamp(event_us) for tf in catalog.TIMEFRAMES}
    pipe = client.pipeline(transaction=False)
    for key in keys:
        pipe.hset(key, mapping=stamps)
    pipe.execute()


@pytest.mark.parametrize(
    "query",
    [
        {"symbol": "../../etc", "timeframe": "9x", "fields": "nope,rsi_14", "bars": "-1", "end": "yesterday"},
        {"symbol": "<script>", "bars": "1e9"},
    ],
)
def test_an_address_that_makes_no_sense_shows_the_page_all_the_same(stack: Stack, query: dict[str, str]) -> None:
    for page in PAGES:
        assert page.TITLE in text(show(page, stack.sources, query))


def test_a_chart_has_at_most_the_promised_points(stack: Stack) -> None:
    shown = show(features, stack.sources, {"symbol": "EUR/USD", "timeframe": "1h", "bars": "1500"})
    candles = figures(shown)["features-chart"]["data"][0]
    assert len(candles["x"]) <= 1500


def test_the_templates_are_plotlys_own_in_our_colours() -> None:
    for name, base in (("light", "plotly_white"), ("dark", "plotly_dark")):
        go.layout.Template(template(name))  # type: ignore[arg-type]
        ours = template(name)["layout"]["colorscale"]  # type: ignore[arg-type]
        assert ours == pio.templates[base].to_plotly_json()["layout"]["colorscale"]
