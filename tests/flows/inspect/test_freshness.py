"""One word for how fresh a view is: status, dashboard, Prefect's artifact and alerts read the same limits."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pandas as pd
import pytest

from feature_repo.catalog import SYMBOLS, TIMEFRAMES
from feature_repo.freshness import LIMITS
from flows.alerts.facts import gather_facts
from flows.alerts.rules import RULES, evaluate
from flows.engine.artifacts import freshness_rows
from flows.inspect.status import freshness
from flows.ledger import Ledger, Run
from flows.materialize import materialize_symbols
from flows.settings import Settings
from fsclient.dashboard.online import OnlineStore

BTC = SYMBOLS["BTC/USD"]  # always open, so that ages are multiples of the timeframe


def in_status(settings: Settings, timeframe: str, moment: datetime) -> str:
    (row,) = [row for row in freshness(settings, moment) if row["timeframe"] == timeframe]
    return str(row["freshness"])


def on_the_dashboard(settings: Settings, timeframe: str, moment: datetime) -> str:
    store = OnlineStore(settings.repo(), now=moment.timestamp)
    (age,) = [age for age in store.ages() if age.timeframe == timeframe]
    store.client().close()
    return age.state


def in_prefect(settings: Settings, ledger: Ledger, timeframe: str, moment: datetime) -> str:
    run = Run(ledger=ledger, tables=settings.tables(), now=moment)
    (row,) = freshness_rows(materialize_symbols(run, [BTC.name], [timeframe], settings))
    return row[timeframe].rpartition(" ")[2]


def is_alert(settings: Settings, ledger: Ledger, timeframe: str, moment: datetime) -> bool:
    findings = evaluate(gather_facts(settings, ledger, moment), RULES).findings
    return ("view_age", f"{BTC.name} {timeframe}") in {(finding.rule, finding.subject) for finding in findings}


@pytest.mark.parametrize("timeframe", TIMEFRAMES)
def test_the_same_age_has_the_same_word_everywhere(
    timeframe: str,
    make_bars: Callable[..., pd.DataFrame],
    take: Callable[..., Any],
    settings: Settings,
    ledger: Ledger,
) -> None:
    bars = make_bars(30, timeframe, BTC.name)
    take(bars, timeframe, BTC.name)
    step = pd.Timedelta(microseconds=TIMEFRAMES[timeframe].microseconds)
    close = (bars["open_time"].iloc[-1] + step).to_pydatetime()
    materialize_symbols(Run(ledger=ledger, tables=settings.tables(), now=close), [BTC.name], [timeframe], settings)
    limits = LIMITS[timeframe]
    words = {0: "fresh", limits.fresh: "fresh", limits.fresh + 1: "late", limits.late: "late", limits.late + 1: "stale"}
    for age, word in words.items():
        moment = close + age * step.to_pytimedelta()
        assert in_status(settings, timeframe, moment) == word
        assert on_the_dashboard(settings, timeframe, moment) == word
        assert in_prefect(settings, ledger, timeframe, moment) == word
        assert is_alert(settings, ledger, timeframe, moment) is (word == "stale")


def test_what_was_never_published_is_stale(
    make_bars: Callable[..., pd.DataFrame], take: Callable[..., Any], settings: Settings, ledger: Ledger
) -> None:
    bars = make_bars(30, symbol=BTC.name)
    take(bars, symbol=BTC.name)
    moment = (bars["open_time"].iloc[-1] + pd.Timedelta(hours=1)).to_pydatetime()
    assert in_status(settings, "1h", moment) == "stale"
    assert is_alert(settings, ledger, "1h", moment)
