"""The dashboard over 100 clients with 1,000 calls per second each and 30 days of history, printed as a table."""

from __future__ import annotations

import random
import resource
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from feature_repo.repo import load_repo
from feature_repo.stores.redis.connection import connect
from feature_repo.stores.redis.embedded import ensure_server, stop_server
from fsclient.dashboard import Access, Sources, create_app, warm_up
from fsclient.metrics.history import merge, pack, unpack
from fsclient.metrics.store import key
from tests.fsclient.dashboard.conftest import serving
from tests.fsclient.dashboard.traffic import calls_in, fill, processes, records, rows_of, scaled, times_back

pytestmark = pytest.mark.benchmark

CLIENTS, SYMBOLS_EACH, KINDS, CALLS = 100, 10, 12, 1_500
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sources, Any]]:
    """A day of minutes and thirty days of hours of all clients, with the sums that their publishers make."""
    home: Path = tmp_path_factory.mktemp("home")
    url = ensure_server(home)
    repo = load_repo(variables={"FSTORE_HOME": str(home), "FSTORE_REDIS_URL": url})
    now, rng = time.time(), random.Random(1)
    names = [f"S{n:03}/USD" for n in range(40)]
    owners = processes(CLIENTS, now, dead=10)
    kinds = [
        [
            pack(scaled(rows_of(records(rng, CALLS, rng.sample(names, SYMBOLS_EACH), outage=n == 3)), 40))
            for _ in range(8)
        ]
        for n in range(KINDS)
    ]
    minutes = [[kind[n % 8] for n in range(CLIENTS)] for kind in kinds]
    hours = [[pack(scaled(unpack(packed), 60)) for packed in kind[:8]] for kind in kinds[:4]]
    hours = [[kind[n % 8] for n in range(CLIENTS)] for kind in hours]
    with connect(url, timeout_s=60) as client:
        before = client.info("memory")["used_memory"]
        fill(client, repo.project, owners, times_back("m", now, 1440), minutes)
        after_minutes = client.info("memory")["used_memory"]
        fill(client, repo.project, owners, times_back("h", now, 720), hours)
        used = client.info("memory")["used_memory"]
        minute_key = key(repo.project, times_back("m", now, 2)[0])
        size = statistics.mean(len(v) for k, v in client.hgetall(minute_key).items() if len(k) > 1)
        print(f"\n{'a minute of one process':44}{size:>12,.0f} bytes, {calls_in(minutes[0][0]):,} calls")
        print(f"{'Redis: a process and day, by the minute':44}{(after_minutes - before) / CLIENTS / 1e6:>12.2f} MB")
        print(f"{'Redis: a process and 30 days, by the hour':44}{(used - after_minutes) / CLIENTS / 1e6:>12.2f} MB")
        print(f"{'Redis: all of 100 processes':44}{(used - before) / 1e6:>12.0f} MB")
    yield Sources.of(repo, access=Access.to("127.0.0.1", None)), url
    stop_server(home)


def measured(measure: str, run: Callable[[], Any], times: int = 15) -> float:
    times_ms = []
    for _ in range(times):
        started = time.perf_counter()
        run()
        times_ms.append(1e3 * (time.perf_counter() - started))
    print(f"{measure:44}{statistics.median(times_ms):>12.1f} ms   worst {max(times_ms):.0f} ms")
    return statistics.median(times_ms)


def test_reading_merging_and_answering(history: tuple[Sources, Any]) -> None:
    sources, url = history
    from fsclient.dashboard.pages import client, overview

    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    measured("first reading, 2,160 times of 100 clients", sources.traffic.refresh, times=1)
    print(
        f"{'dashboard: process grew by':44}{(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss) / 1e3:>12.0f} MB"
    )

    def again() -> None:
        sources.traffic._read_at = float("-inf")
        sources.traffic.refresh()

    measured("reading what is new", again)
    for period in ("1h", "24h", "30d"):
        measured(f"client page, {period}", lambda period=period: client._content(sources, {"period": period}, "light"))
    question = {"period": "24h", "symbol": "S001/USD"}
    measured("client page, 24h, one symbol", lambda: client._content(sources, question, "light"))
    owner = {"period": "24h", "process": sources.traffic.processes[0].id}
    measured("client page, 24h, one process, first", lambda: client._content(sources, owner, "light"), times=1)
    measured("client page, 24h, one process, again", lambda: client._content(sources, owner, "light"))
    measured("overview", lambda: overview._content(sources, "light"))
    with connect(url) as redis:
        fields = redis.hgetall(key(sources.repo.project, times_back("m", time.time(), 3)[0]))
    packed = [value for name, value in fields.items() if len(name) > 1]
    measured("sum of 100 clients' minute (a publisher)", lambda: merge(packed))


