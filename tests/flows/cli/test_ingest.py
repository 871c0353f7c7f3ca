"""``fstore ingest``: what it reports, and how it names what it cannot read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from feature_repo.stores.delta.tables import DeltaTables
from flows.settings import Settings

Run = Callable[..., Any]
BARS = ("--symbol", "EUR/USD", "--timeframe", "1h")
HEADER = "time,open,high,low,close,volume\n"
GOOD = "2024-01-08T00:00:00Z,1.1,1.2,1.0,1.15,7\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path("bars.csv")


@pytest.fixture
def written(make_bars: Callable[..., pd.DataFrame], file: Path) -> pd.DataFrame:
    """A file of 100 hours with a hole, a flat bar and a bad one."""
    bars = make_bars(100).drop(index=[40, 41]).reset_index(drop=True)
    bars.loc[10, ["open", "high", "low", "close"]] = bars.loc[10, "close"]
    bars.loc[20, "close"] *= 100
    bars.rename(columns={"open_time": "time"}).to_csv(file, index=False, float_format="%.17g")
    return bars


def test_the_report_and_then_nothing_new(fstore: Run, file: Path, written: pd.DataFrame, tables: DeltaTables) -> None:
    first = fstore("ingest", str(file), *BARS, "--json")
    assert first.code == 0
    report = first.json
    assert (report["read"], report["stored"], report["quarantined"]) == (98, 97, 1)
    assert report["quarantined_by_rule"] == {"close_out_of_bounds": 1}
    assert (report["flat"], report["missing"], len(report["gaps"])) == (1, 3, 2)
    assert pd.Timestamp(report["first_open"]) == written["open_time"].iloc[0]
    again = fstore("ingest", str(file), *BARS, "--json").json
    assert (again["stored"], again["unchanged"], again["quarantined"]) == (0, 97, 1)
    good = written.drop(index=20)
    assert tables.read("bars", columns=["close"])["close"].to_pylist() == good["close"].tolist()  # all digits


def test_the_table_shows_the_same(fstore: Run, file: Path, written: pd.DataFrame) -> None:
    ended = fstore("ingest", str(file), *BARS)
    assert ended.code == 0
    row = next(line.split() for line in ended.out.splitlines() if line.startswith(" EUR/USD"))
    assert row == ["EUR/USD", "1h", "2024-01-08", "to", "2024-01-12", "98", "97", "0", "0", "1", "2", "3"]
    assert "quarantined, close_out_of_bounds: 1; gaps in open hours: 2; flat bars: 1" in ended.out


def test_the_zone_is_asked_about_before_anything_is_stored(
    fstore: Run, file: Path, make_bars: Callable[..., pd.DataFrame], tables: DeltaTables
) -> None:
    """A broker's own times, without a zone and taken for UTC: its Friday seems to go on after the market's close."""
    bars = make_bars(200)
    server = bars["open_time"].dt.tz_convert("Europe/Athens").dt.tz_localize(None)
    bars.assign(open_time=server).rename(columns={"open_time": "time"}).to_csv(file, index=False, float_format="%.17g")
    refused = fstore("ingest", str(file), *BARS)
    assert refused.code == 1
    assert "its weekend begins and ends 2 hours late" in refused.err
    assert "Use --tz Europe/Athens, or --tz UTC if the times are UTC" in refused.err
    assert tables.version("bars") is None
    assert tables.version("quarantine") is None
    strange = fstore("ingest", str(file), *BARS, "--tz", "UTC")
    assert strange.code == 0
    assert "bars out of trading hours: 2" in strange.out
    assert "its weekend begins and ends 2 hours late" in strange.out
    stated = fstore("ingest", str(file), "--symbol", "AUD/USD", "--timeframe", "1h", "--tz", "Europe/Athens")
    assert stated.code == 0
    assert "bars out of trading hours" not in stated.out
    assert "weekend" not in stated.out


def test_a_refused_batch_says_which_rows_and_what_may_be_done(fstore: Run, file: Path, tables: DeltaTables) -> None:
    """As candles of an exchange that came back from an outage off the hour."""
    times = pd.date_range("2024-01-08", periods=60, freq="h", tz="UTC").to_series()
    times.iloc[-6:] += pd.Timedelta("11m 5.25s")
    rows = "".join(f"{time.isoformat()},1.1,1.2,1.0,1.15,7\n" for time in times)
    file.write_text(HEADER + rows)
    refused = fstore("ingest", str(file), *BARS)
    assert refused.code == 1
    assert "10 % of the rows are bad, at most 5 % are tolerated; nothing of it was stored" in refused.err
    assert (
        "off_grid, 6 of 60 rows: bars.csv line 56 at 2024-01-10 06:11:05.250; "
        "bars.csv line 57 at 2024-01-10 07:11:05.250; bars.csv line 58 at 2024-01-10 08:11:05.250\n"
    ) in refused.err
    assert "off_grid: --tz states another zone" in refused.err
    assert "max_bad_share is 0.05: if the other rows are right, --max-bad-share 0.1 stores them" in refused.err
    accepted = fstore("ingest", str(file), *BARS, "--max-bad-share", "0.1", "--json")
    assert (accepted.code, accepted.json["stored"], accepted.json["refusal"]) == (0, 54, [])


def test_options_about_what_a_file_does_not_say(fstore: Run, file: Path, tables: DeltaTables) -> None:
    file.write_text(
        "pair,time,open,high,low,close,volume\n"
        "6E,02/03/2023 10:00,1.1,1.2,1.0,1.15,7\n"
        "6B,02/03/2023 10:00,1.2,1.3,1.1,1.25,7\n"
    )
    options = ("--instrument", "6E", "--dayfirst", "--volume", "none")
    assert fstore("ingest", str(file), *BARS, *options).code == 0
    (bar,) = tables.read("bars", columns=["open", "volume"]).to_pylist()
    assert (bar["open_time"].isoformat()[:10], bar["open"]) == ("2023-03-02", 1.1)
    assert bar["volume"] is None or pd.isna(bar["volume"])
    for missing, why in (("--instrument", "in one file"), ("--dayfirst", "day or month first")):
        less = [o for o in options if o not in (missing, "6E" if missing == "--instrument" else "")]
        refused = fstore("ingest", str(file), *BARS, *less)
        assert refused.code == 1
        assert why in refused.err


def test_a_crossed_tick_counts_by_its_share_of_the_ticks(fstore: Run, file: Path) -> None:
    """One bad quote of fifty is 2 %, whatever few bars the others make."""
    rows = [f"2024-01-08T09:00:{second:02}Z,1.1000,1.1002" for second in range(50)]
    rows[20] = "2024-01-08T09:00:20Z,1.1900,1.1002"
    file.write_text("\n".join(["time,bid,ask", *rows, "2024-01-08T09:01:00Z,1.1,1.1002", ""]))
    minutes = ("--symbol", "EUR/USD", "--timeframe", "1m", "--json")
    report = fstore("ingest", str(file), *minutes).json
    assert (report["stored"], report["quarantined_by_rule"]) == (1, {"ask_below_bid": 1})
    rows[21:25] = [row.replace("1.1000", "1.1900") for row in rows[21:25]]
    file.write_text("\n".join(["time,bid,ask", *rows, "2024-01-08T09:01:00Z,1.1,1.1002", ""]))
    refused = fstore("ingest", str(file), *minutes)
    assert (refused.code, refused.json["quarantined_by_rule"]) == (1, {"ask_below_bid": 5})


def test_too_many_bad_rows_end_with_1_and_store_nothing(fstore: Run, file: Path, tables: DeltaTables) -> None:
    file.write_text(HEADER + GOOD + "2024-01-08T01:00:00Z,1.1,1.0,1.2,1.15,7\n")
    ended = fstore("ingest", str(file), *BARS)
    assert ended.code == 1
    assert ended.err == (
        "stopped EUR/USD 1h: 50 % of the rows are bad, at most 5 % are tolerated; nothing of it was stored\n"
        "  low_above_open, 1 of 2 rows: bars.csv line 3 at 2024-01-08 01:00:00 (low=1.2, open=1.1)\n"
        "  low_above_open: --columns says which column is which\n"
        "  max_bad_share is 0.05: if the other rows are right, --max-bad-share 0.5 stores them\n"
    )
    as_json = fstore("ingest", str(file), *BARS, "--json")
    assert (as_json.code, as_json.json["held"], as_json.json["stored"]) == (1, 1, 0)
    assert tables.version("bars") is None


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        (
            "time,open,high,low\n2024-01-08T00:00:00Z,1.1,1.2,1.0\n",
            "bars.csv, line 1: no column for close; its columns are 'time', 'open', 'high', 'low'. "
            "Name them with --columns close=NAME.",
        ),
        (
            HEADER + GOOD + "2024-01-08T01:00:00Z,1.1,1.2,n.a. [x],1.15,7\n",
            "bars.csv, line 3: low is 'n.a. [x]', not a number. "
            "Correct or delete the line; numbers are written with a point, as 1.0716.",
        ),
        (
            HEADER + GOOD + "2024-01-08T01:00:00Z,1.1,1.2\n",
            "bars.csv, line 3: unreadable line, 3 fields instead of 6: '2024-01-08T01:00:00Z,1.1,1.2'. "
            "Correct or delete the line, or download the file again if it was cut off.",
        ),
        (
            HEADER + "noon,1.1,1.2,1.0,1.15,7\n",
            "bars.csv, line 2: time is 'noon', not a time. "
            "Correct or delete the line; times are best written as 2019-10-17T09:00:00Z.",
        ),
        ("", "bars.csv: the file is empty. Download it again, or remove it."),
    ],
)
def test_what_cannot_be_read_is_one_line_with_its_place_and_its_remedy(
    fstore: Run, file: Path, settings: Settings, text: str, reported: str
) -> None:
    file.write_text(text)
    ended = fstore("ingest", str(file), *BARS)
    assert (ended.code, ended.out, ended.err) == (1, "", f"error {reported}\n")
    assert not settings.home.exists()


def test_an_unknown_time_zone_is_one_line_with_its_remedy(fstore: Run, file: Path, settings: Settings) -> None:
    file.write_text(HEADER + GOOD)
    ended = fstore("ingest", str(file), *BARS, "--tz", "Mars/Olympus")
    assert ended.code == 2
    assert ended.err == (
        "error unknown time zone 'Mars/Olympus'. --tz takes IANA names, as Europe/London, Etc/GMT+5 or UTC.\n"
    )
    assert not settings.home.exists()


def test_options_reach_the_reader(fstore: Run, file: Path, tables: DeltaTables) -> None:
    file.write_text("when;o;h;l;Last\n2024-01-08 01:00;1.1;1.2;1.0;1.15\n")
    columns = "open_time=when,open=o,high=h,low=l,close=Last"
    options = ("--tz", "America/New_York", "--stamp", "close", "--delimiter", ";", "--columns", columns)
    assert fstore("ingest", str(file), *BARS, *options).code == 0
    (bar,) = tables.read("bars").to_pylist()
    assert (bar["open_time"].isoformat(), bar["close"]) == ("2024-01-08T05:00:00+00:00", 1.15)


def test_bid_and_ask_files_make_mid_prices(fstore: Run, file: Path, tables: DeltaTables) -> None:
    file.write_text(HEADER + GOOD)
    Path("ask.csv").write_text(HEADER + GOOD.replace("1.15", "1.17"))
    ended = fstore("ingest", str(file), *BARS, "--ask", "ask.csv", "--json")
    assert (ended.code, ended.json["read"], ended.json["stored"]) == (0, 1, 1)
    assert tables.read("bars")["close"].to_pylist() == [1.16]


def test_extended_hours_are_stored_and_kept_out_of_longer_bars(
    fstore: Run, file: Path, make_bars: Callable[..., pd.DataFrame]
) -> None:
    """A stock from 04:00 to 20:00 New York; hourly, over two days."""
    days = [pd.date_range(f"2024-01-{day} 09:00", periods=16, freq="h", tz="UTC") for day in ("04", "05")]
    bars = make_bars(32, symbol="AAPL").assign(open_time=days[0].append(days[1]).as_unit("us"))
    bars.rename(columns={"open_time": "time"}).to_csv(file, index=False, float_format="%.17g")
    ended = fstore("ingest", str(file), "--symbol", "AAPL", "--timeframe", "1h")
    assert ended.code == 0
    assert "bars out of trading hours: 18" in ended.out
    assert "AAPL 1h  longer bars are made without those out of trading hours" in ended.out


def test_another_feed_is_stored_with_revise(fstore: Run, file: Path, make_bars: Callable[..., pd.DataFrame]) -> None:
    bars = make_bars(100)
    bars.rename(columns={"open_time": "time"}).to_csv(file, index=False, float_format="%.17g")
    assert fstore("ingest", str(file), *BARS).code == 0
    bars[["open", "high", "low", "close"]] += 0.0001
    bars.rename(columns={"open_time": "time"}).to_csv(file, index=False, float_format="%.17g")
    ended = fstore("ingest", str(file), *BARS)
    assert ended.code == 1
    assert "100 of 100 bars that are stored already would change (100 %, at most 20 % may)" in ended.err
    assert fstore("ingest", str(file), *BARS, "--revise", "--json").json["revised"] == 100


def test_prices_are_taken_as_they_are_when_asked_for(
    fstore: Run, file: Path, make_bars: Callable[..., pd.DataFrame]
) -> None:
    bars = make_bars(100)
    bars.loc[:49, ["open", "high", "low", "close"]] *= 2
    bars.rename(columns={"open_time": "time"}).to_csv(file, index=False, float_format="%.17g")
    ended = fstore("ingest", str(file), *BARS)
    assert ended.code == 1
    assert "50 bars from 2024-01-08 00:00 to 2024-01-10 01:00 UTC are 2 times the prices beside them" in ended.err
    assert "--as-is" in ended.err
    assert fstore("ingest", str(file), *BARS, "--as-is", "--json").json["stored"] == 100
