"""An incident is told once when it begins and once when it ends, to every channel, however often sending fails.

A message that is to be sent is a run of the kind ``notice`` in the ledger, one a channel, begun before the incident is
noted and ended when the channel has taken it. So nothing is lost when a channel is away or a process dies in between;
the worst that can happen is that a channel hears of the same thing twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from flows.alerts.channels import Channel, ChannelError
from flows.alerts.evaluate import Finding
from flows.alerts.rules import Rule
from flows.ledger import Alert, Ledger, Run

NOTICE = "notice"
"""The kind of run that a message to one channel is."""

_log = logging.getLogger("fstore.alerts")
_MOST = 10_000
_MAX_TOLD = 50  # in one message; a storm is one message, not a thousand

Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """Which incidents began and which ended, by rule and subject."""

    begun: tuple[Key, ...]
    ended: tuple[Key, ...]


def note(ledger: Ledger, findings: Sequence[Finding], decided: Sequence[Rule], channels: Sequence[Channel]) -> Changed:
    """Compares what is wrong now with the incidents that last; notes and queues what has changed.

    Args:
        decided: the rules whose facts were known: an incident of another one is left alone.
    """
    rules = {rule.name for rule in decided}
    lasting: Mapping[Key, Alert] = {(a.rule, a.subject): a for a in ledger.alerts(open_only=True, limit=_MOST)}
    wrong = {(finding.rule, finding.subject): finding for finding in findings}
    waiting = {_identity(run) for run in _waiting(ledger)}
    begun: list[Key] = []
    ended: list[Key] = []
    for key, finding in wrong.items():
        if key not in lasting:
            _queue(ledger, waiting, channels, key, "began", finding.detail)
            if ledger.open_alert(*key, finding.detail):
                begun.append(key)
                _log.warning("%s %s: %s", *key, finding.detail)
    for key, alert in lasting.items():
        if key not in wrong and alert.rule in rules:
            _queue(ledger, waiting, channels, key, "ended", f"had begun {_moment(alert.opened)}: {alert.detail}")
            if ledger.close_alert(*key):
                ended.append(key)
                _log.warning("%s %s: over; had begun %s", *key, _moment(alert.opened))
    return Changed(begun=tuple(begun), ended=tuple(ended))


def deliver(ledger: Ledger, channels: Sequence[Channel]) -> tuple[int, dict[str, str]]:
    """Sends every message that waits: those of one channel together, the oldest first.

    Returns:
        How many notices were taken, and by channel why it took none: those wait for the next time.
    """
    queues: dict[str, list[Run]] = {channel.name: [] for channel in channels}
    for run in sorted(_waiting(ledger), key=lambda run: run.started):
        name = str(run.parameters["channel"])
        if name in queues:
            queues[name].append(run)
        else:
            ledger.end(run.id, state="stopped", counts={}, problems=["the channel is no longer set"])
    taken, failures = 0, dict[str, str]()
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
            taken += len(batch)
    return taken, failures


def _queue(
    ledger: Ledger, waiting: set[tuple[str, ...]], channels: Sequence[Channel], key: Key, phase: str, detail: str
) -> None:
    for channel in channels:
        if (channel.name, phase, *key) not in waiting:  # else it was queued by a run that died before it noted it
            parameters = {"channel": channel.name, "phase": phase, "rule": key[0], "subject": key[1], "detail": detail}
            ledger.begin(NOTICE, parameters=parameters)


def _waiting(ledger: Ledger) -> list[Run]:
    return [run for run in ledger.runs(kind=NOTICE, limit=_MOST) if run.ended is None]


def _identity(run: Run) -> tuple[str, ...]:
    return tuple(str(run.parameters[name]) for name in ("channel", "phase", "rule", "subject"))


def _batches(runs: Sequence[Run]) -> Iterator[Sequence[Run]]:
    for first in range(0, len(runs), _MAX_TOLD):
        yield runs[first : first + _MAX_TOLD]


def _message(runs: Sequence[Run]) -> tuple[str, str]:
    """Title and text of the message that tells of some notices."""
    lines = [_line(run) for run in runs]
    if len(runs) == 1:
        return lines[0].partition(" | ")[0], lines[0].partition(" | ")[2]
    phases = [str(run.parameters["phase"]) for run in runs]
    counts = ", ".join(f"{phases.count(phase)} {phase}" for phase in ("began", "ended") if phase in phases)
    return f"fstore: {counts}", "\n".join(line.removeprefix("fstore: ").replace(" | ", ": ", 1) for line in lines)


def _line(run: Run) -> str:
    told = run.parameters
    return f"fstore: {told['rule']} {told['subject']} {told['phase']} | {_moment(run.started)}: {told['detail']}"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
