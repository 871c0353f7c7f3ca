"""Commands that move data: demo, apply, materialize; and status."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from feature_repo import catalog
from flows.cli import show
from flows.cli.arguments import AsJson, Symbols, Timeframes, check_names
from flows.cli.ingest import ingested, print_reports
from flows.settings import Settings, load_settings
from flows.stack.configuration import prefect_engine

if TYPE_CHECKING:
    from flows.runs.outcome import Outcome


def demo() -> None:
    """Run the main job on the bundled real bars: check, store, compute, publish, look up."""
    from flows.sources import DEMO, bundled, read_bars

    settings, started = load_settings(), time.monotonic()
    files = {file: bundled(file) for _, _, file in DEMO}  # before anything is written
    show.line(("fstore demo", "bold"), f"  real bars; all files are written below {settings.home}\n")
    _applied(settings, accept=False)
    reports = []
    for symbol, timeframe, file in DEMO:
        bars = read_bars(files[file], symbol=catalog.symbol(symbol), timeframe=catalog.timeframe(timeframe))
        reports.append(ingested(bars, symbol, timeframe, settings))
    print_reports(reports)
    outcomes = materialized(None, None, settings)
    print_outcomes(outcomes)
    if not sum(r.stored + r.revised for r in reports) + sum(o.stored + o.revised for o in outcomes):
        show.out.print("[green]Nothing new:[/] every bar and every value was already stored; nothing was written.\n")
    _print_newest()
    show.out.print(f"\nDone in {time.monotonic() - started:.1f} s. Try next:\n{_NEXT}", soft_wrap=True)
    if any(o.problem for o in outcomes) or any(r.stopped for r in reports):
        raise typer.Exit(1)


_NEXT = """
  [cyan].venv/bin/fstore latest EUR/USD GOOG --timeframe 1d[/]
  [cyan].venv/bin/fstore get EUR/USD --start 2018-01-01 --end 2018-01-05 --timeframe 4h --indicators sma_20,rsi_14[/]
  [cyan].venv/bin/fstore ingest YOUR.csv --symbol GBP/USD --timeframe 1m[/]
  [cyan].venv/bin/fstore materialize[/]
  [cyan].venv/bin/fstore status[/]
  [cyan]cd feature_repo && ../.venv/bin/feast ui --host 127.0.0.1[/]"""


def apply(
    accept: Annotated[bool, typer.Option("--accept", help="Accept changed definitions as a new version.")] = False,
    as_json: AsJson = False,
) -> None:
    """Register the definitions as `feast apply` does, but refuse to change the meaning of a served name."""
    changes = _applied(load_settings(), accept=accept, quiet=as_json)
    if as_json:
        show.dump(changes)


def materialize(
    timeframe: Timeframes = None,
    symbol: Symbols = None,
    as_json: AsJson = False,
) -> None:
    """Turn new bars into derived timeframes and indicators, check them, and store them offline and online."""
    check_names(symbol, timeframe)
    outcomes = materialized(symbol, timeframe, load_settings())
    if as_json:
        show.dump([asdict(o) for o in outcomes])
    else:
        print_outcomes(outcomes)
    if any(o.problem for o in outcomes):
        raise typer.Exit(1)


def status(as_json: AsJson = False) -> None:
    """Show where everything runs and is stored, and how fresh each view is, in bars."""
    from feature_repo.stores.redis.embedded import running_server
    from flows.inspect.status import freshness
    from flows.stack import stack_lines

    settings = load_settings()
    repo = settings.repo()
    redis = "set by FSTORE_REDIS_URL" if repo.redis_url else running_server(repo.home) or "embedded, started on demand"
    rows = freshness(settings, datetime.now(UTC))
    if as_json:
        stack = dict(stack_lines(settings))
        where = {"home": str(settings.home), "offline": repo.offline, "redis": redis}
        show.dump({**where, "stack": stack, "views": rows})
        return
    places = [("home", settings.home), ("offline", repo.offline), ("redis", redis), *stack_lines(settings)]
    show.line("\n".join(f"{what:<16}{where}" for what, where in places) + "\n")
    if not rows:
        show.out.print("No bars yet. Try [cyan]fstore demo[/] or [cyan]fstore ingest FILE --symbol … --timeframe …[/]")
        return
    columns = {"name": "symbol", "source": "made from", "offline": "offline as of (UTC)",
               "online": "online as of (UTC)", "age_bars": "age in bars", "freshness": "freshness"}  # fmt: skip
    caption = "age: bars closed in open hours since the online one"
    show.table("Freshness", [show.named(row) for row in rows], columns, caption)
    for row in rows:
        if row["problem"]:
            show.problem(row["symbol"], row["timeframe"], row["problem"], state="unreadable")


# ------------------------------------------------------------------------------------------------- the steps


def _applied(settings: Settings, *, accept: bool, quiet: bool = False) -> dict[str, list[str]]:
    from flows.apply import apply_definitions

    with show.err.status("registering the definitions"):
        changes = apply_definitions(settings.repo().feature_store(), accept=accept)
    if not quiet:
        counts = ", ".join(f"{len(names)} {what}" for what, names in changes.items() if names)
        show.out.print(f"Definitions: {counts} feature views.\n")
    return changes


def materialized(symbols: list[str] | None, timeframes: list[str] | None, settings: Settings) -> list[Outcome]:
    with prefect_engine(settings):
        with show.err.status("starting Prefect"):
            from flows.engine.states import result_of
            from flows.materialize.flow import materialize as flow
        with show.progress("materialize"):
            outcomes: list[Outcome] = result_of(flow(symbols=symbols, timeframes=timeframes, return_state=True))
    return outcomes


def print_outcomes(outcomes: Sequence[Outcome]) -> None:
    if not outcomes:
        show.out.print("No bars to materialize. Load some with [cyan]fstore ingest FILE --symbol … --timeframe …[/]")
        return
    columns = {"name": "symbol", "bars": "bars made", "stored": "stored", "revised": "revised",
               "unchanged": "unchanged", "quarantined": "quarantined", "published": "published",
               "as_of": "as of (UTC)", "age_bars": "age in bars"}  # fmt: skip
    show.table(
        "Materialized: bars to indicators to the online store", [show.named(asdict(o)) for o in outcomes], columns
    )
    for o in outcomes:
        if o.problem:
            show.problem(o.symbol, o.timeframe, o.problem)
    show.out.print()


def _print_newest() -> None:
    import asyncio

    from flows.cli.lookups import client

    features = ["close", "sma_50", "rsi_14", "macd", "bb_percent_b", "atr_14", "adx_14", "supertrend_direction"]

    async def read() -> list[Any]:
        async with client() as reader:
            return [await reader.get_latest(["EUR/USD"], features, timeframe=tf) for tf in ("1h", "4h")]

    frames = dict(zip(("1h", "4h"), asyncio.run(read()), strict=True))
    rows = [{"feature": name, **{tf: f[name].iloc[0] for tf, f in frames.items()}} for name in features]
    closes = {"feature": "bar closed (UTC)", **{tf: f["event_timestamp"].iloc[0] for tf, f in frames.items()}}
    columns = {"feature": "EUR/USD", "1h": "1h", "4h": "4h"}
    show.table("Newest features, as a strategy reads them", [closes, *rows], columns)
