"""The gate's decision about a batch, and its report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from flows.quality.rules import Rule

_SHOWN_ROWS = 20
_AT_READING = "reads as a bar"
_VERDICT_COLUMNS = ("rule", "rules", "detail")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdict:
    """The gate's decision.

    Attributes:
        subject: what was judged, as ``"EUR/USD 1h bars"``.
        passed: whether the symbol may go on. ``good`` may still be empty, when good rows came before.
        good: the rows that may be stored, columns as passed; the frame itself when every row is good.
        bad: the rejected rows, columns as passed and ``rule`` (the first rule they break), ``rules`` (all of them,
            joined by commas), ``detail`` (the values that the first rule judged). Empty when the batch as a whole was
            refused (it is empty, or a column is missing or of the wrong type): then no row was judged.
        rows, bad_rows: how many rows the batch had, and how many of them are not stored: those in ``bad``, and those
            that the reader of the batch had already rejected.
        set_aside: how many of those in ``bad`` break only rules that set rows aside, and so count against nobody.
        by_rule: broken rule -> rows that break it, the reader's first, then in the rules' order; for a rule about the
            whole batch, all rows.
        reason: why the symbol was stopped; empty when it passed.
        rules: the rules that were judged by.
        expectations: how many great-expectations evaluated; 0 when the batch was refused before.
    """

    subject: str
    passed: bool
    good: pd.DataFrame = field(repr=False)
    bad: pd.DataFrame = field(repr=False)
    rows: int
    bad_rows: int
    set_aside: int = 0
    by_rule: Mapping[str, int]
    reason: str = ""
    rules: tuple[Rule, ...] = field(repr=False)
    expectations: int

    def as_markdown(self) -> str:
        """The report: the decision, which rules were broken how often, and the first bad rows."""
        stored, decision = len(self.good), "passed" if self.passed else f"stopped: {self.reason}"
        lines = [
            f"## {self.subject}: {decision}",
            "",
            f"{self.rows} rows: {stored} may be stored, {self.bad_rows} quarantined. "
            f"{len(self.rules)} rules, {sum(rule.name in self.by_rule for rule in self.rules)} of them broken; "
            f"{self.expectations} expectations evaluated.",
        ]
        if self.by_rule:
            lines += ["", *_table(("rule", "demands", "rows that break it"), self._broken())]
        if len(self.bad):
            shown, of = self.bad.head(_SHOWN_ROWS), len(self.bad)
            title = "Bad rows" if len(shown) == of else f"The first {len(shown)} of {of} bad rows"
            columns = [shown.columns[0], *_VERDICT_COLUMNS[1:]]
            lines += ["", f"### {title}", "", *_table(columns, shown[columns].itertuples(index=False))]
        return "\n".join([*lines, ""])

    def _broken(self) -> list[tuple[str, str, int]]:
        demands = {rule.name: rule.description for rule in self.rules}
        return [(name, demands.get(name, _AT_READING), count) for name, count in self.by_rule.items()]


def _table(head: Sequence[str], rows: Iterable[Iterable[object]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in cells]
