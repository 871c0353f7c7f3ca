"""Commands for live bars: stream takes them, replay and listen feed them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from feature_repo import catalog
from flows.cli import show
from flows.cli.arguments import END_HELP, Symbol, check_range, moment
from flows.settings import Settings, load_settings
from fsclient.errors import InvalidRequestError

if TYPE_CHECKING:
    from flows.stream.feed import Feed


def stream(
    workers: Annotated[int, typer.Option(help="Number of processes that share the symbols.", min=1, max=16)] = 1,
) -> None:
    """Take live bars: check, compute and publish each at once, store in batches; until Ctrl-C or SIGTERM."""
    from flows.stream import serve

    show.line("Taking live bars; Ctrl-C stores what was taken and stops.", to=show.err)
    serve(workers=workers)


def replay(
    symbol: Symbol,
    speed: Annotated[float, typer.Option(help="Speed relative to real time; 0 is as fast as possible.", min=0)] = 60.0,
    source: Annotated[
        Path | None, typer.Option(help="File or folder of bars, as for `fstore ingest`; the demo's by default.")
    ] = None,
    timeframe: Annotated[str | None, typer.Option(help="Timeframe of the bars; required with --source.")] = None,
    start: Annotated[str | None, typer.Option(help="First open time; after the newest stored bar by default.")] = None,
    end: Annotated[str | None, typer.Option(help=END_HELP)] = None,
) -> None:
    """Feed the bars of a file to `fstore stream` as if they closed now."""
    from flows.ingest.ingest import unfinished_bars
    from flows.sources import DEMO, bundled, read_bars
    from flows.stream.replay import newer_than_stored
    from flows.stream.replay import replay as run

    settings, spec = load_settings(), catalog.symbol(symbol)
    demo = {name: (tf, file) for name, tf, file in DEMO}
    if source is None and symbol not in demo:
        raise InvalidRequestError(f"the demo has no bars of {symbol}: add --source FILE --timeframe 1m")
    if source is not None and timeframe is None:
        raise InvalidRequestError("--source requires the timeframe of its bars, such as --timeframe 1m")
    name, file = (timeframe or "", source) if source else (timeframe or demo[symbol][0], bundled(demo[symbol][1]))
    frame = catalog.timeframe(name)
    if not source and name != demo[symbol][0]:
        raise InvalidRequestError(f"the demo's bars of {symbol} are {demo[symbol][0]}: for others, add --source FILE")
    read, now = read_bars(file, symbol=spec, timeframe=frame), datetime.now(UTC)
    bars = read.frame[~unfinished_bars(read.frame, frame, now, read.written_at)]
    if start is None:
        bars = newer_than_stored(bars, spec, frame, settings.tables())
    first, last = moment(start, "--start"), moment(end, "--end", end=True)
    check_range(first, last)
    inside = (bars["open_time"] >= first if first else True) & (bars["open_time"] <= last if last else True)
    bars = bars[inside].reset_index(drop=True) if first or last else bars.reset_index(drop=True)
    if bars.empty:
        show.line("Nothing to replay: every bar of that span is stored already. Use --start to feed older bars again.")
        return
    with show.err.status(f"replaying {symbol} {name}") as status:
        fed = run(
            bars,
            spec,
            frame,
            _feed(settings),
            speed=speed,
            now=now,
            progress=lambda n: status.update(f"replaying {symbol} {name}: {n:,} of {len(bars):,}"),
        )
    show.line(f"Fed {fed:,} bars of {symbol} {name}, {bars['open_time'].iloc[0]} to {bars['open_time'].iloc[-1]}.")


def listen(
    url: Annotated[str, typer.Argument(help="WebSocket address (ws:// or wss://), or `binance` with --symbol.")],
    symbol: Annotated[list[str] | None, typer.Option(help="With `binance`: a symbol; may be repeated.")] = None,
    timeframe: Annotated[str, typer.Option(help="With `binance`: the bars' timeframe.")] = "1m",
) -> None:
    """Feed the closed bars of a WebSocket to `fstore stream`, until Ctrl-C."""
    import asyncio
    import contextlib

    from flows.stream.bar import from_json
    from flows.stream.klines import kline_parser, kline_url
    from flows.stream.websocket import receive

    if url == "binance":
        if not symbol:
            raise InvalidRequestError("binance requires a symbol to subscribe to, such as --symbol BTC/USDT")
        url, parse = kline_url(symbol, timeframe), kline_parser(symbol)
    elif not url.startswith(("ws://", "wss://")):
        raise InvalidRequestError("the address must start with ws:// or wss://, or be `binance`")
    else:
        parse = from_json
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(receive(url, _feed(load_settings()), parse=parse))


def _feed(settings: Settings) -> Feed:
    from feature_repo.stores.redis.connection import connect, online_url
    from flows.stream.feed import Feed

    repo = settings.repo()
    return Feed(connect(online_url(repo), repo.redis_type), repo.project)
