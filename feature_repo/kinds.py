"""What a kind of indicator is, one row per kind. Everything that differs between kinds is read from here.

A new kind is a row of ``KINDS``, its kernel in ``feature_repo.kernels`` and its formula in a test.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, get_args

from feature_repo import kernels
from feature_repo.kernels import BoolArray, Carried, FloatArray, converged

Parameters = Mapping[str, float]
Kernel = Callable[..., tuple[FloatArray, ...]]
Resume = Callable[[list[FloatArray], Carried, int, Parameters], dict[str, FloatArray] | None]

Memory = Literal["window", "recursive", "cumulative", "day"]
"""What a value depends on: its window's bars; all bars before it, less and less; all bars since history began, each for
good; or the bars of its session day."""
Pane = Literal["price", "indicator", "own"]
"""Where an output is drawn: over the candles; below them, together with the indicator's others; or below by itself."""

INPUTS: tuple[str, ...] = ("open", "high", "low", "close", "volume", "session_day")
"""The columns that a kernel may take; ``session_day`` is the bar's trading day, days since 1970-01-01."""
_DAY_BARS = 1440  # bars of a trading day at the shortest timeframe


class KindError(ValueError):
    """A row of the table of kinds contradicts itself or its kernel; the message names the kind and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of indicator.

    Attributes:
        name: what catalogs and ``compute_feature`` call it.
        kernel: computes it; takes ``inputs`` by position and the parameters by name, returns ``outputs`` in order. The
            kernel of a kind with the memory ``day`` deals with unknown inputs itself; all others never see one.
        inputs: bar columns that the kernel takes.
        outputs: what the kernel returns; an indicator of the catalog has names of its own for them.
        panes: where each output is drawn.
        memory: what a value depends on.
        defaults: the kernel's parameters, with the values that are usual.
        lookback: from parameters, bars that must precede a bar before its value exists.
        settled: from parameters, bars that must precede a bar until its value is within 1e-9 of the value computed from
            all history; of a recursive kind only.
        is_quotient: whether it divides one decaying average by another, so that what came before fades only while the
            market moves; ``settled`` then holds in a market that does, and ``feature_repo.convergence`` decides
            whether it has.
        resume: carries values on from stored ones; of a cumulative kind only. It takes the input columns, the outputs
            as computed from the first row on and as stored, the first row that is new, and the parameters; it returns
            the outputs from that row on, or None when the stored values do not suffice.
        undefined: from the input columns by name, where a value may be unknown beside its lookback and unknown inputs.
        is_relative: whether it divides by a price or takes its logarithm, so that a bar with a price that is not above
            zero is as unknown to it as one without a price.
        is_exact: whether a value is the same to the bit however many bars precede its window: no running sum.
        reads_whole_window: whether the time for a bar grows with the window.

    Raises:
        KindError: the row contradicts itself or its kernel.
    """

    name: str
    kernel: Kernel
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    panes: tuple[Pane, ...]
    memory: Memory
    defaults: Parameters = field(default_factory=dict)
    lookback: Callable[[Parameters], float]
    settled: Callable[[Parameters], float] | None = None
    is_quotient: bool = False
    resume: Resume | None = None
    undefined: Callable[[Mapping[str, FloatArray]], BoolArray] | None = None
    is_relative: bool = False
    is_exact: bool = False
    reads_whole_window: bool = False

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise KindError(f"kind {self.name!r}: {problem}")

    def lookback_of(self, parameters: Parameters) -> int:
        """Bars that must precede a bar before its value exists.

        Raises:
            ValueError: a parameter is out of its range.
        """
        return _bars(self.lookback, parameters)

    def warm_up_of(self, parameters: Parameters) -> int | None:
        """Bars that must precede a bar until its value is within 1e-9 of the value computed from all history.

        None for a cumulative kind, which never forgets where it began.

        Raises:
            ValueError: a parameter is out of its range.
        """
        if self.memory == "cumulative":
            return None
        if self.memory == "day":
            return _DAY_BARS - 1
        bars = self.lookback_of(parameters)
        return bars if self.settled is None else max(bars, _bars(self.settled, parameters))


def _bars(rule: Callable[[Parameters], float], parameters: Parameters) -> int:
    try:
        bars = int(rule(parameters))
    except (TypeError, ValueError, ArithmeticError, KeyError) as error:
        raise ValueError(f"a parameter is out of its range ({type(error).__name__}: {error})") from error
    if bars < 0:
        raise ValueError("a parameter is out of its range: a window has at least one bar")
    return bars


