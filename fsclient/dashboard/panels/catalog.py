"""The catalog as defined and as registered: indicators, the lineage of fields, views with their versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash import html

from feature_repo.catalog import INDICATORS, PRODUCER, VIEWS
from feature_repo.meaning import meaning_of
from fsclient.dashboard import formats, widgets
from fsclient.dashboard.sources import Sources


def lineage(field: str) -> tuple[str, ...]:
    """The steps from the source to the name that a strategy reads."""
    indicator = PRODUCER.get(field)
    if indicator is None:
        return ("source file", "quality gate", "bars", f"ohlcv_*:{field}", "latest_* service")
    parameters = ", ".join(f"{name}={number:g}" for name, number in indicator.parameters.items())
    return (
        f"bars ({', '.join(indicator.inputs)})",
        f"{indicator.kind.name}({parameters})",
        "quality gate",
        f"indicators_*:{field}",
        "latest_* service",
    )


def catalog() -> html.Div:
    """All indicators with their definitions."""
    rows = []
    for indicator in INDICATORS.values():
        parameters = ", ".join(f"{k}={v:g}" for k, v in indicator.parameters.items())
        bounds = (
            f"{_bound(indicator.low)} to {_bound(indicator.high)}"
            if (indicator.low is not None or indicator.high is not None)
            else "none"
        )
        rows.append(
            {
                "name": indicator.name,
                "kind": indicator.kind.name,
                "parameters": parameters or formats.ABSENT,
                "inputs": ", ".join(indicator.inputs),
                "outputs": ", ".join(indicator.outputs),
                "lookback": f"{indicator.lookback:,}",
                "warm_up": "all history" if indicator.warm_up is None else f"{indicator.warm_up:,}",
                "bounds": bounds,
                "digest": html.Code(meaning_of(indicator).digest),
            }
        )
    columns = {"name": "indicator", "kind": "kind", "parameters": "parameters", "inputs": "inputs",
               "outputs": "fields", "lookback": "lookback", "warm_up": "warm-up", "bounds": "bounds",
               "digest": "definition"}  # fmt: skip
    texts = ["parameters", "inputs", "outputs"]
    return widgets.table(columns, rows, numbers=["lookback", "warm_up"], wrapped=texts, height=460)


def _bound(value: float | None) -> str:
    return "any" if value is None else f"{value:.4g}"


def lineages(fields: Sequence[str]) -> list[html.Div]:
    """The lineage of each field, from the source to the name that a strategy reads."""
    chains = []
    for field in ("close", *fields):
        links: list[Any] = []
        for step in lineage(field):
            links += [html.B(step), "→"]
        chains.append(html.Div([html.Strong(field), *links[:-1]], className="chain"))
    return chains


def versions(sources: Sources) -> html.Div:
    """The registered views."""
    definitions, why = sources.ask(lambda o: o.definitions(), None)
    if why:
        return widgets.unanswered(why)
    if definitions is None:
        return widgets.empty("The registry is being read", "It appears in a few seconds.")
    if not definitions:
        return widgets.empty(
            "Nothing is registered", "Register the definitions with ", widgets.code("fstore apply"), "."
        )
    order = {name: n for n, name in enumerate(VIEWS)}
    rows = [
        {"view": d.view, "version": d.version or "first", "updated": formats.moment(d.updated)}
        for d in sorted(definitions, key=lambda d: order.get(d.view, len(order)))
    ]
    return widgets.table({"view": "view", "version": "version", "updated": "registered (UTC)"}, rows, height=220)
