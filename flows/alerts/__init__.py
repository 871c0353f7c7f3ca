"""Alerts: what is watched, and who is notified.

``rules`` says what is watched, one row per rule, and judges the ``facts`` that are known. ``incidents`` reports each
incident once when it begins and once when it ends; ``channels`` carry the messages. ``check_alerts`` is one round of
all of it, which a flow runs on a schedule.
"""

from flows.alerts.channels import ChannelError, channels_of
from flows.alerts.check import Checked, check_alerts
from flows.alerts.facts import Facts, gather_facts
from flows.alerts.rules import RULES, Finding, Rule, evaluate

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
