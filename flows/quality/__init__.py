"""The quality gate: rules as data, judged by great-expectations, and a verdict that splits a batch."""

from flows.quality.gate import check_bars, check_indicators
from flows.quality.rules import Rule, bar_rules, indicator_rules
from flows.quality.verdict import Verdict
from flows.quality.warm_up import nan_allowed

__all__ = ["check_bars", "check_indicators", "nan_allowed", "Verdict", "Rule", "bar_rules", "indicator_rules"]
