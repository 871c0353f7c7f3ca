"""The indicators and the fields that they compute."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from feature_repo.catalog.errors import CatalogError
from feature_repo.kinds import KINDS, Kind, Pane

BAR_FIELDS: tuple[str, ...] = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, slots=True, kw_only=True)
class Indicator:
    """One indicator: a kind with its parameters.

    Attributes:
        name: unique name of the indicator.
        kind: how it is computed.
        parameters: the kernel's keyword arguments.
        outputs: names of the float64 columns that the kernel returns, unique in the catalog.
        low, high: bounds that every value keeps, as the definition implies; None where there is none.
        inputs: bar columns that the kernel takes (``session_day`` is the bar's trading day, days since 1970-01-01).
        lookback: bars that must precede a bar before its value exists; the first ``lookback`` values may be NaN.
        warm_up: bars that must precede a bar until its value is within 1e-9 of the value computed from all history;
            None for a cumulative indicator, which never forgets where it began.

    Raises:
        ValueError: the kind has no such parameters or outputs, or a parameter is out of its range.
    """

    name: str
    kind: Kind
    parameters: Mapping[str, float] = field(default_factory=dict)
    outputs: tuple[str, ...]
    low: float | None = None
    high: float | None = None
    inputs: tuple[str, ...] = field(init=False)
    lookback: int = field(init=False)
    warm_up: int | None = field(init=False)

    def __post_init__(self) -> None:
        what = f"{self.name} with parameters {dict(self.parameters)}"
        if set(self.parameters) != set(self.kind.defaults):
            raise ValueError(f"{what}: {self.kind.name} takes {', '.join(self.kind.defaults) or 'no parameters'}")
        if len(self.outputs) != len(self.kind.outputs):
            raise ValueError(f"{what}: {self.kind.name} has {len(self.kind.outputs)} outputs, not {len(self.outputs)}")
        try:
            object.__setattr__(self, "inputs", self.kind.inputs)
            object.__setattr__(self, "lookback", self.kind.lookback_of(self.parameters))
            object.__setattr__(self, "warm_up", self.kind.warm_up_of(self.parameters))
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from error

    def pane_of(self, output: str) -> Pane:
        """Where one of its outputs is drawn."""
        return self.kind.panes[self.outputs.index(output)]


def _indicator_rows() -> Iterable[Indicator]:
    for n in (5, 10, 20, 50, 100, 200):
        yield _row(f"sma_{n}", "sma", {"window": n}, low=0.0)
    for n in (9, 12, 20, 26, 50, 200):
        yield _row(f"ema_{n}", "ema", {"window": n}, low=0.0)
    for n in (7, 14, 21):
        yield _row(f"rsi_{n}", "rsi", {"window": n}, low=0.0, high=100.0)
    yield _row("macd_12_26_9", "macd", {"fast": 12, "slow": 26, "signal": 9}, ("macd", "macd_signal", "macd_hist"))
    yield _row("bollinger_20_2", "bollinger", {"window": 20, "deviations": 2.0},
               ("bb_upper", "bb_middle", "bb_lower", "bb_width", "bb_percent_b"))  # fmt: skip
    yield _row("atr_14", "atr", {"window": 14}, low=0.0)
    yield _row("dmi_14", "dmi", {"window": 14}, ("adx_14", "plus_di_14", "minus_di_14"), low=0.0, high=100.0)
    yield _row("stochastic_14_3_3", "stochastic", {"fast_k": 14, "slow_k": 3, "slow_d": 3}, ("stoch_k", "stoch_d"),
               low=0.0, high=100.0)  # fmt: skip
    yield _row("cci_20", "cci", {"window": 20})
    yield _row("williams_r_14", "williams_r", {"window": 14}, low=-100.0, high=0.0)
    yield _row("roc_10", "roc", {"window": 10}, low=-100.0)
    yield _row("mfi_14", "mfi", {"window": 14}, low=0.0, high=100.0)
    yield _row("obv", "obv", {})
    yield _row("donchian_20", "donchian", {"window": 20}, ("donchian_upper", "donchian_middle", "donchian_lower"),
               low=0.0)  # fmt: skip
    yield _row("keltner_20", "keltner", {"window": 20, "atr_window": 10, "multiplier": 2.0},
               ("keltner_upper", "keltner_middle", "keltner_lower"))  # fmt: skip
    yield _row("supertrend_10_3", "supertrend", {"window": 10, "multiplier": 3.0},
               ("supertrend", "supertrend_direction"))  # fmt: skip
    yield _row("returns", "returns", {}, low=-1.0)
    yield _row("log_returns", "log_returns", {})
    yield _row("volatility_20", "volatility", {"window": 20}, low=0.0)
    # Of n values none lies more than sqrt(n - 1) population deviations from their mean (Samuelson's inequality).
    yield _row("zscore_20", "zscore", {"window": 20}, low=-math.sqrt(19), high=math.sqrt(19))
    yield _row("vwap", "vwap", {}, low=0.0)


def _row(
    name: str,
    kind: str,
    parameters: Mapping[str, float],
    outputs: tuple[str, ...] = (),
    *,
    low: float | None = None,
    high: float | None = None,
) -> Indicator:
    """One indicator; ``outputs`` are left out when its name is that of its only output."""
    return Indicator(name=name, kind=KINDS[kind], parameters=parameters, outputs=outputs or (name,), low=low, high=high)


INDICATORS: Mapping[str, Indicator] = MappingProxyType({i.name: i for i in _indicator_rows()})
INDICATOR_FIELDS: tuple[str, ...] = tuple(out for i in INDICATORS.values() for out in i.outputs)
PRODUCER: Mapping[str, Indicator] = MappingProxyType({out: i for i in INDICATORS.values() for out in i.outputs})
"""The indicator that computes a field."""


def field_names(names: Iterable[str]) -> tuple[str, ...]:
    """``names`` with each indicator's name replaced by its outputs; a field's own name stays itself.

    Raises:
        CatalogError: a name is neither a bar column, a field nor an indicator.
    """
    fields: list[str] = []
    for name in names:
        if name in PRODUCER or name in BAR_FIELDS:
            fields.append(name)
        elif name in INDICATORS:
            fields.extend(INDICATORS[name].outputs)
        else:
            known = (*BAR_FIELDS, *INDICATOR_FIELDS, *INDICATORS)
            raise CatalogError("feature", name, known, "Features are listed in feature_repo/catalog/indicators.py.")
    return tuple(dict.fromkeys(fields))


def _check() -> None:
    fields = (*BAR_FIELDS, *INDICATOR_FIELDS)
    if len(set(fields)) != len(fields):
        raise ValueError("catalog: two indicators share an output name")
    for name, indicator in INDICATORS.items():
        if name in fields and indicator.outputs != (name,):
            raise ValueError(f"catalog: {name} names both an indicator and a field that is not its only output")


_check()
