"""What a comparison finds, and how it is reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from feature_repo.moments import to_datetime

Rule = Literal["online", "behind", "lost", "bars", "indicators", "missing", "unexplained"]
RULES: Mapping[Rule, str] = {
    "online": "a value online is not the one that was stored",
    "behind": "the online store shows an older bar or revision than was stored",
    "lost": "the online store lacks what was stored",
    "bars": "a derived bar is not what its source bars give",
    "indicators": "an indicator is not what the stored bars give",
    "missing": "a row that the stored bars give was not stored",
    "unexplained": "a row was stored that the stored bars do not give",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One way in which they differ; ``rows`` says how often, ``detail`` names the first and its values."""

    rule: Rule
    rows: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was compared, and what was found.

    Attributes:
        rows: how many stored indicator rows were compared with a recomputation.
        online: whether the online store held something to compare.
        due: whether a run is due; what it would change was not looked at.

    What is not compared proves nothing: only ``is_proof`` ends a doubt, and only ``is_wrong`` begins one.
    """

    rows: int
    online: bool
    due: bool
    findings: tuple[Finding, ...]

    @property
    def is_proof(self) -> bool:
        """Whether all of it was compared, online too, and is the same."""
        return self.rows > 0 and self.online and not self.due and not self.findings

    @property
    def is_wrong(self) -> bool:
        """Whether a value was compared and is not the one that it should be; a store that lost a view has no value."""
        return any(finding.rule != "lost" for finding in self.findings)

    @property
    def reason(self) -> str:
        """All findings in one line; empty when the three are the same."""
        more = (f"{f.detail}{f' (and {f.rows - 1:,} more)' if f.rows > 1 else ''}" for f in self.findings)
        return "; ".join(f"{RULES[f.rule]}: {what}" for f, what in zip(self.findings, more, strict=True))


def bar_time(us: int | np.int64) -> str:
    """A bar's open or close as a finding states it."""
    return f"{to_datetime(int(us)):%Y-%m-%dT%H:%MZ}"
