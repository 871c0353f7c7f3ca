"""How the command line prints the findings of verify, explain and gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from feature_repo.moments import to_datetime
from flows.cli import show

if TYPE_CHECKING:
    from flows.inspect.explain import Explanation
    from flows.inspect.gaps import GapReport
    from flows.verify.symbol import Parity


def print_parity(parities: Sequence[Parity], sample: int | None, seed: int) -> None:
    """Prints one row per series, and the doubts that were lifted."""
    if not parities:
        show.out.print("No bars to verify. Load some with [cyan]fstore ingest FILE --symbol … --timeframe …[/]")
        return
    rows = [show.named(asdict(parity)) | {"differs": sum(parity.by_rule.values())} for parity in parities]
    columns = {"name": "symbol", "rows": "recomputed", "online": "online", "due": "run due", "differs": "differences",
               "state": "state"}  # fmt: skip
    caption = f"a sample of {sample} symbols, chosen with --seed {seed}" if sample else ""
    show.table("Online = offline = recomputed", rows, columns, caption)
    for parity in parities:
        name = f"{parity.symbol} {parity.timeframe}"
        if parity.cleared:
            show.line(f"{name}  is no longer in doubt")
        if parity.state == "due":
            show.line(f"{name}  waits for a run, so nothing was compared: `fstore materialize`, then verify it")
        if parity.state == "unsettled":
            show.line(f"{name}  another run was working on it; verify it again: {parity.reason}")


def print_explanation(explanation: Explanation) -> None:
    """Prints the value, where it comes from, and its revisions."""
    value = "no value" if explanation.stored is None else repr(explanation.stored)
    show.line((f"{explanation.symbol} {explanation.timeframe} {explanation.feature}", "bold"), f"  {value}\n")
    market = "open" if explanation.expected else "closed"
    facts = {
        "bar": f"{show.cell(explanation.open_time)} to {show.cell(explanation.event_timestamp)} UTC, "
        f"trading day {explanation.trading_day}, session {explanation.session} ({market})",
        "made by": _made_by(explanation),
        "from": _made_from(explanation),
        "warm-up": _warm_up(explanation),
        "stored": show.cell(explanation.stored),
        "recomputed": "ingested as is" if explanation.kind == "ingested" else show.cell(explanation.recomputed),
        "online": _online(explanation),
        "agree": show.cell(explanation.agree),
        "written by": explanation.written_by,
        "in doubt": explanation.doubt,
    }
    for name, text in facts.items():
        if text:
            show.line((f"  {name:<11}", "dim"), text)
    show.out.print()
    if explanation.from_shown:
        shown = [dict(row) for row in explanation.from_shown]
        show.table(f"The last {len(shown)} bars it was computed from", shown, {name: name for name in shown[0]})
    revisions = [{"created": known.created, "value": known.value} for known in explanation.revisions]
    show.table("Revisions", revisions, {"created": "from (UTC)", "value": "value"})
    if explanation.quarantined:
        rejected = [asdict(row) for row in explanation.quarantined]
        columns = {"kind": "kind", "rule": "rule", "detail": "detail", "created": "rejected (UTC)"}
        show.table("Rejected rows of this bar", rejected, columns)


def _made_by(explanation: Explanation) -> str:
    if explanation.kind != "indicator":
        return explanation.kind
    parameters = ", ".join(f"{name}={value:g}" for name, value in explanation.parameters.items())
    return f"{explanation.indicator}({parameters}) of {', '.join(explanation.inputs)}"


def _made_from(explanation: Explanation) -> str:
    if not explanation.from_bars or explanation.from_first is None or explanation.from_last is None:
        return ""
    text = (
        f"{explanation.from_bars:,} bars of {explanation.from_timeframe}, {explanation.from_first:%Y-%m-%d %H:%M} to "
        f"{explanation.from_last:%Y-%m-%d %H:%M}"
    )
    return text if explanation.expected_bars is None else f"{text}; {explanation.expected_bars:,} expected"


def _warm_up(explanation: Explanation) -> str:
    if explanation.kind != "indicator":
        return ""
    needed = "all history" if explanation.warm_up is None else f"{explanation.warm_up:,} bars"
    lacking = (
        "" if explanation.warm_up is None or explanation.preceding >= explanation.warm_up else ": not converged yet"
    )
    return f"needs {needed}, has {explanation.preceding:,}{lacking}"


def _online(explanation: Explanation) -> str:
    if explanation.online_as_of is None:
        return "nothing is online"
    as_of = f"newest bar online closed {explanation.online_as_of:%Y-%m-%d %H:%M}"
    return f"{show.cell(explanation.online)} ({as_of})" if explanation.in_window else f"the bar is not online ({as_of})"


def print_gaps(report: GapReport, *, show_all: bool, as_json: bool) -> None:
    """Prints one row per gap, and one row per outage of a whole feed."""
    rows = [
        {
            "symbol": name,
            "timeframe": report.timeframe,
            "start": to_datetime(gap.start_us),
            "end": to_datetime(gap.end_us),
            "missing_bars": gap.missing_bars,
            "kind": gap.cause,
        }
        for name, gaps in report.gaps.items()
        for gap in gaps
        if show_all or gap.cause != "closed"
    ]
    outages = [
        {
            "session": session,
            "start": to_datetime(outage.start_us),
            "end": to_datetime(outage.end_us),
            "symbols": outage.symbols,
            "quoting": outage.quoting,
        }
        for session, session_outages in report.outages.items()
        for outage in session_outages
    ]
    if as_json:
        show.dump({"gaps": rows, "outages": outages})
        return
    if not report.gaps:
        show.out.print(f"No {report.timeframe} bars of these symbols are stored.")
        return
    if rows:
        columns = {"name": "symbol", "start": "first missing (UTC)", "end": "next bar (UTC)",
                   "missing_bars": "missing", "kind": "kind"}  # fmt: skip
        show.table("Gaps", [show.named(row) for row in rows], columns)
    else:
        show.line(f"No gaps: {sum(report.bars.values()):,} {report.timeframe} bars, none missing in open hours.")
    if outages:
        columns = {"session": "feed", "start": "down from (UTC)", "end": "until (UTC)", "symbols": "symbols lacking",
                   "quoting": "of"}  # fmt: skip
        show.table("The feed was down", outages, columns)
