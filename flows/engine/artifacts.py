"""What Prefect's UI shows of a run, each under a key that stays: outcomes, the gate's report, how fresh symbols are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from prefect.artifacts import create_markdown_artifact, create_table_artifact

from feature_repo import catalog
from feature_repo.freshness import freshness_of
from flows.runs.outcome import Outcome

_MAX_REPORTS = 20
_LONGEST_REPORT = 20_000
_MAX_ROWS = 40


def show_outcomes(kind: str, outcomes: Sequence[Outcome]) -> None:
    """A table named ``kind`` of what a run did, one row per symbol and timeframe."""
    if outcomes:
        create_table_artifact(
            key=kind,
            table=[
                {name: str(value) if isinstance(value, datetime) else value for name, value in asdict(outcome).items()}
                for outcome in outcomes
            ],
            description="Bars made, rows stored, quarantined and published, and each symbol's freshness in bars",
        )


def show_gate(reports: Sequence[str]) -> None:
    """The gate's reports (Markdown) of what a run stopped or rejected rows of; nothing when all is well."""
    if not reports:
        return
    shown = [text if len(text) <= _LONGEST_REPORT else text[:_LONGEST_REPORT] + " ..." for text in reports]
    if len(shown) > _MAX_REPORTS:
        rest = f"... and {len(shown) - _MAX_REPORTS} more; the ledger and the quarantine have them all"
        shown = [*shown[:_MAX_REPORTS], rest]
    create_markdown_artifact(
        key="gate",
        markdown="\n\n".join(shown),
        description="What the quality gate stopped, or rejected rows of",
    )


def show_freshness(outcomes: Sequence[Outcome]) -> None:
    """A table of how fresh each symbol is online; a run that made nothing new and has no problem shows none."""
    if any(outcome.bars or outcome.problem for outcome in outcomes):
        create_table_artifact(
            key="freshness",
            table=freshness_rows(outcomes),
            description="Closed bars that an open market has made since the newest one online",
        )


def freshness_rows(outcomes: Sequence[Outcome]) -> list[dict[str, str]]:
    """One row per symbol, one column per timeframe: its age in bars and whether that is fresh, late or stale.

    At most 40 rows, the stopped and the stalest first.
    """
    cells = {(outcome.symbol, outcome.timeframe): outcome for outcome in outcomes}
    frames = [tf for tf in catalog.TIMEFRAMES if any(tf == timeframe for _, timeframe in cells)]
    worst = {name: max(_rank(outcome) for outcome in outcomes if outcome.symbol == name) for name, _ in cells}
    names = sorted(worst, key=lambda name: (-worst[name], name))
    rows: list[dict[str, str]] = [
        {"symbol": name, **{tf: _cell(cells.get((name, tf)), cells.get((name, ""))) for tf in frames}}
        for name in names[:_MAX_ROWS]
    ]
    if len(names) > _MAX_ROWS:
        rows.append({"symbol": f"and {len(names) - _MAX_ROWS} fresher symbols", **dict.fromkeys(frames, "")})
    return rows


def _rank(outcome: Outcome) -> float:
    return float("inf") if outcome.problem else -1 if outcome.age_bars is None else outcome.age_bars


def _cell(outcome: Outcome | None, of_symbol: Outcome | None) -> str:
    if any(each and each.problem for each in (outcome, of_symbol)):
        return "stopped"
    if outcome is None or outcome.age_bars is None:
        return "-"
    return f"{outcome.age_bars:,} {freshness_of(outcome.timeframe, outcome.age_bars)}"
