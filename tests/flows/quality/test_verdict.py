import numpy as np

from feature_repo.catalog import symbol, timeframe
from flows.quality import bar_rules

RULES = f"{len(bar_rules(symbol('EUR/USD'), timeframe('1m')))} rules"


def test_a_passed_batch_is_reported_in_one_line(make_bars, check):
    report = check(make_bars()).as_markdown()
    assert report == (
        "## EUR/USD 1m bars: passed\n\n"
        f"200 rows: 200 may be stored, 0 quarantined. {RULES}, 0 of them broken; 4 expectations evaluated.\n"
    )


def test_the_report_names_broken_rules_and_bad_rows(make_bars, check):
    bars = make_bars()
    bars.loc[3, "close"] = np.nan
    bars.loc[5, "high"] = 0.9
    lines = check(bars).as_markdown().splitlines()
    assert lines[0] == "## EUR/USD 1m bars: passed"
    assert f"200 rows: 198 may be stored, 2 quarantined. {RULES}, 4 of them broken" in lines[2]
    assert "| close_missing | close is known. | 1 |" in lines
    assert "### Bad rows" in lines
    assert "| 2024-01-01 00:03:00+00:00 | close_missing | close=nan |" in lines


def test_the_report_of_many_bad_rows_shows_the_first(make_bars, check):
    report = check(make_bars().assign(close=np.nan)).as_markdown()
    assert "stopped: 100 % of the rows are bad" in report
    assert "### The first 20 of 200 bad rows" in report
    assert report.count("close=nan") == 20


def test_the_report_of_a_refused_batch_says_why(make_bars, check):
    report = check(make_bars().drop(columns="close")).as_markdown()
    assert report.startswith("## EUR/USD 1m bars: stopped: column 'close' is missing\n")
    assert "| wrong_columns |" in report


def test_the_report_counts_rows_rejected_by_the_reader_and_shows_those_of_the_gate(make_bars, check):
    bars = make_bars()
    bars.loc[3, "close"] = np.nan
    verdict = check(bars, rejected={"ask_below_bid": 4})
    lines = verdict.as_markdown().splitlines()
    assert (verdict.passed, verdict.rows, verdict.bad_rows, len(verdict.bad)) == (True, 204, 5, 1)
    assert f"204 rows: 199 may be stored, 5 quarantined. {RULES}, 1 of them broken" in lines[2]
    assert "| ask_below_bid | reads as a bar | 4 |" in lines
    assert "### Bad rows" in lines
    stopped = check(make_bars(), rejected={"ask_below_bid": 11})
    assert stopped.reason == "5.213 % of the rows are bad, at most 5 % are tolerated"


def test_the_repr_shows_no_rows(make_bars, check):
    assert len(repr(check(make_bars()))) < 300
