"""What Prefect's UI shows of a run, each under a key that stays: the gate's report and how fresh the symbols are."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from prefect.artifacts import create_image_artifact, create_markdown_artifact

from flows.engine.freshness_chart import draw
from flows.runs.outcome import Outcome

_MAX_REPORTS = 20
_LONGEST_REPORT = 20_000


def show_gate(reports: Sequence[str]) -> None:
    """The gate's reports (Markdown) of what a run stopped or rejected rows of; nothing when all was well."""
    if not reports:
        return
    shown = [one if len(one) <= _LONGEST_REPORT else one[:_LONGEST_REPORT] + " ..." for one in reports[:_MAX_REPORTS]]
    if len(reports) > len(shown):
        shown.append(f"... and {len(reports) - len(shown)} more; the ledger and the quarantine have them all")
    create_markdown_artifact(
        key="gate",
        markdown="\n\n".join(shown),
        description="What the quality gate stopped, or rejected rows of",
    )


def show_freshness(outcomes: Sequence[Outcome]) -> None:
    """A chart of how old each symbol is online, in bars; a run that made nothing new and has no problem draws none."""
    if any(o.bars or o.problem for o in outcomes):
        svg = base64.b64encode(draw(outcomes).encode()).decode()
        create_image_artifact(
            key="freshness",
            image_url=f"data:image/svg+xml;base64,{svg}",
            description="Closed bars that an open market has made since the newest one online",
        )