def test_the_answers_over_http(history: tuple[Sources, Any]) -> None:
    sources, _ = history
    app = create_app(sources)
    warm_up(sources).join()
    client = app.server.test_client()
    dependencies = orjson.loads(client.get("/_dash-dependencies").data)
    update = next(d for d in dependencies if any(i["id"] == "client-poll" for i in d["inputs"]))
    outputs = [dict(zip(("id", "property"), output.rsplit(".", 1), strict=True)) for output in
               update["output"].strip(".").split("...")]  # fmt: skip
    values = {"client-poll": 1, "client-period": "24h"}
    for period in ("1h", "24h", "30d"):
        values["client-period"] = period
        body = {
            "output": update["output"],
            "outputs": outputs,
            "inputs": [{**i, "value": values.get(i["id"])} for i in update["inputs"]],
            "state": [{**s, "value": {"theme": "light", "path": "/client", "search": ""}} for s in update["state"]],
            "changedPropIds": ["client-poll.n_intervals"],
        }

        def ask(body: dict[str, Any] = body) -> None:
            answer = client.post("/_dash-update-component", json=body)
            assert answer.status_code == 200
            ask.size = len(answer.data)  # type: ignore[attr-defined]

        measured(f"update of the client page, {period}", ask)
        print(f"{'':44}{ask.size / 1e3:>12.0f} kB")  # type: ignore[attr-defined]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_first_paint(history: tuple[Sources, Any]) -> None:
    from playwright.sync_api import sync_playwright

    from tests.fsclient.dashboard.test_browser import DRAWN, FLAGS

    sources, _ = history
    warm_up(sources).join()
    with serving(sources) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for path in ("/", "/client?period=24h", "/client?period=30d"):
            paints, contents, charts, updates = [], [], [], []
            for _ in range(5):
                context = browser.new_context(viewport={"width": 1440, "height": 900})
                page = context.new_page()
                page.set_default_timeout(120_000)
                page.add_init_script(_MARK)
                page.goto(address + path)
                page.wait_for_function(DRAWN + " && window.charts")
                paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
                contents.append(page.evaluate("window.figures"))
                charts.append(page.evaluate("window.charts"))
                if "client" in path:
                    page.wait_for_timeout(200)
                    updates.append(page.evaluate(_UPDATE))
                context.close()
            for measure, times_ms in (
                ("first paint", paints),
                ("figures", contents),
                ("charts", charts),
                ("update", updates),
            ):
                if times_ms:
                    print(f"{f'browser {path}: {measure}':44}{statistics.median(times_ms):>12.0f} ms")
        browser.close()


# When the figures, and then every chart, had been painted: the second frame after they entered the page.
_MARK = """
const painted = name => requestAnimationFrame(() => requestAnimationFrame(() => { window[name] = performance.now(); }));
const seen = {};
new MutationObserver(() => {
  if (!seen.figures && document.querySelector('.tile .number')) { seen.figures = 1; painted('figures'); }
  const graphs = [...document.querySelectorAll('.dash-graph')];
  if (!seen.charts && graphs.length && graphs.every(graph => graph.querySelector('.main-svg'))) {
    seen.charts = 1; painted('charts');
  }
}).observe(document, {childList: true, subtree: true});
"""
# From a click to the frame in which every chart in sight has been redrawn.
_UPDATE = """() => new Promise(done => {
  const inSight = chart => chart.getBoundingClientRect().top < innerHeight;
  const awaited = new Set([...document.querySelectorAll('#page .js-plotly-plot')].filter(inSight));
  const begun = performance.now();
  awaited.forEach(chart => chart.once('plotly_afterplot', () => {
    awaited.delete(chart);
    if (!awaited.size) { requestAnimationFrame(() => setTimeout(() => done(performance.now() - begun))); }
  }));
  document.querySelectorAll('#client-period label')[1].click();
})"""
