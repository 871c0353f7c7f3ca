"""Every row of a source ends somewhere, once; what is stored is stored once; what was known stays readable."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from feature_repo.catalog import BAR_FIELDS, SYMBOLS, TIMEFRAMES
from feature_repo.series import Series
from feature_repo.stores.delta.tables import DeltaTables
from flows.ingest.ingest import IngestReport, ingest
from flows.ledger import Ledger
from flows.sources import SourceBars, read_bars

Make = Callable[..., pd.DataFrame]
Take = Callable[..., IngestReport]

HEADER = "time,open,high,low,close,volume"
GOOD = "1.1,1.2,1.0,1.15,7"
OTHER = "1.1,1.2,1.0,1.16,7"
BAD = "1.1,1.0,1.2,1.15,7"  # high below low


def ends(report: IngestReport) -> int:
    return report.stored + report.revised + report.unchanged + report.quarantined + report.held


def stored_values(tables: DeltaTables, **options: Any) -> np.ndarray:
    rows = tables.read("bars", timeframe="1h", symbols=["EUR/USD"], columns=BAR_FIELDS, **options)
    return np.column_stack([rows[name].to_numpy() for name in BAR_FIELDS])


# ------------------------------------------------------------------------------------------- where rows end


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ingest")


ROWS = st.lists(st.tuples(st.integers(0, 7), st.sampled_from(["good", "other", "bad", "timeless"])), max_size=14)


@profile(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.sets(st.integers(0, 7), max_size=6), rows=ROWS, max_bad_share=st.sampled_from([0.0, 0.4, 0.9]))
def test_every_row_read_ends_in_exactly_one_place(
    folder: Path, now: datetime, before: set[int], rows: list[tuple[int, str]], max_bad_share: float
) -> None:
    for name in ("tables", "ledger.db", "ledger.db-wal", "ledger.db-shm"):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    tables = DeltaTables(str(folder / "tables"))

    def take_in(lines: list[str], share: float) -> IngestReport:
        path = folder / "bars.csv"
        path.write_text("\n".join([HEADER, *lines]) + "\n")
        symbol, timeframe = SYMBOLS["EUR/USD"], TIMEFRAMES["1h"]
        source = read_bars(path, symbol=symbol, timeframe=timeframe)
        with Ledger(f"sqlite:///{folder / 'ledger.db'}", now=now.timestamp) as ledger:
            return ingest(
                source,
                series=Series(symbol=symbol, timeframe=timeframe),
                tables=tables,
                ledger=ledger,
                now=now,
                max_bad_share=share,
            )

    if before:
        take_in([f"2024-01-10T0{slot}:00:00Z,{GOOD}" for slot in sorted(before)], 0.0)
    if not rows:
        return
    text = {"good": GOOD, "other": OTHER, "bad": BAD, "timeless": GOOD}
    lines = [
        f",{GOOD}" if content == "timeless" else f"2024-01-10T0{slot}:00:00Z,{text[content]}" for slot, content in rows
    ]
    report = take_in(lines, max_bad_share)

    # The model: rows that say the same are one; rows that contradict each other are all bad.
    timed = [(slot, content) for slot, content in rows if content != "timeless"]
    versions: dict[int, set[str]] = {}
    for slot, content in timed:
        versions.setdefault(slot, set()).add(content)
    repeated = len(timed) - len(set(timed))
    bad = sum(len(v) for v in versions.values() if len(v) > 1 or v == {"bad"})
    fine = {slot: next(iter(v)) for slot, v in versions.items() if len(v) == 1 and v != {"bad"}}
    timeless = len(rows) - len(timed)
    stopped = not fine or (bad + timeless) / (bad + timeless + len(fine)) > max_bad_share
    revised = {slot for slot, content in fine.items() if slot in before and content == "other"}
    known = {slot for slot, content in fine.items() if slot in before and content == "good"}

    assert report.read == len(rows) == ends(report)
    assert bool(report.stopped) == stopped
    assert report.quarantined == bad + timeless
    assert sum(report.quarantined_by_rule.values()) == report.quarantined
    assert report.unchanged == repeated + (0 if stopped else len(known))
    assert report.held == (len(fine) if stopped else 0)
    assert (report.stored, report.revised) == ((0, 0) if stopped else (len(fine) - len(known | revised), len(revised)))
    stored = before if stopped else before | set(fine)
    assert tables.read("bars").num_rows == len(stored)

    again = take_in(lines, max_bad_share)
    assert (again.read, again.quarantined, again.held) == (report.read, report.quarantined, report.held)
    assert again.stored == again.revised == 0
    assert again.unchanged == report.unchanged + report.stored + report.revised


def test_a_bid_and_its_ask_are_one_row_read(tmp_path: Path, take: Take) -> None:
    (tmp_path / "bid.csv").write_text(f"{HEADER}\n2024-01-10T00:00:00Z,{GOOD}\n2024-01-10T01:00:00Z,{GOOD}\n")
    (tmp_path / "ask.csv").write_text(f"{HEADER}\n2024-01-10T00:00:00Z,{GOOD}\n2024-01-10T02:00:00Z,{GOOD}\n")
    source = read_bars(
        tmp_path / "bid.csv", symbol=SYMBOLS["EUR/USD"], timeframe=TIMEFRAMES["1h"], ask=tmp_path / "ask.csv"
    )
    report = take(source, max_bad_share=0.7)
    assert (report.read, report.stored, report.quarantined) == (3, 1, 2) == (ends(report), 1, 2)
    assert report.quarantined_by_rule == {"no_matching_ask": 1, "no_matching_bid": 1}


# ------------------------------------------------------------------------------------- once, and for ever


def test_the_same_bars_again_store_nothing(make_bars: Make, take: Take, contents: Callable[[], Any]) -> None:
    bars = make_bars(60)
    assert take(bars).stored == 60
    before = contents()
    again = take(bars)
    assert (again.stored, again.revised, again.unchanged) == (0, 0, 60)
    assert contents() == before


def test_a_changed_bar_is_a_revision_and_both_are_readable(
    make_bars: Make, take: Take, tables: DeltaTables, now: datetime
) -> None:
    bars = make_bars(60)
    take(bars, now=now)
    corrected = bars.copy()
    corrected.loc[30, "high"] *= 1.0001
    report = take(corrected, now=now + timedelta(hours=1))
    assert (report.stored, report.revised, report.unchanged) == (0, 1, 59)
    assert np.array_equal(stored_values(tables), corrected[[*BAR_FIELDS]].to_numpy())
    assert np.array_equal(stored_values(tables, as_known_at=now), bars[[*BAR_FIELDS]].to_numpy())
    assert tables.read("bars", all_revisions=True).num_rows == 61


def test_bars_that_overlap_add_only_what_is_new(make_bars: Make, take: Take, tables: DeltaTables) -> None:
    bars = make_bars(60)
    take(bars.head(40))
    report = take(bars.tail(40))
    assert (report.stored, report.unchanged) == (20, 20)
    assert np.array_equal(stored_values(tables), bars[[*BAR_FIELDS]].to_numpy())


def test_a_volume_that_nobody_reported_stays_unknown(make_bars: Make, take: Take, tables: DeltaTables) -> None:
    bars = make_bars(40).assign(volume=math.nan)
    assert take(bars).stored == 40
    assert np.isnan(stored_values(tables)[:, -1]).all()
    assert take(bars).unchanged == 40


def test_a_derived_bar_becomes_an_ingested_one_even_if_its_prices_stay(
    make_bars: Make, take: Take, tables: DeltaTables
) -> None:
    """Or half a file would count as ingested and half as derived."""
    from feature_repo.stores.schemas import SCHEMAS
    from flows.compute.changes import as_table
    from flows.compute.derive import closes

    bars = make_bars(40)
    derived = bars.assign(
        event_timestamp=closes(bars, TIMEFRAMES["1h"]), created=bars["open_time"], source_bars=60, expected_bars=60
    )
    tables.append("bars", as_table(derived, SCHEMAS["bars"], symbol="EUR/USD", timeframe="1h"))
    report = take(bars)
    assert (report.stored, report.revised, report.unchanged) == (0, 40, 0)
    assert tables.read("bars")["source_bars"].null_count == 40
    assert take(bars).unchanged == 40


# ------------------------------------------------------------------------------------------- the quarantine


def break_bars(bars: pd.DataFrame) -> pd.DataFrame:
    """Three bad rows: no close, an infinite high, and an open 100 times too large."""
    broken = bars.copy()
    broken.loc[5, "close"] = math.nan
    broken.loc[9, "high"] = math.inf
    broken.loc[20, "open"] *= 100
    return broken


def test_bad_rows_are_quarantined_with_their_rule_and_their_values(
    make_bars: Make, take: Take, tables: DeltaTables
) -> None:
    bars = break_bars(make_bars(100))
    report = take(bars)
    assert (report.stored, report.quarantined) == (97, 3)
    rejected = tables.read("quarantine").to_pylist()
    assert Counter(row["rule"] for row in rejected) == report.quarantined_by_rule
    by_time = {row["open_time"]: row for row in rejected}
    for position, rule in ((5, "close_missing"), (9, "high_not_finite"), (20, "open_out_of_bounds")):
        bar = bars.loc[position]
        row = by_time[bar["open_time"].to_pydatetime()]
        assert (row["kind"], row["rule"], row["symbol"], row["timeframe"]) == ("bars", rule, "EUR/USD", "1h")
        assert (row["file"], row["line"]) == ("bars.csv", position + 2)
        assert row["event_timestamp"] - row["open_time"] == timedelta(hours=1)
        assert rule in row["rules"].split(",")

        def no_constant(name: str) -> None:
            raise AssertionError(f"{name} is no JSON")

        values = json.loads(row["row"], parse_constant=no_constant)
        assert datetime.fromisoformat(values["open_time"]) == bar["open_time"]
        for name in BAR_FIELDS:
            expected = None if math.isnan(bar[name]) else "inf" if math.isinf(bar[name]) else bar[name]
            assert values[name] == expected  # all digits


def test_bad_rows_are_quarantined_once(make_bars: Make, take: Take, contents: Callable[[], Any]) -> None:
    bars = break_bars(make_bars(100))
    take(bars)
    before = contents()
    assert take(bars).quarantined == 3
    assert contents() == before


def test_a_row_without_a_time_is_quarantined_with_its_text(tmp_path: Path, take: Take, tables: DeltaTables) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(f"{HEADER}\n2024-01-10T00:00:00Z,{GOOD}\n,{GOOD}\n")
    source = read_bars(path, symbol=SYMBOLS["EUR/USD"], timeframe=TIMEFRAMES["1h"])
    assert (take(source, max_bad_share=0.5).stored, take(source, max_bad_share=0.5).quarantined) == (1, 1)
    (row,) = tables.read("quarantine").to_pylist()
    assert (row["rule"], row["open_time"], row["line"]) == ("unreadable_value", None, 3)
    assert json.loads(row["row"]) == {"text": f",{GOOD}"}


# ------------------------------------------------------------------------------------------ stopped batches


def test_too_many_bad_rows_stop_the_symbol_and_nothing_of_it_is_stored(
    make_bars: Make, take: Take, tables: DeltaTables
) -> None:
    bars = break_bars(make_bars(100))
    report = take(bars, max_bad_share=0.02)
    assert report.stopped.startswith("3 % of the rows are bad")
    assert (report.stored, report.held, report.quarantined) == (0, 97, 3)
    assert tables.version("bars") is None
    assert tables.read("quarantine").num_rows == 3
    assert take(bars, max_bad_share=0.03).stored == 97


def test_rows_that_were_rejected_when_they_were_read_are_bad_rows_of_the_batch(
    make_bars: Make, tmp_path: Path, take: Take, tables: DeltaTables, ledger: Ledger
) -> None:
    """An ask of another hour: a half of its bars lie below the bid, and the mids of the rest are nobody's prices."""
    bid = make_bars(100).drop(columns="volume")
    ask = bid.assign(**{name: bid[name].shift(1).bfill() + 1e-5 for name in ("open", "high", "low", "close")})
    for name, side in (("bid", bid), ("ask", ask)):
        side.to_csv(tmp_path / f"{name}.csv", index=False)
    source = read_bars(
        tmp_path / "bid.csv", symbol=SYMBOLS["EUR/USD"], timeframe=TIMEFRAMES["1h"], ask=tmp_path / "ask.csv"
    )
    crossed = len(source.rejected)
    assert 20 < crossed < 80
    report = take(source)
    assert report.stopped == f"{crossed} % of the rows are bad, at most 5 % are tolerated"
    assert (report.stored, report.quarantined, report.held) == (0, crossed, 100 - crossed)
    assert tables.version("bars") is None
    (verdict,) = ledger.verdicts()
    assert (verdict.rows, verdict.bad_rows, dict(verdict.by_rule)) == (100, crossed, {"ask_below_bid": crossed})


