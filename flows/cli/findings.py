"""What verify, explain, backfill and gaps have found, as the command line shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from feature_repo.moments import to_datetime
from flows.cli import show

if TYPE_CHECKING:
    from flows.inspect.explain import Explanation
    from flows.inspect.gaps import GapReport
    from flows.verify.flow import Parity


def named(row: Mapping[str, Any]) -> dict[str, Any]:
    """``row`` with what it is about, such as EUR/USD 1h, as its ``name``."""
    return {**row, "name": f"{row['symbol']} {row['timeframe']}".strip()}


def print_parity(found: Sequence[Parity], sample: int | None, seed: int) -> None:
    """A row a symbol and timeframe, and what is new about its doubts."""
    if not found:
        show.out.print("No bars to verify: [cyan]fstore ingest FILE --symbol … --timeframe …[/] brings some.")
        return
    rows = [named(asdict(one)) | {"differs": sum(one.by_rule.values())} for one in found]
    columns = {"name": "symbol", "rows": "recomputed", "online": "online", "due": "run due", "differs": "differences",
               "state": "state"}  # fmt: skip
    caption = f"a sample of {sample} symbols, chosen with --seed {seed}" if sample else ""
    show.table("Online = offline = recomputed", rows, columns, caption)
    for one in found:
        if one.cleared:
            show.line(f"{one.symbol} {one.timeframe}  is not in doubt any more")
        if one.state == "unsettled":
            show.line(f"{one.symbol} {one.timeframe}  another run was at work on it; verify it again: {one.reason}")


def print_explanation(found: Explanation) -> None:
    """The value, where it comes from, and what was known of it when."""
    value = "no value" if found.stored is None else repr(found.stored)
    show.line((f"{found.symbol} {found.timeframe} {found.feature}", "bold"), f"  {value}\n")
    market = "open" if found.expected else "closed"
    facts = {
        "bar": f"{found.open_time:%Y-%m-%d %H:%M} to {found.event_timestamp:%Y-%m-%d %H:%M} UTC, trading day "
        f"{found.trading_day}, session {found.session} ({market})",
        "made by": _made_by(found),
        "from": _made_from(found),
        "warm-up": _warm_up(found),
        "stored": show.cell(found.stored),
        "recomputed": "it was ingested as it is" if found.kind == "ingested" else show.cell(found.recomputed),
        "online": _online(found),
        "agree": show.cell(found.agree),
        "written by": found.written_by,
        "in doubt": found.doubt,
    }
    for name, text in facts.items():
        if text:
            show.line((f"  {name:<11}", "dim"), text)
    show.out.print()
    if found.from_shown:
        shown = [dict(row) for row in found.from_shown]
        show.table(f"The last {len(shown)} bars it came from", shown, {name: name for name in shown[0]})
    known = [{"created": one.created, "value": one.value} for one in found.revisions]
    show.table("What was known of it when", known, {"created": "from (UTC)", "value": "value"})
    if found.quarantined:
        rejected = [asdict(one) for one in found.quarantined]
        columns = {"kind": "kind", "rule": "rule", "detail": "detail", "created": "rejected (UTC)"}
        show.table("Rejected rows of this bar", rejected, columns)


def _made_by(found: Explanation) -> str:
    if found.kind != "indicator":
        return found.kind
    given = ", ".join(f"{name}={value:g}" for name, value in found.parameters.items())
    return f"{found.indicator}({given}) of {', '.join(found.inputs)}"


def _made_from(found: Explanation) -> str:
    if not found.from_bars or found.from_first is None or found.from_last is None:
        return ""
    text = (
        f"{found.from_bars:,} bars of {found.from_timeframe}, {found.from_first:%Y-%m-%d %H:%M} to "
        f"{found.from_last:%Y-%m-%d %H:%M}"
    )
    return text if found.expected_bars is None else f"{text}; {found.expected_bars:,} expected"


def _warm_up(found: Explanation) -> str:
    if found.kind != "indicator":
        return ""
    needed = "never forgets" if found.warm_up is None else f"{found.warm_up:,} bars"
    lacking = "" if found.warm_up is None or found.preceding >= found.warm_up else ": not converged yet"
    return f"{needed}; {found.preceding:,} are there{lacking}"


def _online(found: Explanation) -> str:
    if found.online_as_of is None:
        return "nothing is online"
    as_of = f"newest bar online closed {found.online_as_of:%Y-%m-%d %H:%M}"
    return f"{show.cell(found.online)} ({as_of})" if found.in_window else f"the bar is not online ({as_of})"


def print_gaps(report: GapReport, *, show_all: bool, as_json: bool) -> None:
    """A row a gap, and a row an outage of a whole feed."""
    rows = [
        {
            "symbol": name,
            "timeframe": report.timeframe,
            "start": to_datetime(gap.start_us),
            "end": to_datetime(gap.end_us),
            "missing_bars": gap.missing_bars,
            "kind": gap.cause,
        }
        for name, found in report.gaps.items()
        for gap in found
        if show_all or gap.cause != "closed"
    ]
    outages = [
        {
            "session": session,
            "start": to_datetime(one.start_us),
            "end": to_datetime(one.end_us),
            "symbols": one.symbols,
            "quoting": one.quoting,
        }
        for session, found in report.outages.items()
        for one in found
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
        show.table("Gaps", [named(row) for row in rows], columns)
    else:
        show.line(f"No gaps: {sum(report.bars.values()):,} {report.timeframe} bars, none missing in open hours.")
    if outages:
        columns = {"session": "feed", "start": "down from (UTC)", "end": "until (UTC)", "symbols": "symbols lacking",
                   "quoting": "of"}  # fmt: skip
        show.table("The feed was down", outages, columns)
