"""Each rule: what is an incident, what is not, what is not known, and what must not change an incident's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from feature_repo.catalog import TIMEFRAMES
from feature_repo.freshness import Freshness, freshness_of
from flows.alerts.facts import Facts, LastRun, View
from flows.alerts.rules import RULES, Finding, evaluate
from flows.ledger import Doubt, Verdict
from fsclient.metrics.store import Process

NOW = datetime(2024, 6, 3, 12, 0, tzinfo=UTC)
VIEW = View(symbol="EUR/USD", timeframe="1h", age_bars=0, newest=NOW - timedelta(hours=1))
VERDICT = Verdict(run="r", symbol="EUR/USD", timeframe="1h", kind="bars", passed=True, at_us=0)
CLIENT = Process(host="h", pid=7, start_s=0.0, seen_s=NOW.timestamp(), states={"breaker.online": "open"})
RULE = {rule.name: rule for rule in RULES}


def wrong(facts: Facts) -> list[tuple[str, str]]:
    return [(finding.rule, finding.subject) for finding in evaluate(facts, RULES).findings]


def findings(facts: Facts, name: str) -> Sequence[Finding]:
    return evaluate(facts, [RULE[name]]).findings


def test_nothing_known_is_nothing_wrong() -> None:
    assert wrong(Facts(now=NOW)) == []


def test_rules_are_a_table_of_distinct_names_known_facts_and_known_timeframes() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    known = {field.name for field in fields(Facts)}
    for rule in RULES:
        assert known.issuperset(rule.needs)
        assert set(TIMEFRAMES).issuperset(rule.max_bars)


def test_the_guide_lists_every_rule() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "operations.md").read_text()
    assert [rule.name for rule in RULES if f"\n| `{rule.name}` |" not in page] == []


@pytest.mark.parametrize(("age", "is_wrong"), [(0, False), (2, False), (3, True), (500, True), (None, True)])
def test_a_view_is_wrong_once_it_lacks_more_bars_than_allowed(age: int | None, is_wrong: bool) -> None:
    assert wrong(Facts(now=NOW, views=[replace(VIEW, age_bars=age)])) == [("view_age", "EUR/USD 1h")] * is_wrong


@pytest.mark.parametrize("timeframe", TIMEFRAMES)
def test_an_incident_is_what_everything_else_calls_stale(timeframe: str) -> None:
    for age in (None, *range(15)):
        views = [replace(VIEW, timeframe=timeframe, age_bars=age)]
        is_stale = freshness_of(timeframe, age) is Freshness.STALE
        assert wrong(Facts(now=NOW, views=views)) == [("view_age", f"EUR/USD {timeframe}")] * is_stale


def test_history_that_was_loaded_is_not_late() -> None:
    old = replace(VIEW, age_bars=40_000, newest=NOW - timedelta(days=15))
    assert wrong(Facts(now=NOW, views=[old, replace(old, age_bars=None)])) == []


def test_an_older_view_is_the_same_incident() -> None:
    first, later = (findings(Facts(now=NOW, views=[replace(VIEW, age_bars=age)]), "view_age")[0] for age in (3, 9))
    assert (first.rule, first.subject) == (later.rule, later.subject)
    assert first.detail != later.detail


def test_a_timeframe_without_a_limit_is_not_watched() -> None:
    rule = replace(RULE["view_age"], max_bars={"4h": 1})
    assert evaluate(Facts(now=NOW, views=[replace(VIEW, age_bars=9)]), [rule]).findings == ()


def test_the_newest_verdict_counts() -> None:
    failed = replace(VERDICT, passed=False, reason="inverted", rows=100, bad_rows=40)
    assert wrong(Facts(now=NOW, verdicts=[VERDICT, failed])) == []
    (finding,) = findings(Facts(now=NOW, verdicts=[failed, VERDICT]), "gate")
    detail = "40 of 100 rows are bad: inverted"
    assert finding == Finding(rule="gate", subject="EUR/USD 1h bars", detail=detail)


def test_each_kind_of_verdict_stands_alone() -> None:
    failed = [
        replace(VERDICT, kind="indicators", passed=False),
        replace(VERDICT, kind="parity", passed=False),
    ]
    assert wrong(Facts(now=NOW, verdicts=[VERDICT, *failed])) == [("gate", "EUR/USD 1h indicators")]


def test_a_doubt_is_reported() -> None:
    doubts = {("EUR/USD", "1h"): Doubt(reason="sma_5 differs", since=NOW)}
    (finding,) = findings(Facts(now=NOW, doubts=doubts), "parity")
    assert finding.subject == "EUR/USD 1h"
    assert "sma_5 differs" in finding.detail


@pytest.mark.parametrize(
    ("process", "is_wrong"),
    [
        (CLIENT, True),
        (replace(CLIENT, states={"breaker.online": "half_open", "breaker.offline": "closed"}), False),
        (replace(CLIENT, states={"something.else": "open"}), False),
        (replace(CLIENT, seen_s=NOW.timestamp() - 121.0), False),  # it has ended
    ],
)
def test_an_open_breaker_of_a_running_client_is_reported(process: Process, is_wrong: bool) -> None:
    assert wrong(Facts(now=NOW, processes=[process])) == [("breaker", "h:7 online")] * is_wrong


@pytest.mark.parametrize(("bars", "is_wrong"), [(0, False), (3, False), (4, True)])
def test_a_silence_is_measured_in_bars_of_an_open_market(bars: int, is_wrong: bool) -> None:
    runs = {"1h": LastRun(ended=NOW - timedelta(hours=bars), bars_since=bars)}
    assert wrong(Facts(now=NOW, runs=runs)) == [("no_run", "1h")] * is_wrong


# ------------------------------------------------------------------------------------------------- what is unknown


def test_rules_whose_store_does_not_answer_judge_nothing_and_say_why() -> None:
    facts = Facts(now=NOW, views=None, processes=None, runs=None, unreachable={"online": "refused"})
    evaluation = evaluate(facts, RULES)
    assert wrong(facts) == [("store", "online")]
    for key in (("view_age", "EUR/USD 1h"), ("breaker", "h:7 online"), ("no_run", "1h")):
        assert not evaluation.is_fine(key)
        assert evaluation.why_unknown(key) == "the online store does not answer"
    assert evaluation.is_fine(("parity", "EUR/USD 1h"))


def test_a_view_is_fine_once_it_is_known_to_be() -> None:
    evaluation = evaluate(Facts(now=NOW, views=[VIEW, replace(VIEW, timeframe="4h", is_watched=False)]), RULES)
    assert evaluation.is_fine(("view_age", "EUR/USD 1h"))
    assert evaluation.is_fine(("view_age", "EUR/USD 4h"))  # the catalog no longer has it
    assert not evaluation.is_fine(("view_age", "GBP/USD 1h"))
    assert evaluation.why_unknown(("view_age", "GBP/USD 1h")) == "nothing is known of it"


def test_a_timeframe_of_whose_runs_nothing_is_known_is_not_fine() -> None:
    evaluation = evaluate(Facts(now=NOW, runs={"1h": LastRun(ended=NOW, bars_since=0)}), RULES)
    assert evaluation.is_fine(("no_run", "1h"))
    assert not evaluation.is_fine(("no_run", "1d"))
    assert evaluation.why_unknown(("no_run", "1d"))


def test_a_gate_that_has_said_nothing_new_is_as_it_was() -> None:
    evaluation = evaluate(Facts(now=NOW, verdicts=[VERDICT]), RULES)
    assert evaluation.is_fine(("gate", "EUR/USD 1h bars"))
    assert not evaluation.is_fine(("gate", "EUR/USD 1d bars"))
    assert evaluation.why_unknown(("gate", "EUR/USD 1d bars")) == ""


def test_what_the_facts_list_in_full_is_fine_when_it_is_not_listed() -> None:
    evaluation = evaluate(Facts(now=NOW), RULES)
    for key in (("store", "online"), ("parity", "EUR/USD 1h"), ("breaker", "h:7 online")):
        assert evaluation.is_fine(key)
