"""The dashboard in a browser: it draws what was counted and stored, filters work, nothing leaves the machine."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from feature_repo.stores.redis.embedded import ensure_server, stop_server
from fsclient.dashboard import Access, Sources
from fsclient.dashboard.app import PAGES
from fsclient.dashboard.pages.client import PERIODS
from fsclient.dashboard.traffic.selection import Filter, percentiles
from tests.fsclient.dashboard.conftest import GAP_BACK, KEY, REVISED_BACK, Stack, read_anew, serving

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.timeout(300),
]
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
SIZES = {1440: 900, 390: 844}
DRAWN = "[...document.querySelectorAll('.dash-graph')].every(graph => graph.querySelector('.main-svg'))"
DATA = "id => document.querySelector('#' + id + ' .js-plotly-plot').data.map(t => ({name: t.name, type: t.type, y: " \
       "t.y ? Array.from(t.y._inputArray || t.y) : null, n: (t.x || t.y || []).length, close: t.close ? " \
       "Array.from(t.close) : null}))"  # fmt: skip


@dataclass(slots=True)
class BrowserLog:
    """The problems that a page reported, and its requests."""

    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def context() -> Iterator[Any]:
    """A browser that has compiled the charts' library once: it takes a second."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser.new_context()
        browser.close()


@pytest.fixture
def browser_log() -> BrowserLog:
    return BrowserLog()


@pytest.fixture
def page(context: Any, browser_log: BrowserLog) -> Iterator[Any]:
    """A page whose every complaint and request is noted, and fails the test; it knows nothing of those before."""
    opened = context.new_page()
    opened.set_viewport_size({"width": 1440, "height": 900})
    opened.set_default_timeout(60_000)
    opened.on("console", lambda m: browser_log.problems.append(m.text) if m.type == "error" else None)
    opened.on("pageerror", lambda error: browser_log.problems.append(str(error)))
    opened.on("request", lambda request: browser_log.requests.append(request.url))
    yield opened
    opened.evaluate("localStorage.clear()")
    opened.close()
    context.clear_cookies()
    assert browser_log.problems == []
    assert [url for url in browser_log.requests if urlsplit(url).hostname not in ("127.0.0.1", None)] == []


