"""The figures of a page count everything, however many runs, verdicts and incidents the ledger holds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flows.cli.operations import LedgerOperations
from flows.ledger import Verdict
from flows.settings import Settings
from fsclient.dashboard import Sources
from fsclient.dashboard.pages import overview, pipelines, quality
from fsclient.dashboard.prometheus import exposition
from tests.fsclient.dashboard.test_pages import bare, figures, show, text

VERDICTS, RUNS, ALERTS = 5_100, 1_050, 230


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sources]:
    home: Path = tmp_path_factory.mktemp("totals")
    settings = Settings(home=home, redis_url=f"unix://{home}/nobody.sock")
    ledger = settings.ledger()
    run = ledger.begin("ingest", parameters={})
    verdict = Verdict(run=run, symbol="EUR/USD", timeframe="1h", kind="bars", passed=True, rows=10, bad_rows=1,
                      at_us=int(time.time() * 1e6))  # fmt: skip
    ledger.record(verdicts=[replace(verdict, passed=False, symbol="GBP/USD"), *[verdict] * (VERDICTS - 1)])
    for _ in range(RUNS - 1):
        ledger.begin("materialize", parameters={})
    for n in range(ALERTS):
        ledger.open_alert("freshness", f"S{n}/USD 1h", "9 bars old")
    yield replace(bare(home), operations=LedgerOperations(settings))
    ledger.close()


def test_the_overview(sources: Sources) -> None:
    page = text(show(overview, sources))
    assert f"Gates, 24 h {VERDICTS - 1:,} / {VERDICTS:,} passed" in page
    assert f"Open alerts {ALERTS}" in page
    assert f"{ALERTS} alerts open, 1 gate stopped" in page


def test_quality(sources: Sources) -> None:
    page = show(quality, sources)
    assert f"Gates passed {VERDICTS - 1:,} / {VERDICTS:,}" in text(page)
    assert f"Rows judged {VERDICTS * 10:,} {VERDICTS:,} bad" in text(page)
    passed, stopped = figures(page)["quality-verdicts-chart"]["data"]
    assert (sum(passed["y"]), sum(stopped["y"])) == (VERDICTS - 1, 1)


def test_pipelines(sources: Sources) -> None:
    page = text(show(pipelines, sources))
    assert f"Running {RUNS:,}" in page
    assert f"Runs, 24 h {RUNS:,}" in page


def test_prometheus(sources: Sources) -> None:
    body = exposition(sources)()[0].decode()
    assert f'fstore_gate_verdicts_24h{{kind="bars",result="passed"}} {VERDICTS - 1:.1f}' in body
    assert f'fstore_runs_24h{{kind="materialize",state="running"}} {RUNS - 1:.1f}' in body
    assert f'fstore_alerts_open{{rule="freshness"}} {ALERTS:.1f}' in body
