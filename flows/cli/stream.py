"""The commands of live bars: stream takes them, replay and listen bring them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from feature_repo import catalog
from flows.cli import show
from flows.cli.arguments import check_range, moment
from flows.settings import Settings, load_settings
from fsclient.errors import InvalidRequestError

if TYPE_CHECKING:
    from flows.stream.feed import Feed


def stream(
    workers: Annotated[int, typer.Option(help="Processes that share the symbols.", min=1, max=16)] = 1,
) -> None:
    """Take live bars: check, compute, publish at once, store in batches; until Ctrl-C or SIGTERM."""
    from flows.stream import serve

    show.line("Taking live bars; Ctrl-C stores what is taken and ends.", to=show.err)
    serve(workers=workers)


def replay(
    symbol: Annotated[str, typer.Argument(help="Such as EUR/USD.")],
    speed: Annotated[float, typer.Option(help="Times as fast as real; 0: as fast as taken.", min=0)] = 60.0,
    source: Annotated[
        Path | None, typer.Option(help="A file or folder of bars, as `fstore ingest` takes; else the demo's.")
    ] = None,
    timeframe: Annotated[str | None, typer.Option(help="Of the bars; the demo's when no source is given.")] = None,
    start: Annotated[str | None, typer.Option(help="First open time; else after the newest stored bar.")] = None,
    end: Annotated[str | None, typer.Option(help="Last open time; a date alone means that whole day.")] = None,
) -> None:
    """Feed real bars of a file into the stream as if they closed now; `fstore stream` takes them."""
    from flows.sources import DEMO, bundled, read_bars
    from flows.stream.replay import newer_than_stored
    from flows.stream.replay import replay as run

    settings, found = load_settings(), catalog.symbol(symbol)
    demo = {name: (tf, file) for name, tf, file in DEMO}
    if source is None and symbol not in demo:
        raise InvalidRequestError(f"the demo has no bars of {symbol}: give some with --source FILE --timeframe 1m")
    if source is not None and timeframe is None:
        raise InvalidRequestError("say which bars the source holds, as --timeframe 1m")
    told, file = (timeframe or "", source) if source else (timeframe or demo[symbol][0], bundled(demo[symbol][1]))
    frame = catalog.timeframe(told)
    if not source and told != demo[symbol][0]:
        raise InvalidRequestError(f"the demo's bars of {symbol} are {demo[symbol][0]}; give others with --source FILE")
    bars = read_bars(file, symbol=found, timeframe=frame).frame
    if start is None:
        bars = newer_than_stored(bars, found, frame, settings.tables())
    first, last = moment(start, "--start"), moment(end, "--end", end=True)
    check_range(first, last)
    inside = (bars["open_time"] >= first if first else True) & (bars["open_time"] <= last if last else True)
    bars = bars[inside].reset_index(drop=True) if first or last else bars.reset_index(drop=True)
    if bars.empty:
        show.line("Nothing to replay: every bar of that span is stored already. --start feeds older ones again.")
        return
    with show.err.status(f"replaying {symbol} {told}") as shown:
        fed = run(
            bars, found, frame, _feed(settings), speed=speed, now=datetime.now(UTC),
            progress=lambda n: shown.update(f"replaying {symbol} {told}: {n:,} of {len(bars):,}"),
        )  # fmt: skip
    show.line(f"Fed {fed:,} bars of {symbol} {told}, {bars['open_time'].iloc[0]} to {bars['open_time'].iloc[-1]}.")


def listen(
    url: Annotated[str, typer.Argument(help="ws:// or wss://, or `binance` with --symbol.")],
    symbol: Annotated[list[str] | None, typer.Option(help="Of `binance`; may be given again.")] = None,
    timeframe: Annotated[str, typer.Option(help="Of `binance`.")] = "1m",
) -> None:
    """Feed a WebSocket's closed bars into the stream, until Ctrl-C."""
    import asyncio
    import contextlib

    from flows.stream.bar import from_json
    from flows.stream.klines import kline_parser, kline_url
    from flows.stream.websocket import receive

    if url == "binance":
        if not symbol:
            raise InvalidRequestError("name what to listen to, as --symbol BTC/USDT")
        url, parse = kline_url(symbol, timeframe), kline_parser(symbol)
    elif not url.startswith(("ws://", "wss://")):
        raise InvalidRequestError("an address begins with ws:// or wss://; or say binance")
    else:
        parse = from_json
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(receive(url, _feed(load_settings()), parse=parse))


def _feed(settings: Settings) -> Feed:
    from feature_repo.stores.redis.connection import connect, online_url
    from flows.stream.feed import Feed

    repo = settings.repo()
    return Feed(connect(online_url(repo), repo.redis_type), repo.project)
