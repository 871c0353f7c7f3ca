"""An incident is reported once when it begins and once when it ends, to every channel, however often sending fails.

A message to be sent is a run of the kind ``notice`` in the ledger, one per channel, begun before the incident is noted
and ended when the channel has accepted it. So nothing is lost when a channel is unavailable or a process dies in
between; at worst a channel hears of the same thing twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from flows.alerts.channels import Channel, ChannelError
from flows.alerts.rules import Evaluation, Key
from flows.ledger import Alert, Ledger, RunRecord

NOTICE = "notice"
"""The kind of run that a message to one channel is."""
_MAX_ROWS = 10_000
_MAX_NOTICES = 50  # in one message: a storm is one message, not a thousand
_UNKNOWN = "; facts unknown since "
_log = logging.getLogger("fstore.alerts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What a round changed, by rule and subject.

    Attributes:
        begun, ended: incidents.
        unknown: open incidents that may or may not be over, with the reason; they stay open.
    """

    begun: tuple[Key, ...] = ()
    ended: tuple[Key, ...] = ()
    unknown: Mapping[Key, str]


def note(ledger: Ledger, evaluation: Evaluation, channels: Sequence[Channel], *, now: datetime) -> Changed:
    """Compares what is wrong now with the open incidents; notes and queues what has changed.

    An incident ends only when its subject is known to be fine. When that is not known, it stays open, and its detail
    says since when and why.
    """
    open_alerts: Mapping[Key, Alert] = {
        (alert.rule, alert.subject): alert for alert in ledger.alerts(open_only=True, limit=_MAX_ROWS)
    }
    details = {(finding.rule, finding.subject): finding.detail for finding in evaluation.findings}
    queued = {_identity(run) for run in _waiting(ledger)}
    begun: list[Key] = []
    ended: list[Key] = []
    unknown: dict[Key, str] = {}
    for key, detail in details.items():
        if key not in open_alerts:
            _queue(ledger, queued, channels, key, "began", detail)
            if ledger.open_alert(*key, detail):
                begun.append(key)
                _log.warning("%s %s: %s", *key, detail)
    for key, alert in open_alerts.items():
        if key in details:
            if _UNKNOWN in alert.detail:
                ledger.describe_alert(*key, details[key])
        elif evaluation.is_fine(key):
            _queue(ledger, queued, channels, key, "ended", f"had begun {_moment(alert.opened)}: {alert.detail}")
            if ledger.close_alert(*key):
                ended.append(key)
                _log.warning("%s %s: over; had begun %s", *key, _moment(alert.opened))
        elif why := evaluation.why_unknown(key):
            unknown[key] = why
            if _UNKNOWN not in alert.detail:
                ledger.describe_alert(*key, f"{alert.detail}{_UNKNOWN}{_moment(now)}: {why}")
                _log.warning("%s %s: stays open, its facts are unknown: %s", *key, why)
    return Changed(begun=tuple(begun), ended=tuple(ended), unknown=unknown)


def deliver(ledger: Ledger, channels: Sequence[Channel]) -> tuple[int, dict[str, str]]:
    """Sends every waiting message: those of one channel together, the oldest first.

    Returns:
        How many notices were accepted, and by channel why it accepted none: those wait for the next round.
    """
    queues: dict[str, list[RunRecord]] = {channel.name: [] for channel in channels}
    for run in sorted(_waiting(ledger), key=lambda run: run.started):
        name = str(run.parameters["channel"])
        if name in queues:
            queues[name].append(run)
        else:
            ledger.end(run.id, state="stopped", counts={}, problems=["the channel is no longer configured"])
    accepted, failures = 0, dict[str, str]()
    for channel in channels:
        for batch in _batches(queues[channel.name]):
            try:
                channel.send(*_message(batch))
            except ChannelError as error:
                failures[channel.name] = str(error)
                _log.error("%d alerts wait: %s", len(queues[channel.name]), error)
                break  # its other messages would fail as well
            for run in batch:
                ledger.end(run.id, state="completed", counts={})
            accepted += len(batch)
    return accepted, failures


def _queue(
    ledger: Ledger, queued: set[tuple[str, ...]], channels: Sequence[Channel], key: Key, phase: str, detail: str
) -> None:
    for channel in channels:
        if (channel.name, phase, *key) not in queued:  # else a run queued it and died before it noted the incident
            parameters = {"channel": channel.name, "phase": phase, "rule": key[0], "subject": key[1], "detail": detail}
            ledger.begin(NOTICE, parameters=parameters)


def _waiting(ledger: Ledger) -> list[RunRecord]:
    return [run for run in ledger.runs(kind=NOTICE, limit=_MAX_ROWS) if run.ended is None]


def _identity(run: RunRecord) -> tuple[str, ...]:
    return tuple(str(run.parameters[name]) for name in ("channel", "phase", "rule", "subject"))


def _batches(runs: Sequence[RunRecord]) -> Iterator[Sequence[RunRecord]]:
    for first in range(0, len(runs), _MAX_NOTICES):
        yield runs[first : first + _MAX_NOTICES]


def _message(runs: Sequence[RunRecord]) -> tuple[str, str]:
    """Title and text of the message that carries these notices."""
    lines = [_line(run) for run in runs]
    if len(runs) == 1:
        return lines[0].partition(" | ")[0], lines[0].partition(" | ")[2]
    phases = [str(run.parameters["phase"]) for run in runs]
    counts = ", ".join(f"{phases.count(phase)} {phase}" for phase in ("began", "ended") if phase in phases)
    return f"fstore: {counts}", "\n".join(line.removeprefix("fstore: ").replace(" | ", ": ", 1) for line in lines)


def _line(run: RunRecord) -> str:
    notice = run.parameters
    return (
        f"fstore: {notice['rule']} {notice['subject']} {notice['phase']} | {_moment(run.started)}: {notice['detail']}"
    )


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
