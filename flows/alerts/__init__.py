"""Alerts: what is watched, what is told, and to whom.

``rules`` says what is watched, as data; ``facts`` gathers what is known; ``evaluate`` compares the two and decides;
``incidents`` tells of each incident once when it begins and once when it ends; ``channels`` carry the message.
``check_alerts`` is all of it, once: a flow on a schedule calls it.
"""

from flows.alerts.channels import ChannelError, channels_of
from flows.alerts.check import Checked, check_alerts
from flows.alerts.evaluate import Finding, evaluate
from flows.alerts.facts import Facts, gather_facts
from flows.alerts.rules import RULES, Rule

__all__ = [
    "check_alerts",
    "Checked",
    "evaluate",
    "Facts",
    "gather_facts",
    "Finding",
    "Rule",
    "RULES",
    "ChannelError",
    "channels_of",
]
