"""Assets as Prefect knows them: the bars and the views made of them, so that its UI shows which run made what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prefect.assets import Asset, AssetProperties, add_asset_metadata
from prefect.context import AssetContext

from feature_repo import catalog
from flows.runs.outcome import Outcome

_VIEWS = f"{catalog.PROJECT}://views"
BARS = Asset(
    key=f"{catalog.PROJECT}://tables/bars",
    properties=AssetProperties(name="bars", description="Checked bars of all symbols, every revision"),
)


def views(timeframes: Iterable[str]) -> list[Asset]:
    """The Feast views of these timeframes."""
    return [
        Asset(
            key=_key(view.name),
            properties=AssetProperties(name=view.name, description=f"{view.kind} of {view.timeframe.name} bars"),
        )
        for tf in timeframes
        for view in (catalog.view(kind, tf) for kind in catalog.VIEW_KINDS)
    ]


def note_views(outcomes: Sequence[Outcome]) -> None:
    """Says at each view of this task what was made of it, and leaves out those of which nothing was; outside of a task
    there is nobody to inform.
    """
    context = AssetContext.get()
    for asset in tuple(context.downstream_assets) if context else ():
        matching = [o for o in outcomes if o.timeframe and asset.key in _keys(o.timeframe)]
        if context and not any(o.bars or o.published for o in matching):
            context.downstream_assets.discard(asset)
            continue
        newest = max((o.as_of for o in matching if o.as_of), default=None)
        metadata = {
            "symbols": len(matching),
            "rows": sum(o.bars for o in matching),
            "published": sum(o.published for o in matching),
        }
        add_asset_metadata(asset, metadata | {"as_of": newest.isoformat() if newest else None})


def _key(view: str) -> str:
    return f"{_VIEWS}/{view}"


def _keys(timeframe: str) -> set[str]:
    return {_key(catalog.view(kind, timeframe).name) for kind in catalog.VIEW_KINDS}
