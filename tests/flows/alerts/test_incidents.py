"""An incident is reported once when it begins and once when it ends, whatever fails in between."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.alerts import incidents
from flows.alerts.channels import ChannelError
from flows.alerts.incidents import Changed, deliver
from flows.alerts.rules import Evaluation, Finding, Unlisted
from flows.ledger import Ledger

OLD = Finding(rule="view_age", subject="EUR/USD 1h", detail="9 bars old")
DOUBT = Finding(rule="parity", subject="GBP/USD 4h", detail="sma_5 differs")
NOW = datetime(2024, 6, 3, 12, 0, tzinfo=UTC)


class Box:
    """A channel that keeps what it is sent, while it works."""

    def __init__(self, name: str = "box") -> None:
        self.name = name
        self.works = True
        self.messages: list[tuple[str, str]] = []

    def send(self, title: str, body: str) -> None:
        if not self.works:
            raise ChannelError(f"{self.name} is unavailable")
        self.messages.append((title, body))

    @property
    def titles(self) -> list[str]:
        return [title for title, _ in self.messages]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        yield ledger


@pytest.fixture
def box() -> Box:
    return Box()


def evaluation(*findings: Finding, unlisted: Unlisted = "fine") -> Evaluation:
    rules: dict[str, Unlisted] = {"view_age": unlisted, "parity": "fine"}
    return Evaluation(findings=findings, fine=frozenset(), unlisted=rules, silence={})


def note(ledger: Ledger, findings: list[Finding], channels: list[Box]) -> Changed:
    return incidents.note(ledger, evaluation(*findings), channels, now=NOW)


def check(ledger: Ledger, box: Box, *findings: Finding) -> Changed:
    changed = note(ledger, [*findings], [box])
    deliver(ledger, [box])
    return changed


def test_an_incident_is_reported_once_when_it_begins_and_once_when_it_ends(ledger: Ledger, box: Box) -> None:
    assert check(ledger, box, OLD).begun == (("view_age", "EUR/USD 1h"),)
    for _ in range(3):
        assert check(ledger, box, OLD) == Changed(unknown={})
    assert check(ledger, box).ended == (("view_age", "EUR/USD 1h"),)
    check(ledger, box)
    assert box.titles == ["fstore: view_age EUR/USD 1h began", "fstore: view_age EUR/USD 1h ended"]
    assert "9 bars old" in box.messages[0][1]
    assert ledger.alerts(open_only=True) == []
    check(ledger, box, OLD)
    assert len(box.messages) == 3  # it is a new incident


def test_a_storm_is_one_message(ledger: Ledger, box: Box) -> None:
    check(ledger, box, OLD)
    check(ledger, box, DOUBT, *(Finding(rule="view_age", subject=f"S{n} 1h", detail="late") for n in range(20)))
    title, body = box.messages[1]
    assert title == "fstore: 21 began, 1 ended"
    assert body.count("\n") == 21
    assert "view_age S19 1h began: " in body


def test_an_unavailable_channel_hears_of_everything_later(ledger: Ledger, box: Box) -> None:
    box.works = False
    note(ledger, [OLD], [box])
    assert deliver(ledger, [box]) == (0, {"box": "box is unavailable"})
    note(ledger, [], [box])
    assert deliver(ledger, [box])[0] == 0
    box.works = True
    assert deliver(ledger, [box]) == (2, {})
    assert deliver(ledger, [box]) == (0, {})
    began, ended = box.messages[0][1].split("\n")
    assert "began" in began
    assert "ended" in ended


def test_an_unavailable_channel_neither_delays_another_nor_makes_it_hear_twice(ledger: Ledger) -> None:
    broken, working = Box("away"), Box("there")
    broken.works = False
    for _ in range(3):
        note(ledger, [OLD], [broken, working])
        deliver(ledger, [broken, working])
    broken.works = True
    deliver(ledger, [broken, working])
    assert len(broken.messages) == len(working.messages) == 1


def test_a_process_that_dies_between_queueing_and_noting_loses_nothing(
    ledger: Ledger, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "open_alert", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            note(ledger, [OLD], [box])
    check(ledger, box, OLD)
    assert box.titles == ["fstore: view_age EUR/USD 1h began"]


def test_an_incident_whose_facts_are_unknown_stays_open_and_says_so_once(ledger: Ledger, box: Box) -> None:
    check(ledger, box, OLD, DOUBT)
    silent = Evaluation(findings=(), fine=frozenset(), unlisted={"parity": "fine"},
                        silence={"view_age": "the online store does not answer"})  # fmt: skip
    for _ in range(2):
        changed = incidents.note(ledger, silent, [box], now=NOW)
        assert changed.unknown == {("view_age", "EUR/USD 1h"): "the online store does not answer"}
    (alert,) = ledger.alerts(open_only=True)
    detail = "9 bars old; facts unknown since 2024-06-03 12:00 UTC: the online store does not answer"
    assert (alert.rule, alert.detail) == ("view_age", detail)
    check(ledger, box, OLD)  # known again, and still so
    assert [alert.detail for alert in ledger.alerts(open_only=True)] == ["9 bars old"]
    assert check(ledger, box).ended == (("view_age", "EUR/USD 1h"),)


def test_an_incident_of_which_nothing_new_is_said_stays_as_it_is(ledger: Ledger, box: Box) -> None:
    check(ledger, box, OLD)
    changed = incidents.note(ledger, evaluation(unlisted="same"), [box], now=NOW)
    assert changed == Changed(unknown={})
    assert [alert.detail for alert in ledger.alerts(open_only=True)] == ["9 bars old"]


def test_a_channel_that_is_no_longer_configured_holds_nothing_up(ledger: Ledger, box: Box) -> None:
    removed = Box("gone")
    note(ledger, [OLD], [removed])
    assert deliver(ledger, [box]) == (0, {})
    assert [run.state for run in ledger.runs(kind=incidents.NOTICE)] == ["stopped"]


def test_without_a_channel_incidents_are_noted_and_logged(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="fstore.alerts"):
        note(ledger, [OLD], [])
        note(ledger, [], [])
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["view_age EUR/USD 1h"] * 2
    assert len(ledger.alerts()) == 1