def _problems(kind: Kind) -> list[str]:
    """What is wrong with a row."""
    problems: list[str] = []
    if not re.fullmatch(r"[a-z][a-z0-9_]*", kind.name):
        problems.append("a name is lower-case letters, digits and underscores")
    if unknown := [name for name in kind.inputs if name not in INPUTS]:
        problems.append(f"unknown inputs {', '.join(unknown)}; a kernel takes {', '.join(INPUTS)}")
    if kind.memory not in get_args(Memory):
        problems.append(f"unknown memory {kind.memory!r}; it is one of {', '.join(get_args(Memory))}")
    if len(kind.panes) != len(kind.outputs) or not kind.outputs or len({*kind.outputs}) != len(kind.outputs):
        problems.append("it has one or more outputs of different names, and as many panes")
    if unknown := [pane for pane in kind.panes if pane not in get_args(Pane)]:
        problems.append(f"unknown panes {', '.join(unknown)}; a pane is one of {', '.join(get_args(Pane))}")
    if (kind.settled is not None) != (kind.memory == "recursive"):
        problems.append(
            "`settled` says when a recursive kind has converged: give it to recursive kinds, and only to them"
        )
    if kind.is_quotient and kind.memory != "recursive":
        problems.append("`is_quotient` speaks of decaying averages: set it for recursive kinds only")
    if (kind.resume is not None) != (kind.memory == "cumulative"):
        problems.append("`resume` carries a cumulative kind on: give it to cumulative kinds, and only to them")
    if kind.memory == "day" and "session_day" not in kind.inputs:
        problems.append("a kind with the memory `day` takes the input session_day")
    taken = [*inspect.signature(kind.kernel).parameters.values()]
    columns = tuple(p.name for p in taken if p.kind is p.POSITIONAL_OR_KEYWORD)
    by_name = tuple(p.name for p in taken if p.kind is p.KEYWORD_ONLY)
    if len(columns) != len(kind.inputs) or {*by_name} != {*kind.defaults}:
        problems.append(
            f"its kernel takes the columns ({', '.join(columns)}) and the parameters ({', '.join(by_name)}); "
            f"the row has the inputs ({', '.join(kind.inputs)}) and the defaults ({', '.join(kind.defaults)})"
        )
    if not problems:
        try:
            kind.warm_up_of(kind.defaults), kind.lookback_of(kind.defaults)
        except ValueError as error:
            problems.append(f"with its defaults {dict(kind.defaults)}, {error}")
    return problems


def _window(parameters: Parameters) -> float:
    return parameters["window"]


def _before(parameters: Parameters) -> float:
    """The bars of the window before the last one."""
    return parameters["window"] - 1


def _no_bar(_: Parameters) -> float:
    return 0


def _one_bar(_: Parameters) -> float:
    return 1


def _ema(window: float) -> int:
    return converged(2 / (window + 1))


def _wilder(window: float) -> int:
    return converged(1 / window)


