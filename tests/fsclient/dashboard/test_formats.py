"""Numbers, spans and moments are written in one way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsclient.dashboard import formats

NOW = datetime(2024, 6, 26, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (formats.count(None), "–"), (formats.count(0), "0"), (formats.count(99_999), "99,999"),  # noqa: RUF001
        (formats.count(123_456), "123 k"), (formats.count(4_560_000), "4.56 M"), (formats.count(7.5e9), "7.50 G"),
        (formats.share(0), "0 %"), (formats.share(1), "100 %"), (formats.share(0.00004), "< 0.1 %"),
        (formats.share(0.99999), "> 99.9 %"), (formats.share(0.125), "12.5 %"),
        (formats.duration(2.81e-5), "28.1 µs"), (formats.duration(0.0123), "12.3 ms"),
        (formats.duration(1.5), "1.50 s"), (formats.duration(150), "2 min 30 s"), (formats.duration(7300), "2 h 1 min"),
        (formats.span(300), "5 min"), (formats.span(7200), "2 h"),
        (formats.duration(1e6), "11 d"), (formats.duration(float("nan")), "–"),  # noqa: RUF001
        (formats.value(1.229041), "1.22904"), (formats.value(54321.5), "54,321.5"),
        (formats.value(-0.00162318), "-0.00162318"),
        (formats.value(float("nan")), "–"), (formats.bars(0), "0"), (formats.bars(54_726), "54,726"),  # noqa: RUF001
        (formats.ago(NOW - timedelta(seconds=90), NOW), "90 s ago"),
        (formats.ago(NOW - timedelta(hours=5), NOW), "5 h ago"),
        (formats.moment(NOW), "2024-06-26 12:30"),
        (formats.plural(1, "run"), "1 run"), (formats.plural(2, "run"), "2 runs"),
    ],
)  # fmt: skip
def test_as_written(text: str, expected: str) -> None:
    assert text == expected


@given(st.floats(1e-9, 1e15))
def test_three_digits_and_no_exponent(number: float) -> None:
    assert "e" not in formats.digits(number)
    assert formats.count(number)
    assert formats.duration(number)
