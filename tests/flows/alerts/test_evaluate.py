"""Each rule: what begins an incident, what does not, and what must not change its name."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flows.alerts.evaluate import Finding, decidable, evaluate
from flows.alerts.facts import Facts, LastRun, View
from flows.alerts.rules import RULES, BreakerOpen, GateFailed, InDoubt, NoRun, Unreachable, ViewAge
from flows.ledger import Doubt, Verdict
from fsclient.metrics.store import Process

NOW = datetime(2024, 6, 3, 12, 0, tzinfo=UTC)
VIEW = View(symbol="EUR/USD", timeframe="1h", age_bars=0, newest=NOW - timedelta(hours=1))
VERDICT = Verdict(run="r", symbol="EUR/USD", timeframe="1h", kind="bars", passed=True, at_us=0)
CLIENT = Process(host="h", pid=7, start_s=0.0, seen_s=NOW.timestamp(), states={"breaker.online": "open"})


def found(facts: Facts) -> list[tuple[str, str]]:
    return [(finding.rule, finding.subject) for finding in evaluate(facts, RULES)]


def test_nothing_known_is_nothing_wrong() -> None:
    assert found(Facts(now=NOW)) == []


def test_rules_have_names_of_their_own() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize(("age", "wrong"), [(0, False), (2, False), (3, True), (500, True), (None, True)])
def test_a_view_is_wrong_once_it_lacks_more_bars_than_allowed(age: int | None, wrong: bool) -> None:
    assert found(Facts(now=NOW, views=[replace(VIEW, age_bars=age)])) == [("view_age", "EUR/USD 1h")] * wrong


def test_history_that_was_loaded_is_not_late() -> None:
    old = replace(VIEW, age_bars=40_000, newest=NOW - timedelta(days=15))
    assert found(Facts(now=NOW, views=[old, replace(old, age_bars=None)])) == []


def test_an_older_view_is_the_same_incident() -> None:
    first, later = (evaluate(Facts(now=NOW, views=[replace(VIEW, age_bars=age)]), RULES)[0] for age in (3, 9))
    assert (first.rule, first.subject) == (later.rule, later.subject)
    assert first.detail != later.detail


def test_a_timeframe_without_a_limit_is_not_watched() -> None:
    assert evaluate(Facts(now=NOW, views=[replace(VIEW, age_bars=9)]), [ViewAge(bars={"4h": 1})]) == []


def test_the_newest_verdict_counts() -> None:
    failed = replace(VERDICT, passed=False, reason="inverted", rows=100, bad_rows=40)
    assert found(Facts(now=NOW, verdicts=[VERDICT, failed])) == []
    (finding,) = evaluate(Facts(now=NOW, verdicts=[failed, VERDICT]), [GateFailed()])
    detail = "40 of 100 rows are bad: inverted"
    assert finding == Finding(rule="gate", subject="EUR/USD 1h bars", detail=detail)


def test_each_kind_of_verdict_is_its_own() -> None:
    failed = [
        replace(VERDICT, kind="indicators", passed=False),
        replace(VERDICT, kind="parity", passed=False),
    ]
    assert found(Facts(now=NOW, verdicts=[VERDICT, *failed])) == [("gate", "EUR/USD 1h indicators")]


def test_a_doubt_is_told() -> None:
    doubts = {("EUR/USD", "1h"): Doubt(reason="sma_5 differs", since=NOW)}
    (finding,) = evaluate(Facts(now=NOW, doubts=doubts), [InDoubt()])
    assert finding.subject == "EUR/USD 1h"
    assert "sma_5 differs" in finding.detail


@pytest.mark.parametrize(
    ("process", "wrong"),
    [
        (CLIENT, True),
        (replace(CLIENT, states={"breaker.online": "half_open", "breaker.offline": "closed"}), False),
        (replace(CLIENT, states={"something.else": "open"}), False),
        (replace(CLIENT, seen_s=NOW.timestamp() - 121.0), False),  # it has ended
    ],
)
def test_an_open_breaker_of_a_client_that_lives_is_told(process: Process, wrong: bool) -> None:
    assert found(Facts(now=NOW, processes=[process])) == [("breaker", "h:7 online")] * wrong


@pytest.mark.parametrize(("bars", "wrong"), [(0, False), (3, False), (4, True)])
def test_a_silence_is_measured_in_bars_of_an_open_market(bars: int, wrong: bool) -> None:
    runs = {"1h": LastRun(ended=NOW - timedelta(hours=bars), bars_since=bars)}
    assert found(Facts(now=NOW, runs=runs)) == [("no_run", "1h")] * wrong


def test_what_can_not_be_known_neither_begins_nor_ends() -> None:
    facts = Facts(now=NOW, views=None, processes=None, runs=None, unreachable={"online": "refused"})
    assert found(facts) == [("store", "online")]
    assert {type(rule) for rule in decidable(facts, RULES)} == {Unreachable, GateFailed, InDoubt}
    assert decidable(Facts(now=NOW), [BreakerOpen(), NoRun()]) == [BreakerOpen(), NoRun()]
