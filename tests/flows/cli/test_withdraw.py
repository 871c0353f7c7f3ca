"""``fstore withdraw`` and ``fstore sources``: what they print and refuse, and that nothing is left of the bars."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from feature_repo.catalog import BAR_FIELDS, INDICATOR_FIELDS
from flows.settings import load_settings

pytestmark = pytest.mark.usefixtures("prefect_server")
FRAMES = ("1h", "4h", "1d")
EURUSD = ("--symbol", "EUR/USD", "--timeframe", "1h")
REASON = ("--reason", "a misprint")


@pytest.fixture
def files(make_bars: Callable[..., pd.DataFrame], tmp_path: Path) -> Callable[..., str]:
    """Writes bars as a file of a name, and returns its path."""

    def write(bars: pd.DataFrame, name: str) -> str:
        bars.rename(columns={"open_time": "time"}).to_csv(tmp_path / name, index=False, float_format="%.17g")
        return str(tmp_path / name)

    return write


@pytest.fixture
def state(read_online: Callable[..., Any]) -> Callable[[], dict[str, bytes]]:
    """The bits of all that is stored and published."""

    def read() -> dict[str, bytes]:
        tables, bits = load_settings().tables(), {}
        for table, fields in (("bars", BAR_FIELDS), ("indicators", INDICATOR_FIELDS)):
            for timeframe in FRAMES:
                rows = tables.read(table, timeframe=timeframe, columns=fields).to_pandas()  # type: ignore[arg-type]
                bits[f"{table} {timeframe}"] = rows["open_time"].to_numpy("datetime64[us]").tobytes()
                for name in fields:
                    bits[f"{table} {timeframe} {name}"] = rows[name].to_numpy(np.float64).tobytes()
        for timeframe in FRAMES:
            views = read_online("EUR/USD", timeframe)
            bits[f"online {timeframe}"] = repr(views.closes).encode()
            bits |= {f"online {timeframe} {name}": np.float64(x).tobytes() for name, x in views.scalars.items()}
            bits |= {f"window {timeframe} {name}": array.tobytes() for name, array in views.window.items()}
        return bits

    return read


def test_what_was_withdrawn_was_never_there_and_does_not_come_back_with_its_file(
    fstore: Any,
    make_bars: Callable[..., pd.DataFrame],
    files: Callable[..., str],
    state: Any,
    redis: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bar in the middle of a day, and a whole file after it."""
    bars = make_bars(130)
    spiked = bars.head(100).copy()
    spiked.loc[50, ["high", "close"]] *= 1.004
    first, second = files(spiked, "first.csv"), files(bars[100:], "second.csv")
    for file in (first, second):
        assert fstore("ingest", file, *EURUSD).code == 0
    assert fstore("materialize", "--symbol", "EUR/USD").code == 0
    listed = fstore("sources", "EUR/USD", "--json").json
    assert [(row["timeframe"], row["name"], row["bars"]) for row in listed] == [
        ("1h", "first.csv", 100),
        ("1h", "second.csv", 30),
    ]
    table = fstore("sources", "EUR/USD").out
    assert [row["digest"][:16] in table for row in listed] == [True, True]

    moment = f"{bars['open_time'][50]:%Y-%m-%dT%H:%M}"
    span = ("--timeframe", "1h", "--start", moment, "--end", moment)
    bar = fstore("withdraw", "EUR/USD", *span, *REASON, "--json")
    assert (bar.code, bar.json["withdrawn"][0]["bars"]) == (0, 1)
    assert {row["timeframe"] for row in bar.json["computed"]} == {*FRAMES}
    file = fstore("withdraw", "EUR/USD", "--source", listed[1]["digest"][:16], *REASON)
    assert file.code == 0
    row = next(line.split() for line in file.out.splitlines() if line.startswith(" EUR/USD"))
    assert row == ["EUR/USD", "1h", f"{bars['open_time'][100]:%Y-%m-%d}", "to", f"{bars['open_time'][129]:%Y-%m-%d}",
                   "30", "0"]  # fmt: skip
    again = [fstore("ingest", each, *EURUSD, "--json").json for each in (first, second)]
    assert [(report["stored"], report["withdrawn"]) for report in again] == [(0, 1), (0, 30)]
    assert fstore("materialize", "--symbol", "EUR/USD").code == 0
    left = state()

    redis.flushall()
    with monkeypatch.context() as patch:
        patch.setenv("FSTORE_HOME", str(tmp_path / "never"))
        assert fstore("ingest", files(spiked.drop(index=50), "never.csv"), *EURUSD).code == 0
        assert fstore("materialize", "--symbol", "EUR/USD").code == 0
        never = state()
    assert {name for name, bits in never.items() if left[name] != bits} == set()

    restored = fstore("ingest", second, *EURUSD, "--restore", "--json").json
    assert (restored["stored"], restored["withdrawn"]) == (30, 0)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["EUR/USD", "--timeframe", "1h", "--start", "2024-01-08", "--end", "2024-01-08"], 2, "--reason"),
        (["EUR/USD", "--source", "f" * 16, "--reason", " "], 1, "a reason is kept with"),
        (["EUR/USD", "--source", "f" * 16, *REASON], 1, "no ingested bars from a source"),
        (["EUR/USD", "--source", "abc", *REASON], 1, "too short"),
        (["EUR/USD", "--timeframe", "1h", "--start", "2024-01-08", *REASON], 1, "say which bars"),
        (["EUR/USD", "--timeframe", "1h", "--start", "2024-02-01", "--end", "2024-01-01", *REASON], 2, "start"),
        (["EUR/XXX", "--source", "f" * 16, *REASON], 2, "unknown symbol"),
    ],
)
def test_withdraw_refuses_in_one_line(
    fstore: Any, take: Any, make_bars: Any, tables: Any, options: list[str], code: int, message: str
) -> None:
    take(make_bars(10))
    version = tables.version("bars")
    ended = fstore("withdraw", *options)
    assert ended.code == code
    assert message in ended.err
    assert tables.version("bars") == version


def test_sources_of_a_symbol_without_bars_and_of_none(fstore: Any) -> None:
    assert fstore("sources", "EUR/USD", "--json").json == []
    unknown = fstore("sources", "EUR/XXX")
    assert (unknown.code, "unknown symbol" in unknown.err) == (2, True)
