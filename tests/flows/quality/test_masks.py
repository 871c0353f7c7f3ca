"""Great-expectations and the masks read a rule the same way: for any table, both find a fault or neither does."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_repo.catalog import symbol, timeframe
from flows.quality import suite
from flows.quality.masks import bad_rows, batch_problem
from flows.quality.rules import (
    Ascending,
    InOrder,
    NotEmpty,
    Present,
    Rule,
    Typed,
    Unique,
    Within,
    bar_rules,
    indicator_rules,
)

BAR_RULES = bar_rules(symbol("EUR/USD"), timeframe("1m"))
MINUTES = st.one_of(st.none(), st.integers(0, 6))


def times(minutes):
    start = pd.Timestamp("2024-01-01", tz="UTC")
    values = [pd.NaT if m is None else start + pd.Timedelta(minutes=m) for m in minutes]
    return pd.Series(values, dtype="datetime64[us, UTC]")


def numbers(*bounds):
    """Numbers that a rule can be wrong about: its bounds, their neighbours, and what arithmetic leaves behind."""
    edges = [near for b in bounds for near in (b, math.nextafter(b, -math.inf), math.nextafter(b, math.inf))]
    return st.sampled_from([*edges, math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, 1.1])


@st.composite
def tables(draw, rule):
    """Small tables of the columns that a rule names; about half of them keep it."""
    n = draw(st.integers(0 if isinstance(rule.demand, NotEmpty) else 1, 6))

    def column(values):
        return draw(st.lists(values, min_size=n, max_size=n))

    match rule.demand:
        case Typed(dtypes=dtypes):
            table = pd.DataFrame(
                {name: pd.Series([None] * n, dtype=dtype) for name, dtype in zip(rule.columns, dtypes, strict=True)}
            )
            name = draw(st.sampled_from(rule.columns))
            fault = draw(st.sampled_from(["none", "none", "missing", "twice", "other"]))
            if fault == "missing":
                return table.drop(columns=name)
            if fault == "twice":
                return pd.concat([table, table[[name]]], axis=1)
            if fault == "other":
                dtype = draw(st.sampled_from(["float32", "object", "datetime64[ns, UTC]", "datetime64[us]"]))
                return table.drop(columns=name).assign(**{name: pd.Series([None] * n, dtype=dtype)})
            return table
        case NotEmpty():
            return pd.DataFrame({"open_time": times([0] * n)})
        case Present(unless=unless):
            values = times(column(MINUTES)) if "time" in rule.columns[0] else column(numbers())
            flags = {unless: np.array(column(st.booleans()), dtype=bool)} if unless else {}
            return pd.DataFrame({rule.columns[0]: values, **flags})
        case Within(low=bool()):
            return pd.DataFrame({rule.columns[0]: np.array(column(st.booleans() | st.just(True)), dtype=bool)})
        case Within(low=low, high=high):
            inside = st.sampled_from([low, high, math.nan])
            values = column(draw(st.sampled_from([inside, numbers(low, high)])))
            return pd.DataFrame({rule.columns[0]: np.array(values, dtype=float)})
        case InOrder():
            return pd.DataFrame({name: np.array(column(numbers()), dtype=float) for name in rule.columns})
        case Unique(values=(key, *values)):
            keys = times(draw(st.permutations([*range(n)])) if draw(st.booleans()) else column(MINUTES))
            return pd.DataFrame({key: keys, **{v: np.array(column(st.sampled_from([1.0, 1.0, 2.0]))) for v in values}})
        case Ascending():
            minutes = column(MINUTES)
            in_order = draw(st.booleans())
            return pd.DataFrame({rule.columns[0]: times(sorted(m or 0 for m in minutes) if in_order else minutes)})
    raise AssertionError(rule)


def assert_agree(rule, table):
    by_rows = bool(batch_problem([rule], table)) or bool(bad_rows(rule, table).any())
    evaluation = suite.evaluate((rule,), table)
    assert evaluation.success is not by_rows
    assert evaluation.expectations == 1


@pytest.mark.parametrize("rule", BAR_RULES, ids=lambda rule: rule.name)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_both_agree_on_every_bar_rule(rule, data):
    assert_agree(rule, data.draw(tables(rule)))


@given(data=st.data(), rule=st.sampled_from(indicator_rules()))
@settings(max_examples=300, deadline=None)
def test_both_agree_on_indicator_rules(data, rule):
    assert_agree(rule, data.draw(tables(rule)))


def test_names_are_unique():
    for rules in (BAR_RULES, indicator_rules()):
        assert len({rule.name for rule in rules}) == len(rules)


def unique(*minutes, close):
    rule = Rule(name="u", description="", columns=("t",), demand=Unique(values=("t", "close")))
    return bad_rows(rule, pd.DataFrame({"t": times(minutes), "close": close})).tolist()


def test_of_contradicting_rows_none_is_good():
    assert unique(0, 1, 1, 1, 2, close=[1.0, 1.0, 1.0, 2.0, 1.0]) == [False, True, True, True, False]


def test_of_repeated_rows_the_first_is_good():
    assert unique(0, 1, 1, 1, close=[1.0, np.nan, np.nan, np.nan]) == [False, False, True, True]


def test_a_row_is_behind_the_latest_before_it():
    rule = Rule(name="a", description="", columns=("t",), demand=Ascending())
    table = pd.DataFrame({"t": times([0, 3, None, 1, 2, 3, 4])})
    assert bad_rows(rule, table).tolist() == [False, False, False, True, True, False, False]