_CLOSE, _HL, _HLC = ("close",), ("high", "low"), ("high", "low", "close")

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind(name="sma", kernel=kernels.sma, inputs=_CLOSE, outputs=("sma",), panes=("price",), memory="window",
                 defaults={"window": 20}, lookback=_before),
            Kind(name="ema", kernel=kernels.ema, inputs=_CLOSE, outputs=("ema",), panes=("price",), memory="recursive",
                 defaults={"window": 20}, lookback=_before, settled=lambda p: p["window"] + _ema(p["window"])),
            Kind(name="macd", kernel=kernels.macd, inputs=_CLOSE, outputs=("macd", "signal", "histogram"),
                 panes=("indicator",) * 3, memory="recursive", defaults={"fast": 12, "slow": 26, "signal": 9},
                 lookback=lambda p: max(p["fast"], p["slow"]) + p["signal"] - 2,
                 settled=lambda p: (max(p["fast"], p["slow"]) + p["signal"] - 2
                                    + _ema(max(p["fast"], p["slow"])) + _ema(p["signal"]))),
            Kind(name="vwap", kernel=kernels.vwap, inputs=(*_HLC, "volume", "session_day"), outputs=("vwap",),
                 panes=("price",), memory="day", lookback=_no_bar, undefined=kernels.no_day_volume),
            Kind(name="rsi", kernel=kernels.rsi, inputs=_CLOSE, outputs=("rsi",), panes=("indicator",),
                 memory="recursive", defaults={"window": 14}, lookback=_window,
                 settled=lambda p: p["window"] + _wilder(p["window"]), is_quotient=True),
            Kind(name="roc", kernel=kernels.roc, inputs=_CLOSE, outputs=("roc",), panes=("indicator",),
                 memory="window", defaults={"window": 10}, lookback=_window, is_relative=True, is_exact=True),
            Kind(name="stochastic", kernel=kernels.stochastic, inputs=_HLC, outputs=("k", "d"),
                 panes=("indicator",) * 2, memory="window", defaults={"fast_k": 14, "slow_k": 3, "slow_d": 3},
                 lookback=lambda p: p["fast_k"] + p["slow_k"] + p["slow_d"] - 3),
            Kind(name="williams_r", kernel=kernels.williams_r, inputs=_HLC, outputs=("williams_r",),
                 panes=("indicator",), memory="window", defaults={"window": 14}, lookback=_before, is_exact=True),
            Kind(name="cci", kernel=kernels.cci, inputs=_HLC, outputs=("cci",), panes=("indicator",),
                 memory="window", defaults={"window": 20}, lookback=_before, is_exact=True,
                 reads_whole_window=True),
            Kind(name="dmi", kernel=kernels.dmi, inputs=_HLC, outputs=("adx", "plus_di", "minus_di"),
                 panes=("indicator",) * 3, memory="recursive", defaults={"window": 14},
                 lookback=lambda p: 2 * p["window"] - 1,
                 settled=lambda p: 2 * p["window"] - 1 + 2 * _wilder(p["window"]), is_quotient=True),
            Kind(name="mfi", kernel=kernels.mfi, inputs=(*_HLC, "volume"), outputs=("mfi",), panes=("indicator",),
                 memory="window", defaults={"window": 14}, lookback=_window, is_relative=True, is_exact=True),
            Kind(name="obv", kernel=kernels.obv, inputs=("close", "volume"), outputs=("obv",), panes=("indicator",),
                 memory="cumulative", lookback=_no_bar, resume=kernels.resume_obv),
            Kind(name="atr", kernel=kernels.atr, inputs=_HLC, outputs=("atr",), panes=("indicator",),
                 memory="recursive", defaults={"window": 14}, lookback=_window,
                 settled=lambda p: p["window"] + _wilder(p["window"])),
            Kind(name="bollinger", kernel=kernels.bollinger, inputs=_CLOSE,
                 outputs=("upper", "middle", "lower", "width", "percent_b"),
                 panes=("price", "price", "price", "own", "own"), memory="window",
                 defaults={"window": 20, "deviations": 2.0}, lookback=_before, is_relative=True, is_exact=True,
                 reads_whole_window=True),
            Kind(name="donchian", kernel=kernels.donchian, inputs=_HL, outputs=("upper", "middle", "lower"),
                 panes=("price",) * 3, memory="window", defaults={"window": 20}, lookback=_before, is_exact=True),
            Kind(name="keltner", kernel=kernels.keltner, inputs=_HLC, outputs=("upper", "middle", "lower"),
                 panes=("price",) * 3, memory="recursive",
                 defaults={"window": 20, "atr_window": 10, "multiplier": 2.0},
                 lookback=lambda p: max(p["window"] - 1, p["atr_window"]),
                 settled=lambda p: (max(p["window"], p["atr_window"] + 1)
                                    + _wilder(p["atr_window"]) + _ema(p["window"]))),
            Kind(name="supertrend", kernel=kernels.supertrend, inputs=_HLC, outputs=("line", "direction"),
                 panes=("price", "own"), memory="cumulative", defaults={"window": 10, "multiplier": 3.0},
                 lookback=_window, resume=kernels.resume_supertrend),
            Kind(name="returns", kernel=kernels.returns, inputs=_CLOSE, outputs=("returns",), panes=("indicator",),
                 memory="window", lookback=_one_bar, is_relative=True, is_exact=True),
            Kind(name="log_returns", kernel=kernels.log_returns, inputs=_CLOSE, outputs=("log_returns",),
                 panes=("indicator",), memory="window", lookback=_one_bar, is_relative=True, is_exact=True),
            Kind(name="volatility", kernel=kernels.volatility, inputs=_CLOSE, outputs=("volatility",),
                 panes=("indicator",), memory="window", defaults={"window": 20}, lookback=_window, is_relative=True,
                 is_exact=True, reads_whole_window=True),
            Kind(name="zscore", kernel=kernels.zscore, inputs=_CLOSE, outputs=("zscore",), panes=("indicator",),
                 memory="window", defaults={"window": 20}, lookback=_before, is_exact=True, reads_whole_window=True),
        )
    }
)  # fmt: skip