def test_an_empty_batch_is_stopped(make_bars: Make, take: Take, contents: Callable[[], Any]) -> None:
    before = contents()
    report = take(make_bars(10).head(0))
    assert (report.read, ends(report), report.stopped) == (0, 0, "empty batch")
    assert len(report.gaps) == 0
    assert contents() == before


def test_a_bar_that_has_not_closed_is_not_stored(make_bars: Make, take: Take, tables: DeltaTables) -> None:
    bars = make_bars(60)
    half_past = bars["open_time"].iloc[-1].to_pydatetime() + timedelta(minutes=30)
    report = take(bars, now=half_past)
    assert (report.stored, report.unfinished, report.quarantined) == (59, 1, 0)
    closed = take(bars, now=half_past + timedelta(minutes=30))
    assert (closed.stored, closed.unchanged) == (1, 59)
    assert tables.read("bars").num_rows == 60


# ----------------------------------------------------------------------------------------------- the report


def test_the_report_tells_gaps_and_peculiarities(make_bars: Make, take: Take) -> None:
    bars = make_bars(200)
    bars.loc[3, ["open", "high", "low", "close"]] = bars.loc[3, "close"]
    bars.loc[4, "volume"] = 0.0
    report = take(bars.drop(index=[50, 51]))
    assert (report.flat, report.zero_volume, report.gaps.missing_total) == (1, 1, 2)
    assert report.gaps.by_kind == {"missing": 1, "across_close": 0, "closed": 1}  # a weekend is no gap
    assert (report.first_open, report.last_open) == (bars["open_time"].iloc[0], bars["open_time"].iloc[-1])


def test_a_quarantined_bar_is_a_gap(make_bars: Make, take: Take) -> None:
    report = take(break_bars(make_bars(100)))
    assert report.gaps.missing_total == 3


def test_a_bar_off_the_grid_is_quarantined_and_disturbs_no_gap(make_bars: Make, take: Take) -> None:
    bars = make_bars(100)
    bars.loc[99, "open_time"] += timedelta(minutes=7)
    report = take(bars)
    assert (report.quarantined_by_rule, report.gaps.missing_total) == ({"off_grid": 1}, 0)


def test_quarantine_and_rows_that_are_no_bars_go_into_one_table(tmp_path: Path, take: Take, make_bars: Make) -> None:
    lines = [f"{t:%Y-%m-%dT%H:%M:%SZ},{GOOD}" for t in make_bars(60)["open_time"]]
    lines[7], lines[8] = f",{GOOD}", lines[8].replace(GOOD, BAD)
    path = tmp_path / "bars.csv"
    path.write_text("\n".join([HEADER, *lines]))
    source: SourceBars = read_bars(path, symbol=SYMBOLS["EUR/USD"], timeframe=TIMEFRAMES["1h"])
    report = take(source)
    assert (report.read, report.stored, report.quarantined) == (60, 58, 2)
