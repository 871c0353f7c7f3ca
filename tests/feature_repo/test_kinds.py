"""The table of kinds: a row that contradicts itself is refused, and a new row is all that a new kind needs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from feature_repo.catalog import INDICATORS, Indicator
from feature_repo.indicators import compute
from feature_repo.kernels import FloatArray
from feature_repo.kinds import KINDS, Kind, KindError
from flows.compute.increment import compute_stretch, stretch_bars
from flows.quality.warm_up import undefined_bars

EVERY = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)


def midrange(high: FloatArray, low: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
    """Mean of the highest high and the lowest low of ``window`` bars, and how wide they lie apart."""
    top, bottom = np.full(high.size, np.nan), np.full(high.size, np.nan)
    for at in range(window - 1, high.size):
        top[at], bottom[at] = high[at - window + 1 : at + 1].max(), low[at - window + 1 : at + 1].min()
    return (top + bottom) / 2, top - bottom


MIDRANGE: dict[str, Any] = {
    "name": "midrange", "kernel": midrange, "inputs": ("high", "low"), "outputs": ("middle", "range"),
    "panes": ("price", "own"), "memory": "window", "defaults": {"window": 4},
    "lookback": lambda parameters: parameters["window"] - 1,
}  # fmt: skip


@EVERY
def test_a_kernel_takes_what_its_row_says(kind: Kind) -> None:
    parameters = inspect.signature(kind.kernel).parameters.values()
    assert tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD) == kind.inputs
    assert inspect.getdoc(kind.kernel), "its docstring is the documentation's formula"


@EVERY
def test_a_kernel_returns_what_its_row_says(kind: Kind) -> None:
    bars = 40
    columns = {name: np.linspace(1.0, 2.0, bars) for name in kind.inputs} | {"session_day": np.zeros(bars)}
    results = kind.kernel(*(columns[name] for name in kind.inputs), **kind.defaults)
    assert len(results) == len(kind.outputs)
    for values in results:
        assert (values.shape, values.dtype) == ((bars,), np.float64)
        assert not np.isnan(values[kind.lookback_of(kind.defaults) :]).any()


@EVERY
def test_the_memory_decides_the_warm_up(kind: Kind) -> None:
    lookback, warm_up = kind.lookback_of(kind.defaults), kind.warm_up_of(kind.defaults)
    match kind.memory:
        case "window":
            assert warm_up == lookback
        case "recursive":
            assert warm_up is not None
            assert warm_up > lookback
        case "day":
            assert warm_up == 1439
        case "cumulative":
            assert warm_up is None


@EVERY
def test_a_kind_that_claims_to_be_exact_is(kind: Kind) -> None:
    """However many bars precede the window, the same to the bit."""
    rng = np.random.default_rng(3)
    close = 1.1 * np.exp(np.cumsum(rng.normal(0, 1e-3, 500)))
    columns = {"open": close, "high": close * 1.001, "low": close * 0.999, "close": close}
    columns |= {"volume": np.ones(500), "session_day": np.zeros(500)}
    if kind.is_exact:
        first = 400 - kind.lookback_of(kind.defaults)
        whole = kind.kernel(*(columns[name] for name in kind.inputs), **kind.defaults)
        part = kind.kernel(*(columns[name][first:] for name in kind.inputs), **kind.defaults)
        for values, tail in zip(whole, part, strict=True):
            np.testing.assert_array_equal(values[400:], tail[400 - first :])


@EVERY
def test_a_kind_is_relative_or_follows_prices_below_zero(kind: Kind) -> None:
    """Of prices that are all lower by one amount, what is not relative is lower by it, or as it was."""
    rng = np.random.default_rng(4)
    close = np.cumsum(rng.integers(-8, 9, 300)).astype(float)
    columns = {"high": close + rng.integers(0, 5, 300), "low": close - rng.integers(0, 5, 300), "close": close}
    columns |= {"open": close, "volume": np.ones(300), "session_day": np.arange(300.0) // 50}

    def values(shift: float) -> list[FloatArray]:
        inputs = [columns[name] + shift * (name in ("open", "high", "low", "close")) for name in kind.inputs]
        return [*kind.kernel(*inputs, **kind.defaults)]

    moved = [below - above for above, below in zip(values(1024.0), values(-1024.0), strict=True)]
    follows = [
        any(np.allclose(shift[~np.isnan(shift)], amount, atol=1e-6) for amount in (0.0, -2048.0)) for shift in moved
    ]
    assert all(follows) is not kind.is_relative


@pytest.mark.parametrize("name", ["returns", "volatility_20", "bollinger_20_2", "mfi_14"])
def test_what_is_relative_is_unknown_where_a_price_is_not_above_zero(name: str) -> None:
    indicator = INDICATORS[name]
    rng = np.random.default_rng(5)
    close = 20 + np.cumsum(rng.normal(0, 0.1, 100))
    columns = {"high": close + 0.1, "low": close - 0.1, "close": close, "volume": np.ones(100)}
    columns |= {"session_day": np.zeros(100)}
    for column in ("high", "low", "close"):
        columns[column][50] = -37.63
    first, again = 50, 51 + indicator.lookback
    for output, values in compute(indicator, columns).items():
        assert np.isnan(values[first:again]).all(), output
        assert not np.isnan(values[indicator.lookback : first]).any(), output
        assert not np.isnan(values[again:]).any(), output
    allowed = undefined_bars(indicator, columns, np.arange(100))
    assert np.flatnonzero(allowed).tolist() == [*range(indicator.lookback), *range(first, again)]
    for name in ("sma_20", "macd_12_26_9", "atr_14", "dmi_14", "supertrend_10_3"):
        for output, values in compute(INDICATORS[name], columns).items():
            assert not np.isnan(values[INDICATORS[name].lookback :]).any(), output


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": "Mid Range"}, "lower-case letters"),
        ({"inputs": ("high", "bid")}, "unknown inputs bid; a kernel takes open, high"),
        ({"inputs": ("high",)}, r"its kernel takes the columns \(high, low\)"),
        ({"memory": "elephant"}, "unknown memory 'elephant'; it is one of window"),
        ({"panes": ("price",)}, "as many panes"),
        ({"panes": ("price", "below")}, "unknown panes below"),
        ({"outputs": ("middle", "middle")}, "of different names"),
        ({"memory": "recursive"}, "`settled` says when a recursive kind has converged"),
        ({"memory": "cumulative"}, "`resume` carries a cumulative kind on"),
        ({"memory": "day"}, "takes the input session_day"),
        ({"defaults": {"window": 4, "weight": 2}}, r"the parameters \(window\)"),
        ({"defaults": {"window": 0}}, "a parameter is out of its range"),
        ({"lookback": lambda p: p["bars"]}, "a parameter is out of its range .KeyError: 'bars'"),
    ],
)
def test_a_row_that_contradicts_itself_is_refused(changes: Mapping[str, Any], problem: str) -> None:
    with pytest.raises(KindError, match=problem) as refused:
        Kind(**{**MIDRANGE, **changes})
    assert str(refused.value).startswith(f"kind {changes.get('name', 'midrange')!r}: ")


def test_a_new_kind_is_its_row_and_its_kernel() -> None:
    """Computed, resumed at a stretch, judged by the gate, drawn, and offered by the client, with nothing else added."""
    indicator = Indicator(name="midrange_4", kind=Kind(**MIDRANGE), parameters={"window": 4}, outputs=("mid", "width"))
    columns = {"high": np.array([3.0, 5.0, 4.0, 6.0, 2.0, 1.0]), "low": np.array([1.0, 2.0, 0.5, 3.0, 1.5, 0.5])}
    values = compute(indicator, columns)
    np.testing.assert_array_equal(values["mid"], [np.nan, np.nan, np.nan, 3.25, 3.25, 3.25])
    np.testing.assert_array_equal(values["width"], [np.nan, np.nan, np.nan, 5.5, 5.5, 5.5])
    assert (indicator.lookback, indicator.warm_up, stretch_bars(indicator)) == (3, 3, 1024)
    part = compute_stretch(indicator, columns, 1, 4, 6, whole=False, state=None)
    np.testing.assert_array_equal(part["mid"], [3.25, 3.25])
    assert undefined_bars(indicator, columns, np.arange(6)).tolist() == [True] * 3 + [False] * 3
    assert [indicator.pane_of(output) for output in indicator.outputs] == ["price", "own"]


def test_a_cumulative_kind_goes_on_from_its_stored_state() -> None:
    """A second kind that never forgets needs no line in the increment: its row resumes it."""

    def count(close: FloatArray) -> tuple[FloatArray, ...]:
        """Bars since history began."""
        return (np.arange(1.0, close.size + 1),)

    def resume(columns: Any, rows: Any, first: int, parameters: Any) -> dict[str, FloatArray]:
        ((name, (computed, stored)),) = rows.items()
        return {name: stored[first - 1] + np.arange(1.0, computed.size - first + 1)}

    kind = replace(KINDS["obv"], name="count", kernel=count, inputs=("close",), outputs=("count",), resume=resume)
    indicator = Indicator(name="count", kind=kind, outputs=("count",))
    stored = {"count": np.array([41.0, 42.0, np.nan])}
    part = compute_stretch(indicator, {"close": np.ones(3)}, 0, 2, 3, whole=False, state=stored)
    assert part["count"].tolist() == [43.0]


def test_the_client_offers_every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsclient.computed import kinds

    kind = Kind(**MIDRANGE)
    monkeypatch.setattr(kinds, "KINDS", {**KINDS, "midrange": kind})
    kinds.templates.cache_clear()
    try:
        offered = kinds.of_kind(kinds.templates()["midrange"])
    finally:
        kinds.templates.cache_clear()
    columns = {"high": np.arange(2.0, 8.0), "low": np.arange(6.0), "close": np.arange(1.0, 7.0)}
    assert [*offered.compute(columns, offered.with_parameters({"window": 2}))] == ["middle", "range"]
    assert offered.warm_up({"window": 2}) == 1


def test_only_the_table_knows_kinds_by_name() -> None:
    """No module decides by the name of a kind: what differs between kinds is in the row."""
    import ast
    from pathlib import Path

    root = Path(__file__).resolve().parents[2]
    table = root / "feature_repo" / "kinds.py"
    places = []
    for path in [p for part in ("feature_repo", "flows", "fsclient") for p in (root / part).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare | ast.Set) and path != table:
                texts = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
                if texts & (KINDS.keys() - {"returns"}):
                    places.append(f"{path.relative_to(root)}:{node.lineno}")
    assert places == []
