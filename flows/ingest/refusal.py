"""The explanation of a refused batch: which rules its rows break, three such rows, and how to continue."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import pandas as pd

from flows.quality import Verdict

_MAX_ROWS = 3
_REMEDIES: tuple[tuple[str, str], ...] = (
    ("off_grid", "--tz states another zone, --stamp close that times are closes, --timeframe another length of bars"),
    ("unclosed", "bars of the future are on another zone's clock, which --tz states"),
    ("_out_of_bounds", "prices in another unit need --unit; the catalog's price_min and price_max bound the symbol"),
    (
        "unit_error",
        "bring the source into one unit (--unit), or the stored bars over with fstore rebase; --as-is keeps all",
    ),
    ("_not_positive", "a symbol that trades below zero says so in the catalog with a price_min below zero"),
    ("volume_negative", "--volume none says that no volume is reported"),
    ("high_below_", "--columns says which column is which"),
    ("low_above_", "--columns says which column is which"),
    ("ask_below_bid", "bid and ask must be of one instrument and on one clock (--tz)"),
    ("no_matching_", "bid and ask must be of one instrument and on one clock (--tz)"),
    ("unique_", "of rows that share a time and differ only the true one may stay"),
)
"""Part of a rule's name, and what may be behind many rows that break it."""


def explain(verdict: Verdict, quarantine: pd.DataFrame, max_bad_share: float) -> tuple[str, ...]:
    """Lines about a refused batch: each rule with its rows, the most frequent first, remedies, and the share to raise.

    Args:
        quarantine: the rejected rows: rule, detail, file, line, and open_time (NaT where unknown).
    """
    return (*_rules(verdict, quarantine), *_share(verdict, max_bad_share))


def _rules(verdict: Verdict, quarantine: pd.DataFrame) -> Iterator[str]:
    aside = {rule.name for rule in verdict.rules if rule.sets_aside}
    for rule, count in quarantine["rule"].value_counts().items():
        if rule in aside:
            continue
        rows = quarantine[quarantine["rule"] == rule].head(_MAX_ROWS)
        remedy = next((text for part, text in _REMEDIES if part in str(rule)), "correct or delete these rows")
        yield f"{rule}, {count:,} of {verdict.rows:,} rows: {'; '.join(_row(row) for row in rows.to_dict('records'))}"
        yield f"{rule}: {remedy}"


def _row(row: Mapping[Hashable, Any]) -> str:
    time, why = row["open_time"], "" if row["rule"] == "off_grid" else f" ({row['detail']})"
    when = "" if pd.isna(time) else f" at {time:%Y-%m-%d %H:%M:%S.%f}".removesuffix("000").removesuffix(".000")
    return f"{row['file']} line {row['line']}{when}{why}"


def _share(verdict: Verdict, max_bad_share: float) -> Iterator[str]:
    rows, bad = verdict.rows - verdict.set_aside, verdict.bad_rows - verdict.set_aside
    enough = math.ceil(100 * bad / max(rows, 1)) / 100
    if max_bad_share < enough < 1:
        yield (
            f"max_bad_share is {max_bad_share:g}: if the other rows are right, --max-bad-share {enough:g} stores them"
        )
