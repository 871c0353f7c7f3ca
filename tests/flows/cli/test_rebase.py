"""``fstore rebase``: what it prints, what it refuses, and how it ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_rebase_revises_and_computes_again(make_bars: Any, take: Any, fstore: Any, tables: Any) -> None:
    bars = make_bars(100)
    take(bars)
    ended = fstore("rebase", "EUR/USD", "--factor", "2", "--volume-factor", "0.5", "--before", "2024-06-01", "--json")
    assert ended.code == 0
    assert [(r["timeframe"], r["revised"]) for r in ended.json["rebased"]] == [("1h", 100)]
    assert {o["timeframe"] for o in ended.json["computed"]} == {"1h", "4h", "1d"}
    close = tables.read("indicators", timeframe="1h", symbols=["EUR/USD"], columns=["sma_5"])["sma_5"].to_numpy()
    np.testing.assert_allclose(close[4:], (2 * bars["close"]).rolling(5).mean()[4:], rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["EUR/USD", "--factor", "0", "--before", "2024-06-01"], 2, "--factor must be a number above zero, not 0"),
        (["EUR/USD", "--factor", "nan", "--before", "2024-06-01"], 2, "--factor must be a number above zero"),
        (["EUR/USD", "--factor", "2", "--before", "soon"], 2, "--before"),
        (["EUR/XXX", "--factor", "2", "--before", "2024-06-01"], 2, "unknown symbol"),
        (["EUR/USD", "--factor", "2", "--before", "2024-06-01"], 1, "EUR/USD has no ingested bars before 2024-06-01"),
    ],
)
def test_rebase_refuses(fstore: Any, options: list[str], code: int, message: str) -> None:
    ended = fstore("rebase", *options)
    assert ended.code == code
    assert message in ended.err
