"""What the rules say to the facts. A pure decision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from flows.alerts.facts import Facts
from flows.alerts.rules import BreakerOpen, GateFailed, InDoubt, NoRun, Rule, Unreachable, ViewAge

_BREAKER = "breaker."  # how a client names the state of one


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something is not as it should be.

    Attributes:
        rule: name of the rule.
        subject: what it is about; with ``rule`` it names the incident, so it holds nothing that changes meanwhile.
        detail: what is seen now, for people.
    """

    rule: str
    subject: str
    detail: str


def evaluate(facts: Facts, rules: Sequence[Rule]) -> list[Finding]:
    """Everything that is known to be wrong at this moment, in the order of the rules."""
    return [finding for rule in rules for finding in _findings(rule, facts)]


def decidable(facts: Facts, rules: Sequence[Rule]) -> list[Rule]:
    """The rules whose facts are known: what they do not find is not there."""
    return [rule for rule in rules if _is_known(rule, facts)]


def _is_known(rule: Rule, facts: Facts) -> bool:
    match rule:
        case ViewAge():
            return facts.views is not None
        case BreakerOpen():
            return facts.processes is not None
        case NoRun():
            return facts.runs is not None
        case _:
            return True


def _findings(rule: Rule, facts: Facts) -> Iterator[Finding]:
    match rule:
        case Unreachable():
            for store, why in facts.unreachable.items():
                yield Finding(rule=rule.name, subject=store, detail=f"does not answer: {why}")
        case ViewAge():
            yield from _old_views(rule, facts)
        case GateFailed():
            yield from _failed_gates(rule, facts)
        case InDoubt():
            for (symbol, timeframe), doubt in facts.doubts.items():
                detail = f"since {_moment(doubt.since)}: {doubt.reason}"
                yield Finding(rule=rule.name, subject=f"{symbol} {timeframe}", detail=detail)
        case BreakerOpen():
            yield from _open_breakers(rule, facts)
        case NoRun():
            yield from _silences(rule, facts)
        case _:
            assert_never(rule)


def _old_views(rule: ViewAge, facts: Facts) -> Iterator[Finding]:
    for view in facts.views or ():
        most = rule.bars.get(view.timeframe)
        if most is None or facts.now - view.newest > rule.history_after:
            continue
        subject = f"{view.symbol} {view.timeframe}"
        if view.age_bars is None:
            yield Finding(rule=rule.name, subject=subject, detail="has bars offline and none online: never published")
        elif view.age_bars > most:
            detail = (
                f"{view.age_bars:,} bars old, {most:,} are allowed; newest bar closed {view.newest:%Y-%m-%d %H:%M} UTC"
            )
            yield Finding(rule=rule.name, subject=subject, detail=detail)


def _failed_gates(rule: GateFailed, facts: Facts) -> Iterator[Finding]:
    judged: set[tuple[str, str, str]] = set()
    for verdict in facts.verdicts:
        about = (verdict.symbol, verdict.timeframe, verdict.kind)
        if about in judged:
            continue
        judged.add(about)
        if not verdict.passed and verdict.kind != "parity":  # parity has a rule of its own
            detail = f"{verdict.bad_rows:,} of {verdict.rows:,} rows are bad: {verdict.reason}"
            yield Finding(rule=rule.name, subject=" ".join(about), detail=detail)


def _open_breakers(rule: BreakerOpen, facts: Facts) -> Iterator[Finding]:
    oldest_s = (facts.now - rule.seen_within).timestamp()
    for process in facts.processes or ():
        for name, state in process.states.items():
            if name.startswith(_BREAKER) and state == "open" and process.seen_s >= oldest_s:
                store = name.removeprefix(_BREAKER)
                detail = f"the {store} store is not asked: too many of this client's calls to it failed"
                yield Finding(rule=rule.name, subject=f"{process.host}:{process.pid} {store}", detail=detail)


def _silences(rule: NoRun, facts: Facts) -> Iterator[Finding]:
    for timeframe, run in (facts.runs or {}).items():
        most = rule.bars.get(timeframe)
        if most is not None and run.bars_since > most:
            detail = f"the last run ended {_moment(run.ended)}, {run.bars_since:,} bars ago; {most:,} may pass"
            yield Finding(rule=rule.name, subject=timeframe, detail=detail)


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
