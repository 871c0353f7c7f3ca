"""What counts as the same number: between sources, and between computations."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from feature_repo.agreement import RELATIVE, agree, equal, same_number

NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
PRICES = st.floats(1e-6, 1e7)


def column(*values: float) -> np.typing.NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


@given(NUMBERS)
def test_a_number_agrees_with_itself(number: float) -> None:
    """Unknown with unknown, too, and a zero with its negative."""
    for same in (equal, same_number, agree):
        assert same(column(number), column(number)).all()
    assert equal(column(0.0), column(-0.0)).all()


@given(NUMBERS.filter(lambda number: not np.isnan(number)))
def test_unknown_agrees_with_no_number(number: float) -> None:
    for same in (equal, same_number, agree):
        assert not same(column(number), column(np.nan)).any()
        assert not same(column(np.nan), column(number)).any()


@given(NUMBERS, NUMBERS)
def test_who_is_asked_first_does_not_matter(left: float, right: float) -> None:
    for same in (equal, agree):
        assert same(column(left), column(right)) == same(column(right), column(left))


@given(PRICES)
def test_two_sources_differ_by_their_rounding_alone(price: float) -> None:
    """A tick is never noise: not the smallest, of the eighth decimal."""
    assert same_number(column(0.176), column(0.17600000000000002)).all()
    assert same_number(column(price), column(np.nextafter(price, np.inf))).all()
    if price < 1e3:
        assert not same_number(column(price), column(price + 1e-8)).any()


@given(PRICES, st.floats(-1, 1))
def test_two_computations_agree_within_the_promise(value: float, share: float) -> None:
    assert agree(column(value), column(value * (1 + 0.99 * share * RELATIVE))).all()
    assert not agree(column(value), column(value * (1 + 3 * RELATIVE))).any()


def test_a_value_near_zero_is_held_against_its_column() -> None:
    """A MACD of 1e-12 is what is left of prices around 1; in a column of such values it is a value."""
    among_prices = agree(column(1.0, 1e-12), column(1.0, 3e-12))
    alone = agree(column(2e-12, 1e-12), column(2e-12, 3e-12))
    assert (among_prices.tolist(), alone.tolist()) == ([True, True], [True, False])


def test_an_infinite_value_does_not_hide_what_differs() -> None:
    assert agree(column(np.inf, 1.0), column(np.inf, 2.0)).tolist() == [True, False]
    assert agree(column(np.inf), column(-np.inf)).tolist() == [False]


def test_nothing_agrees_with_nothing() -> None:
    for same in (equal, same_number, agree):
        assert same(column(), column()).shape == (0,)
