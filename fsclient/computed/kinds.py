"""The catalog's kinds of indicators with parameters of the caller's own, and its fields as they are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from feature_repo.catalog import INDICATORS, PRODUCER, Indicator
from feature_repo.indicators import compute, forgets
from feature_repo.kinds import KINDS
from feature_repo.meaning import kernel_version, meaning_of
from fsclient.computed.computable import Computable, Values
from fsclient.computed.talib_functions import BAD_PARAMETER, refusal
from fsclient.errors import InvalidRequestError


@cache
def templates() -> Mapping[str, Indicator]:
    """Of each kind the indicator with the kind's default parameters; of a kind that has none, one made of it."""
    own = {
        kind.name: Indicator(name=kind.name, kind=kind, parameters=kind.defaults, outputs=kind.outputs)
        for kind in KINDS.values()
    }
    return own | {i.kind.name: i for i in INDICATORS.values() if dict(i.parameters) == dict(i.kind.defaults)}


def of_kind(template: Indicator) -> Computable:
    """A kind, its template's parameters the defaults."""
    kind = template.kind
    outputs = (kind.name,) if len(template.outputs) == 1 else template.outputs

    def with_parameters(parameters: Mapping[str, Any]) -> Indicator:
        try:
            return Indicator(name=kind.name, kind=kind, parameters=parameters, outputs=outputs)
        except ValueError:
            raise InvalidRequestError(refusal(kind.name, parameters, BAD_PARAMETER)) from None

    def run(columns: Values, parameters: Mapping[str, Any]) -> Values:
        indicator = with_parameters(parameters)
        try:
            return compute(indicator, columns)
        except ValueError as error:
            raise InvalidRequestError(refusal(kind.name, parameters, error.__cause__ or error)) from None

    return Computable(
        name=kind.name,
        identity=f"{kind.name}#{kernel_version(kind.kernel)}",
        parameters=template.parameters,
        run=run,
        warm_up=lambda parameters: with_parameters({**template.parameters, **parameters}).warm_up,
        forgets=lambda columns, parameters: forgets(with_parameters(parameters), columns),
        revisits=lambda parameters: int(parameters["window"]) if kind.reads_whole_window else 0,
    )


def of_field(name: str) -> Computable:
    """A field of the catalog, which has no parameters."""
    indicator = PRODUCER[name]
    return Computable(
        name=name,
        identity=f"{name}#{meaning_of(indicator).digest}",
        parameters={},
        run=lambda columns, _: {name: compute(indicator, columns)[name]},
        warm_up=lambda _: indicator.warm_up,
        forgets=lambda columns, _: forgets(indicator, columns),
    )
