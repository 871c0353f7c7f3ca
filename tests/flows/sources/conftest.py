from collections.abc import Callable
from pathlib import Path

import pytest

from feature_repo.catalog import symbol, timeframe
from flows.sources import SourceBars, SourceOptions, read_bars
from tests.postgres import postgres_url  # noqa: F401 - a fixture

Read = Callable[..., SourceBars]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write a text to a file and read its bars, of EUR/USD and one hour unless stated otherwise."""

    def write_and_read(
        text: str | bytes,
        *,
        ask: str | None = None,
        name: str = "bars.csv",
        symbol_name: str = "EUR/USD",
        timeframe_name: str = "1h",
        **options: object,
    ) -> SourceBars:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        ask_path = None
        if ask is not None:
            ask_path = tmp_path / "ask.csv"
            ask_path.write_text(ask)
        return read_bars(
            path,
            symbol=symbol(symbol_name),
            timeframe=timeframe(timeframe_name),
            options=SourceOptions(**options),
            ask=ask_path,
        )

    return write_and_read
