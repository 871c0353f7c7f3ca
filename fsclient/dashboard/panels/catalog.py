"""The catalog as it is defined and registered: indicators, what fields are made of, views with their versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dash import html

from feature_repo.catalog import INDICATORS, VIEWS
from fsclient.dashboard import formats, widgets
from fsclient.dashboard.lineage import definition_digest, lineage
from fsclient.dashboard.sources import Sources


def catalog() -> html.Div:
    """Every indicator with its definition."""
    rows = []
    for indicator in INDICATORS.values():
        parameters = ", ".join(f"{k}={v:g}" for k, v in indicator.parameters.items())
        bounds = f"{_bound(indicator.low)} to {_bound(indicator.high)}" if (
            indicator.low is not None or indicator.high is not None) else "free"  # fmt: skip
        rows.append({
            "name": indicator.name, "kind": indicator.kind, "parameters": parameters or formats.ABSENT,
            "inputs": ", ".join(indicator.inputs), "outputs": ", ".join(indicator.outputs),
            "lookback": f"{indicator.lookback:,}",
            "warm_up": "all history" if indicator.warm_up is None else f"{indicator.warm_up:,}",
            "bounds": bounds, "digest": html.Code(definition_digest(indicator)),
        })  # fmt: skip
    columns = {"name": "indicator", "kind": "kind", "parameters": "parameters", "inputs": "inputs",
               "outputs": "fields", "lookback": "lookback", "warm_up": "warm-up", "bounds": "bounds",
               "digest": "definition"}  # fmt: skip
    texts = ["parameters", "inputs", "outputs"]
    return widgets.table(columns, rows, numbers=["lookback", "warm_up"], wrapped=texts, height=460)


def _bound(value: float | None) -> str:
    return "any" if value is None else f"{value:.4g}"


def lineages(fields: Sequence[str]) -> list[html.Div]:
    """What each field is made of."""
    found = []
    for field in ("close", *fields):
        links: list[Any] = []
        for step in lineage(field):
            links += [html.B(step), "→"]
        found.append(html.Div([html.Strong(field), *links[:-1]], className="chain"))
    return found


def versions(sources: Sources) -> html.Div:
    """What the registry holds."""
    found, why = sources.ask(lambda o: o.definitions())
    if found is None:
        return widgets.empty("The registry is being read", "It appears in a few seconds.")
    if why:
        return widgets.unanswered(why)
    if not found:
        return widgets.empty(
            "Nothing is registered", "Register the definitions with ", widgets.code("fstore apply"), "."
        )
    order = {name: n for n, name in enumerate(VIEWS)}
    rows = [
        {"view": d.view, "version": d.version or "first", "updated": formats.moment(d.updated)}
        for d in sorted(found, key=lambda d: order.get(d.view, len(order)))
    ]
    return widgets.table({"view": "view", "version": "version", "updated": "registered (UTC)"}, rows, height=220)