def go(page: Any, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("h1")
    page.wait_for_function(DRAWN)


def drawn(page: Any, chart: str) -> dict[str, Any]:
    page.wait_for_function(f"document.querySelector('#{chart} .js-plotly-plot')?.data")
    return {trace["name"]: trace for trace in page.evaluate(DATA, chart)}


def total(trace: dict[str, Any]) -> float:
    return sum(y for y in trace["y"] if y is not None)


# ------------------------------------------------------------------------------------------------ all pages


@pytest.mark.parametrize("shown", PAGES, ids=lambda page: page.TITLE)
@pytest.mark.parametrize("width", SIZES)
def test_every_page_fits_its_screen_in_both_themes(
    page: Any, served: str, shown: Any, width: int, tmp_path: Path
) -> None:
    page.set_viewport_size({"width": width, "height": SIZES[width]})
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        go(page, served + shown.PATH)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.get_attribute("html", "data-theme") == scheme
        assert page.locator(".side nav a.here").inner_text() == shown.TITLE
        page.screenshot(path=tmp_path / f"{shown.TITLE}-{width}-{scheme}.png", full_page=True)


def test_the_toggle_changes_the_theme_of_charts_too_and_is_kept(page: Any, served: str) -> None:
    go(page, served + "/")
    colour = "document.querySelector('#overview-calls .js-plotly-plot')?.layout.template.layout.font.color"
    light = page.evaluate(colour)
    page.click("#theme")
    page.wait_for_function(f"({colour} ?? {light!r}) !== {light!r}")
    page.reload()
    page.wait_for_function(DRAWN)
    assert page.get_attribute("html", "data-theme") == "dark"


def test_the_menu_leads_to_every_page_without_loading_anew(page: Any, served: str, browser_log: BrowserLog) -> None:
    go(page, served + "/")
    loaded = len([url for url in browser_log.requests if url.endswith("/_dash-layout")])
    for shown in PAGES[1:]:
        page.click(f".side nav a:text-is('{shown.TITLE}')")
        page.wait_for_selector(f"h1:text-is('{shown.TITLE}')")
    assert len([url for url in browser_log.requests if url.endswith("/_dash-layout")]) == loaded


# --------------------------------------------------------------------------------------------------- client


@pytest.mark.parametrize(
    "chosen",
    [Filter(), Filter(method="get_latest"), Filter(symbol="EUR/USD"), Filter(method="get_ohlcv", symbol="GBP/USD")],
)
def test_each_chart_has_the_points_that_the_metrics_say(page: Any, stack: Stack, served: str, chosen: Filter) -> None:
    query = "&".join(
        f"{name}={value.replace('/', '%2F')}" for name in ("method", "symbol") if (value := getattr(chosen, name))
    )
    read_anew(stack)
    go(page, f"{served}/client?period=6h&{query}")
    selection = stack.sources.traffic.select("m", PERIODS["6h"][2], chosen)
    calls = drawn(page, "client-calls")
    names = {"": "no answer", "last_good": "last good"}
    assert {names.get(s, s): int(n[:-1].sum()) for s, n in selection.by_source.items()} == {
        name: round(sum(trace["y"][:359]) * 60) for name, trace in calls.items()
    }
    assert all(len(trace["y"]) in (359, 360) for trace in calls.values())
    latency = drawn(page, "client-latency")
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        expected = percentiles(selection.histogram, share) * 1e3
        points = np.array([np.nan if y is None else y for y in latency[name]["y"]])
        assert np.isfinite(points).sum() == np.isfinite(expected).sum() > 0
        np.testing.assert_allclose(
            np.sort(points[np.isfinite(points)]), np.sort(expected[np.isfinite(expected)]), rtol=1e-4
        )
    errors = drawn(page, "client-errors")
    assert {kind: int(total(trace)) for kind, trace in errors.items()} == {
        kind: int(n.sum()) for kind, n in selection.by_error.items()
    }
    fallbacks = drawn(page, "client-fallbacks")
    assert int(total(fallbacks["last good"])) == int(selection.fallbacks["last_good"].sum())


def test_filters_change_the_charts_and_the_address(page: Any, stack: Stack, served: str) -> None:
    go(page, served + "/client")
    before = page.locator("#client-tiles .number").first.inner_text()
    page.locator("#client-period label").nth(2).click()
    page.wait_for_function("window.location.search.includes('period=24h')")
    page.wait_for_function("document.querySelector('#client-calls .js-plotly-plot').data[0].dx === 300000")
    page.click("#client-symbol")
    page.click(".dash-dropdown-content >> text=GBP/USD")
    page.wait_for_function("window.location.search.includes('symbol=GBP%2FUSD')")
    page.wait_for_function(f"document.querySelector('#client-tiles .number').innerText !== {before!r}")
    assert parse_qs(urlsplit(page.url).query) == {"period": ["24h"], "symbol": ["GBP/USD"]}
    after = page.locator("#client-tiles .number").first.inner_text()
    page.reload()
    page.wait_for_function(DRAWN)
    assert page.locator("#client-tiles .number").first.inner_text() == after


# -------------------------------------------------------------------------------------------------- features


def test_the_chart_shows_bars_gaps_and_revisions_and_explains_a_point(page: Any, stack: Stack, served: str) -> None:
    go(page, f"{served}/features?symbol=BTC%2FUSD&timeframe=1h&fields=&bars=150")
    candles = drawn(page, "features-chart")
    chart = stack.sources.market.chart("BTC/USD", "1h", bars=150)
    assert chart is not None
    np.testing.assert_allclose(candles["BTC/USD"]["close"], chart.bars["close"])
    assert candles["revised"]["n"] == int((chart.revisions > 0).sum()) == 1
    shapes = page.evaluate("document.querySelector('#features-chart .js-plotly-plot').layout.shapes.map(s => s.name)")
    assert shapes.count("missing") == len(chart.gaps) == 1
    revised = stack.newest - timedelta(hours=REVISED_BACK)
    click(page, int(revised.timestamp() * 1e6))
    explanation = explained(page)
    assert f"{revised:%Y-%m-%d %H:%M}" in explanation
    assert len(re.findall(r"\d\d:\d\d:\d\d ", explanation)) == 2


def test_an_indicators_point_is_explained_with_what_is_computed_now(page: Any, stack: Stack, served: str) -> None:
    go(page, f"{served}/features?symbol=EUR%2FUSD&timeframe=1h&fields=sma_50%2Crsi_14&bars=150")
    assert set(drawn(page, "features-chart")) >= {"EUR/USD", "sma_50", "rsi_14"}
    click(page, int(stack.sources.market.opens("EUR/USD", "1h")[-1]))
    explanation = explained(page)
    assert "rsi_14 (window=14)" in explanation
    assert "all agree" in explanation
    assert "differ" not in explanation
    assert "online" in explanation


def click(page: Any, opens_us: int) -> None:
    """Clicks the candle of a bar."""
    page.evaluate(
        """us => { const gd = document.querySelector('#features-chart .js-plotly-plot');
        const n = gd.data[0].customdata.indexOf(us);
        gd.emit('plotly_click', {points: [{curveNumber: 0, pointNumber: n, x: gd.data[0].x[n], data: gd.data[0],
          fullData: gd._fullData[0], customdata: us}]}); }""",
        opens_us,
    )


def explained(page: Any) -> str:
    page.wait_for_selector("#features-explain dl")
    return str(page.locator("#features-explain").inner_text())


# --------------------------------------------------------------------------------------------------- quality


def test_a_quarantined_row_is_released_with_the_key_and_only_with_it(page: Any, stack: Stack, served: str) -> None:
    fitting = stack.newest - timedelta(hours=GAP_BACK)
    go(page, served + "/quality")
    page.wait_for_selector("#quality-rows tbody tr")
    assert page.locator("#quality-rows tbody tr").count() == 2
    row = page.locator("#quality-rows tbody tr", has_text=f"{fitting:%Y-%m-%d %H:%M}")
    row.locator("input").check()
    page.fill("#quality-key", "not-the-right-key")
    page.click("#quality-release")
    page.wait_for_selector('#quality-result:has-text("key")')
    assert page.locator("#quality-rows tbody tr").count() == 2
    row.locator("input").check()
    page.fill("#quality-key", KEY)
    page.click("#quality-release")
    page.wait_for_selector("#quality-result:has-text('1 row released')")
    assert page.locator("#quality-rows tbody tr").count() == 1
    assert KEY not in page.content()
    rows = stack.settings.tables().read("bars", timeframe="1h", symbols=["BTC/USD"], start=fitting, end=fitting)
    assert rows["high"].to_pylist()[-1] in (49_990.0, 50_000.0)
    page.locator("#quality-rows tbody tr input").check()
    page.fill("#quality-key", KEY)
    page.click("#quality-discard")
    page.wait_for_selector("#quality-result:has-text('1 row discarded')")
    page.locator("#quality-state label").nth(3).click()
    page.wait_for_selector("#quality-rows tbody tr")
    rows_text = page.locator("#quality-rows").inner_text()
    assert "released" in rows_text
    assert "discarded" in rows_text


def test_runs_link_to_the_engine_and_alerts_are_shown(page: Any, served: str) -> None:
    go(page, served + "/pipelines")
    page.wait_for_selector("#pipelines-runs a")
    link = page.locator("#pipelines-runs a").first.get_attribute("href")
    assert link == "http://127.0.0.1:4200/runs/flow-run/0190-abc"
    assert "stored 957" in page.locator("#pipelines-runs").inner_text()
    go(page, served + "/alerts")
    page.wait_for_selector("#alerts-past td")
    assert "EUR/USD 4h" in page.locator("#alerts-open").inner_text()
    assert "GBP/USD 1h" in page.locator("#alerts-past").inner_text()


# ---------------------------------------------------------------------------------------- outage and access


def test_an_outage_is_shown_and_the_charts_stay(page: Any, stack: Stack) -> None:
    sources = Sources.of(stack.repo, access=Access.to("127.0.0.1", None))
    with serving(sources) as address:
        go(page, address + "/client")
        before = {name: total(trace) for name, trace in drawn(page, "client-calls").items()}
        stop_server(stack.home)
        try:
            page.wait_for_selector("#client-banner:has-text('does not answer')")
            assert {name: total(trace) for name, trace in drawn(page, "client-calls").items()} == pytest.approx(
                before, rel=0.1
            )
            go(page, address + "/")
            assert "the online store does not answer" in page.locator("#overview-state").inner_text()
        finally:
            assert ensure_server(stack.home) == stack.url
        page.wait_for_function("document.querySelector('#overview-banner').innerText === ''")


def test_from_elsewhere_the_key_is_asked_for_first(page: Any, stack: Stack, browser_log: BrowserLog) -> None:
    locked = replace(stack.sources, access=Access(key=KEY, open_to_see=False))
    with serving(locked) as address:
        page.goto(address + "/client?symbol=EUR%2FUSD")
        page.fill("input[name=key]", KEY)
        page.click("button[type=submit]")
        page.wait_for_url(lambda url: urlsplit(url).path == "/client" and "EUR" in url)  # the page that was asked for
        assert drawn(page, "client-calls")
        assert not [url for url in browser_log.requests if KEY in url]
        assert browser_log.problems == []
        with page.expect_console_message(lambda message: "401" in message.text):  # the browser complains of the refusal
            status = page.evaluate("fetch('/_dash-layout', {credentials: 'omit'}).then(r => r.status)")
        assert status == 401
        browser_log.problems.clear()


def test_a_chart_out_of_sight_is_drawn_anew_when_it_comes_near(page: Any, served: str) -> None:
    page.set_viewport_size({"width": 390, "height": 500})
    go(page, served + "/client?period=1h")
    steps = "['calls', 'fallbacks'].map(c => document.querySelector('#client-' + c + ' .js-plotly-plot').layout.xaxis)"
    visible, hidden = page.evaluate(steps)
    page.locator("#client-period label").nth(1).click()
    page.wait_for_function(f"JSON.stringify({steps}[0].range) !== {json.dumps(json.dumps(visible['range']))}")
    page.wait_for_timeout(100)
    assert page.evaluate(steps)[1]["range"] == hidden["range"]
    page.locator("#client-fallbacks").scroll_into_view_if_needed()
    page.wait_for_function(f"JSON.stringify({steps}[1].range) === JSON.stringify({steps}[0].range)")


def test_an_update_takes_little(page: Any, served: str) -> None:
    go(page, served + "/client")
    with page.expect_response(lambda r: "_dash-update-component" in r.url) as answer:
        started = time.perf_counter()
        page.locator("#client-period label").nth(1).click()
    assert answer.value.status == 200
    assert time.perf_counter() - started < 5.0
