"""Generated bars, a home of the test's own, one embedded server and one Prefect server a session."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feature_repo.catalog import SYMBOLS, TIMEFRAMES, WINDOW_FIELDS, view
from feature_repo.series import Series
from feature_repo.sessions import expected_opens
from feature_repo.stores.delta.tables import DeltaTables
from feature_repo.stores.redis.codec import (
    FENCE_KEY,
    decode_array,
    decode_doubles,
    decode_timestamp,
    entity_key,
    timestamp_key,
)
from feature_repo.stores.redis.codec import field_key as key
from feature_repo.stores.redis.connection import connect
from feature_repo.stores.redis.embedded import ensure_server, stop_server
from flows.ingest.ingest import IngestReport, ingest
from flows.ledger import Ledger, Run
from flows.settings import Settings, load_settings
from flows.sources import SourceBars, SourceNotes

NOW = datetime(2024, 6, 3, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def now() -> datetime:
    """A Monday noon after all generated bars."""
    return NOW


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("server_home")
    yield ensure_server(home)
    stop_server(home)


@pytest.fixture
def redis(server_url: str) -> Iterator[Any]:
    """A client of the session's server, emptied."""
    with connect(server_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def settings(server_url: str, redis: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with a home of the test's own, in the environment too: a flow's tasks read them there."""
    monkeypatch.setenv("FSTORE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FSTORE_REDIS_URL", server_url)
    return load_settings()


@pytest.fixture
def tables(settings: Settings) -> DeltaTables:
    return settings.tables()


@pytest.fixture
def ledger(settings: Settings) -> Iterator[Ledger]:
    """The ledger of the test's home, on a clock that stands at ``NOW``."""
    with Ledger(f"sqlite:///{settings.home / 'ledger.db'}", now=NOW.timestamp) as opened:
        yield opened


_PINGS = "ignore:Do not use the `random` module inside strategies:hypothesis.errors.HypothesisDeprecationWarning"


@pytest.fixture(scope="session")
def prefect_server(environment: None, pytestconfig: pytest.Config) -> Iterator[str]:
    """The URL of a real Prefect server with an empty database; flows in this process use it.

    From then on a thread of Prefect's draws a random number for each ping of its WebSocket, every 20 s or sooner, and
    Hypothesis takes that for a strategy's.
    """
    pytestconfig.addinivalue_line("filterwarnings", _PINGS)
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=90):
        yield PREFECT_API_URL.value()


@pytest.fixture(scope="session")
def make_bars() -> Callable[..., pd.DataFrame]:
    """``n`` bars that an open market makes from ``start`` on: a random walk within the symbol's price bounds."""

    def make(
        n: int,
        timeframe: str = "1h",
        symbol: str = "EUR/USD",
        *,
        start: datetime = datetime(2024, 1, 8, tzinfo=UTC),
        seed: int = 0,
    ) -> pd.DataFrame:
        spec, tf = SYMBOLS[symbol], TIMEFRAMES[timeframe]
        first = int(start.timestamp() * 1e6)
        opens = expected_opens(spec.session, tf, first, first + tf.microseconds * (2 * n + 5000))[:n]
        rng = np.random.default_rng(seed)
        close = 2 * spec.price_min * np.exp(np.cumsum(rng.normal(0, 3e-4, n)))
        open_ = np.concatenate([close[:1], close[:-1]])
        return pd.DataFrame(
            {
                "open_time": pd.DatetimeIndex(opens.view("datetime64[us]")).tz_localize("UTC"),
                "open": open_,
                "high": np.maximum(open_, close) * (1 + rng.uniform(0, 1e-4, n)),
                "low": np.minimum(open_, close) * (1 - rng.uniform(0, 1e-4, n)),
                "close": close,
                "volume": rng.integers(1, 1000, n).astype(np.float64),
            }
        )

    return make


@pytest.fixture(scope="session")
def source_of() -> Callable[[pd.DataFrame], SourceBars]:
    """Bars as a source that was read without fault."""

    def make(bars: pd.DataFrame) -> SourceBars:
        frame = bars.assign(file="bars.csv", line=np.arange(len(bars)) + 2)
        notes = SourceNotes(files=("bars.csv",), rows_read=len(bars), out_of_order=0, duplicates=0, detected={})
        none = frame.head(0)[["file", "line", "open_time"]].assign(raw="", rule="", detail="")
        return SourceBars(frame=frame, rejected=none, notes=notes)

    return make


Take = Callable[..., IngestReport]


@pytest.fixture
def take(tables: DeltaTables, ledger: Ledger, source_of: Callable[[pd.DataFrame], SourceBars]) -> Take:
    """Ingests bars into the test's tables."""

    def run(
        bars: pd.DataFrame | SourceBars,
        timeframe: str = "1h",
        symbol: str = "EUR/USD",
        *,
        now: datetime = NOW,
        max_bad_share: float = 0.05,
        final: bool | None = None,
        **options: Any,
    ) -> IngestReport:
        source = bars if isinstance(bars, SourceBars) else source_of(bars)
        return ingest(
            source,
            series=Series(symbol=SYMBOLS[symbol], timeframe=TIMEFRAMES[timeframe]),
            tables=tables,
            ledger=ledger,
            now=now,
            max_bad_share=max_bad_share,
            final=final,
            **options,
        )

    return run


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineViews:
    """The three online views of a symbol and timeframe.

    Attributes:
        closes: each of the three views' bar close.
        scalars: the ``ohlcv`` and ``indicators`` views.
        window: field -> array.
    """

    closes: tuple[datetime, ...]
    scalars: dict[str, float]
    window: dict[str, np.typing.NDArray[np.float64]]


@pytest.fixture
def read_online(redis: Any, settings: Settings) -> Callable[..., OnlineViews | None]:
    """Reads the online store as Feast lays it out; None where it has nothing."""

    def read(symbol: str = "EUR/USD", timeframe: str = "1h") -> OnlineViews | None:
        stored = redis.hgetall(entity_key(symbol, settings.repo().project))
        views = [view(kind, timeframe) for kind in ("ohlcv", "indicators", "window")]
        stamps = [stored.get(timestamp_key(v.name)) for v in views]
        if not any(stamps):
            return None
        fields = [(v, name) for v in views[:2] for name in v.fields]
        values, present = decode_doubles([stored.get(key(v.name, name)) for v, name in fields])
        assert present.all()
        return OnlineViews(
            closes=tuple(datetime.fromtimestamp(decode_timestamp(stamp) / 1e6, UTC) for stamp in stamps),
            scalars={name: float(value) for (_, name), value in zip(fields, values, strict=True)},
            window={name: decode_array(stored[key(views[2].name, name)]) for name in WINDOW_FIELDS},
        )

    return read


@pytest.fixture
def contents(redis: Any, tables: DeltaTables) -> Callable[[], tuple[Any, ...]]:
    """All that is stored, to compare before and after: each table's version, and the online store's bytes (except the
    last writer's token).
    """

    def read() -> tuple[Any, ...]:
        versions = [tables.version(table) for table in ("bars", "indicators", "quarantine")]
        online = {name: redis.hgetall(name) for name in redis.scan_iter("*", _type="hash")}
        for stored in online.values():
            stored.pop(FENCE_KEY, None)
        return *versions, online

    return read


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, which must be JSON without NaN or Infinity."""

        def refuse(name: str) -> None:
            raise AssertionError(f"{name} is no JSON")

        return json.loads(self.out, parse_constant=refuse)


@pytest.fixture
def fstore(settings: Settings, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """The command in this process, on the test's own home and the session's server."""
    from flows.cli import main

    def run(*arguments: str) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*arguments])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.out + printed.err
        return Ended(code=int(ended.value.code or 0), out=printed.out, err=printed.err)

    return run


@pytest.fixture
def published(make_bars: Callable[..., pd.DataFrame], take: Take, settings: Settings, ledger: Ledger) -> pd.DataFrame:
    """700 hours of EUR/USD, ingested, computed and online; GBP/USD is a symbol without bars."""
    from flows.materialize import materialize_symbols

    bars = make_bars(700)
    take(bars)
    materialize_symbols(
        Run(ledger=ledger, tables=settings.tables(), now=NOW), ["EUR/USD"], ["1h", "4h", "1d"], settings
    )
    return bars
