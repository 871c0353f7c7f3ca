"""Features that are computed when asked for, by name."""

from __future__ import annotations

from feature_repo.catalog import PRODUCER, did_you_mean
from fsclient.computed.computable import Computable
from fsclient.computed.kinds import of_field, of_kind, templates
from fsclient.computed.registered import registered
from fsclient.computed.talib_functions import NO_FEATURE, of_talib, talib_names
from fsclient.errors import UnknownFeatureError


def computable(name: str) -> Computable:
    """What ``name`` stands for: a registered feature, a kind of the catalog, a TA-Lib function, or a catalog field.

    Raises:
        UnknownFeatureError: none of them; names the nearest.
    """
    name = str(name)
    if name in registered:
        return registered[name]
    if name in templates():
        return of_kind(templates()[name])
    if name in PRODUCER:
        return of_field(name)
    if name.upper() in talib_names():
        return of_talib(name.upper())
    hint = did_you_mean(name, [*registered, *templates(), *PRODUCER, *talib_names()])
    if name.upper() == NO_FEATURE:
        hint = " It takes a period for each bar, which no bar has."
    raise UnknownFeatureError(
        f"unknown feature {name!a}.{hint} compute_feature takes the catalog's kinds, TA-Lib's functions and @feature's"
    )
