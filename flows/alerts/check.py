"""One round of watching: gather, evaluate, note, tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from flows.alerts.channels import Channel, channels_of
from flows.alerts.evaluate import Finding, decidable, evaluate
from flows.alerts.facts import gather_facts
from flows.alerts.incidents import Key, deliver, note
from flows.alerts.rules import RULES, Rule
from flows.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a round found and did.

    Attributes:
        findings: everything that is wrong now.
        begun, ended: incidents, by rule and subject.
        taken: how many notices the channels took.
        failures: channel -> why its notices wait for the next round.
    """

    findings: tuple[Finding, ...]
    begun: tuple[Key, ...]
    ended: tuple[Key, ...]
    taken: int
    failures: Mapping[str, str] = field(default_factory=dict)


def check_alerts(
    settings: Settings,
    now: datetime,
    *,
    rules: Sequence[Rule] = RULES,
    channels: Sequence[Channel] | None = None,
) -> Checked:
    """Looks once at everything that is watched, and tells what has begun and what has ended since the last time.

    Args:
        channels: where to; those of ``settings.alert_urls`` when not given. The log is told in any case.

    Raises:
        SettingsError: an alert URL is none.
        LedgerUnavailable: the ledger does not answer; nothing can be noted then.
    """
    told = channels_of(settings.alert_urls.split()) if channels is None else channels
    ledger = settings.ledger()
    earlier, _ = deliver(ledger, told)
    facts = gather_facts(settings, ledger, now)
    findings = evaluate(facts, rules)
    changed = note(ledger, findings, decidable(facts, rules), told)
    taken, failures = deliver(ledger, told)
    return Checked(
        findings=tuple(findings), begun=changed.begun, ended=changed.ended, taken=earlier + taken, failures=failures
    )
