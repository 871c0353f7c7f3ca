"""What is watched: one row per rule, and how each rule judges the facts. A pure decision.

A rule's name is part of what an incident is known by, so it never changes. A new rule is a row of ``RULES``, its
``judge`` function and a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from feature_repo.freshness import LIMITS, Freshness, freshness_of
from flows.alerts.facts import Facts

Key = tuple[str, str]
"""An incident: the names of its rule and its subject."""
Unlisted = Literal["fine", "same", "unknown"]
HISTORY_AFTER = timedelta(days=14)
"""A symbol without a bar for this long is history that was loaded, not a feed that is late."""
SEEN_WITHIN = timedelta(minutes=2)
"""A client process that published longer ago than this has ended; its last state no longer counts."""
_BREAKER = "breaker."  # prefix of the states in which a client publishes its breakers
_NO_FACTS = "nothing is known of it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a rule says of one subject.

    Attributes:
        subject: it names the incident together with the rule, so nothing in it changes while that lasts.
        wrong: what is wrong, for people to read; empty when nothing is.
    """

    subject: str
    wrong: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of what is watched.

    Attributes:
        name: the name of the rule, which never changes.
        needs: fields of ``Facts`` that are None while they are unknown; the rule then judges nothing.
        judge: the judgement of every subject that the facts say anything about.
        unlisted: what a subject is that the facts do not mention: ``fine`` where they list everything that is wrong,
            ``same`` where they list everything that has changed, else ``unknown``.
        max_bars: timeframe -> bars of an open market; a timeframe that is not listed is not watched.
    """

    name: str
    needs: tuple[str, ...]
    judge: Callable[[Facts, Mapping[str, int]], Iterator[Judgement]]
    unlisted: Unlisted
    max_bars: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something is not as it should be.

    Attributes:
        rule: name of the rule.
        subject: what it is about.
        detail: what is seen now, for people to read.
    """

    rule: str
    subject: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What the rules say of the facts.

    Attributes:
        findings: everything known to be wrong, in the order of the rules.
        fine: rule and subject of everything known not to be wrong.
        unlisted: name of a rule whose facts are known -> what a subject is that is in neither.
        silence: name of a rule whose facts are not known -> why.
    """

    findings: tuple[Finding, ...]
    fine: frozenset[Key]
    unlisted: Mapping[str, Unlisted]
    silence: Mapping[str, str]

    def is_fine(self, key: Key) -> bool:
        """Whether nothing is wrong with a subject without a finding."""
        return key in self.fine or self.unlisted.get(key[0]) == "fine"

    def why_unknown(self, key: Key) -> str:
        """Why it is not known whether a subject without a finding is fine; empty when it is known."""
        if key in self.fine or self.unlisted.get(key[0], "unknown") != "unknown":
            return ""
        return self.silence.get(key[0], _NO_FACTS)


def evaluate(facts: Facts, rules: Sequence[Rule]) -> Evaluation:
    """Judges everything that the facts say anything about."""
    findings: list[Finding] = []
    fine: set[Key] = set()
    unlisted: dict[str, Unlisted] = {}
    silence: dict[str, str] = {}
    no_answer = ", ".join(f"the {store} store does not answer" for store in facts.unreachable)
    for rule in rules:
        if any(getattr(facts, name) is None for name in rule.needs):
            silence[rule.name] = no_answer or _NO_FACTS
            continue
        unlisted[rule.name] = rule.unlisted
        for judgement in rule.judge(facts, rule.max_bars):
            if judgement.wrong:
                findings.append(Finding(rule=rule.name, subject=judgement.subject, detail=judgement.wrong))
            else:
                fine.add((rule.name, judgement.subject))
    return Evaluation(findings=tuple(findings), fine=frozenset(fine), unlisted=unlisted, silence=silence)


# ------------------------------------------------------------------------------------------------- judgements


def _stores(facts: Facts, _: Mapping[str, int]) -> Iterator[Judgement]:
    for store, why in facts.unreachable.items():
        yield Judgement(subject=store, wrong=f"does not answer: {why}")


def _view_ages(facts: Facts, max_bars: Mapping[str, int]) -> Iterator[Judgement]:
    for view in facts.views or ():
        subject, limit = f"{view.symbol} {view.timeframe}", max_bars.get(view.timeframe)
        if (
            not view.is_watched
            or limit is None
            or facts.now - view.newest > HISTORY_AFTER
            or freshness_of(view.timeframe, view.age_bars) is not Freshness.STALE
        ):
            yield Judgement(subject=subject)
        elif view.age_bars is None:
            yield Judgement(subject=subject, wrong="has bars offline and none online: never published")
        else:
            yield Judgement(
                subject=subject,
                wrong=f"{view.age_bars:,} bars old, {limit:,} are allowed; newest bar closed {_moment(view.newest)}",
            )


def _gates(facts: Facts, _: Mapping[str, int]) -> Iterator[Judgement]:
    judged: set[tuple[str, str, str]] = set()
    for verdict in facts.verdicts:
        about = (verdict.symbol, verdict.timeframe, verdict.kind)
        if about in judged or verdict.kind == "parity":  # parity has a rule of its own
            continue
        judged.add(about)
        wrong = "" if verdict.passed else f"{verdict.bad_rows:,} of {verdict.rows:,} rows are bad: {verdict.reason}"
        yield Judgement(subject=" ".join(about), wrong=wrong)


def _doubts(facts: Facts, _: Mapping[str, int]) -> Iterator[Judgement]:
    for (symbol, timeframe), doubt in facts.doubts.items():
        yield Judgement(subject=f"{symbol} {timeframe}", wrong=f"since {_moment(doubt.since)}: {doubt.reason}")


def _breakers(facts: Facts, _: Mapping[str, int]) -> Iterator[Judgement]:
    oldest_s = (facts.now - SEEN_WITHIN).timestamp()
    for process in facts.processes or ():
        for name, state in process.states.items():
            if name.startswith(_BREAKER) and state == "open" and process.seen_s >= oldest_s:
                store = name.removeprefix(_BREAKER)
                yield Judgement(
                    subject=f"{process.host}:{process.pid} {store}",
                    wrong=f"the {store} store is not asked: too many of this client's calls to it failed",
                )


def _silences(facts: Facts, max_bars: Mapping[str, int]) -> Iterator[Judgement]:
    for timeframe, run in (facts.runs or {}).items():
        limit = max_bars.get(timeframe)
        if limit is None or run.bars_since <= limit:
            yield Judgement(subject=timeframe)
        else:
            yield Judgement(
                subject=timeframe,
                wrong=f"the last run ended {_moment(run.ended)}, {run.bars_since:,} bars ago; {limit:,} may pass",
            )


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


_MAX_AGE_BARS = {timeframe: limits.late for timeframe, limits in LIMITS.items()}
_MAX_SILENT_BARS = {timeframe: limits.between_runs for timeframe, limits in LIMITS.items()}

# fmt: off
RULES: tuple[Rule, ...] = (
    Rule(name="store",    needs=(),             unlisted="fine",    judge=_stores),
    Rule(name="view_age", needs=("views",),     unlisted="unknown", judge=_view_ages, max_bars=_MAX_AGE_BARS),
    Rule(name="gate",     needs=(),             unlisted="same",    judge=_gates),
    Rule(name="parity",   needs=(),             unlisted="fine",    judge=_doubts),
    Rule(name="breaker",  needs=("processes",), unlisted="fine",    judge=_breakers),
    Rule(name="no_run",   needs=("runs",),      unlisted="unknown", judge=_silences, max_bars=_MAX_SILENT_BARS),
)
# fmt: on
