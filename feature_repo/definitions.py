"""All Feast objects, made by looping over the catalog. They exist nowhere else.

One entity, ``symbol``. Per timeframe three views: ``ohlcv_*`` and ``indicators_*`` hold the newest closed bar as
scalars, ``window_*`` the last closed bars as arrays. Feast joins on ``event_timestamp``, the moment a bar closed, so
an as-of join can't see an unclosed bar.
"""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, Project, ValueType
from feast.data_format import DeltaFormat
from feast.types import Array, Float64, String

from feature_repo import catalog
from feature_repo.meaning import meaning_of

project = Project(name=catalog.PROJECT, description="Checked OHLCV bars and indicators, live as in the backtest")

symbol = Entity(
    name=catalog.ENTITY,
    join_keys=[catalog.ENTITY],
    value_type=ValueType.STRING,
    description="One instrument, as listed in the catalog, such as EUR/USD",
)


def _describe(view: catalog.View, field: str) -> Field:
    producer = catalog.PRODUCER.get(field)
    tags = meaning_of(producer).tags() if producer else {}
    return Field(name=field, dtype=Array(Float64) if view.is_window else Float64, tags=tags)


sources = {
    view.name: FileSource(
        name=view.source,
        path="indicators" if view.kind == "indicators" else "bars",
        file_format=DeltaFormat(),
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
        tags={"timeframe": view.timeframe.name},
    )
    for view in catalog.VIEWS.values()
}

views = {
    view.name: FeatureView(
        name=view.name,
        entities=[symbol],
        ttl=timedelta(0),  # readers set a maximum age in bars; every answer reports its age
        schema=[Field(name=catalog.ENTITY, dtype=String), *(_describe(view, f) for f in view.fields)],
        source=sources[view.name],
        online=True,
        tags={"timeframe": view.timeframe.name, "kind": view.kind},
    )
    for view in catalog.VIEWS.values()
}

services = {
    name: FeatureService(name=name, features=[views[v] for v in members]) for name, members in catalog.SERVICES.items()
}

# Feast finds objects that are module attributes.
globals().update(
    {
        f"{kind}__{name}": o
        for kind, d in (("source", sources), ("view", views), ("service", services))
        for name, o in d.items()
    }
)
