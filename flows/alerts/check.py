"""One round of watching: gather, evaluate, note, deliver."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from flows.alerts.channels import Channel, channels_of
from flows.alerts.facts import gather_facts
from flows.alerts.incidents import deliver, note
from flows.alerts.rules import RULES, Finding, Key, Rule, evaluate
from flows.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a round found and did.

    Attributes:
        findings: everything that is wrong now.
        begun, ended: incidents, by rule and subject.
        unknown: open incidents that may or may not be over -> why that is unknown.
        accepted: how many notices the channels accepted.
        failures: channel -> why its notices wait for the next round.
    """

    findings: tuple[Finding, ...]
    begun: tuple[Key, ...]
    ended: tuple[Key, ...]
    unknown: Mapping[Key, str]
    accepted: int
    failures: Mapping[str, str] = field(default_factory=dict)


def check_alerts(
    settings: Settings,
    now: datetime,
    *,
    rules: Sequence[Rule] = RULES,
    channels: Sequence[Channel] | None = None,
) -> Checked:
    """Checks everything that is watched once, and reports what has begun and what has ended since the last round.

    Args:
        channels: where to report; by default those of ``settings.alert_urls``. The log has everything in any case.

    Raises:
        SettingsError: an alert URL is invalid.
        LedgerUnavailable: the ledger does not answer, so nothing can be noted.
    """
    if channels is None:
        channels = channels_of(settings.alert_urls.split())
    ledger = settings.ledger()
    earlier, _ = deliver(ledger, channels)
    evaluation = evaluate(gather_facts(settings, ledger, now), rules)
    changed = note(ledger, evaluation, channels, now=now)
    accepted, failures = deliver(ledger, channels)
    return Checked(
        findings=evaluation.findings,
        begun=changed.begun,
        ended=changed.ended,
        unknown=changed.unknown,
        accepted=earlier + accepted,
        failures=failures,
    )
