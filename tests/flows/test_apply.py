"""Registering definitions: what a served name means never changes unnoticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from feature_repo import catalog
from feature_repo.kernels import FloatArray
from feature_repo.kinds import KINDS
from feature_repo.meaning import meaning_of
from flows.apply import DefinitionChangedError, DefinitionFailedError, apply_definitions
from flows.settings import Settings


@pytest.fixture
def store(settings: Settings) -> Any:
    """A registry of the test's own with all definitions in it."""
    store = settings.repo().feature_store()
    assert len(apply_definitions(store)["added"]) == len(catalog.VIEWS)
    return store


@pytest.fixture
def redefine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Changes the schema of a view in the definitions: field -> tags, None to remove it, a new name to add it."""
    from feast import FeatureView, Field
    from feast.types import Float64, String

    from feature_repo import definitions

    def change(name: str, fields: dict[str, dict[str, str] | None]) -> None:
        view = definitions.views[name]
        schema = {f.name: Field(name=f.name, dtype=f.dtype, tags=f.tags) for f in view.features}
        for field, tags in fields.items():
            if tags is None:
                del schema[field]
            else:
                schema[field] = Field(name=field, dtype=Float64, tags=tags)
        changed = FeatureView(
            name=name,
            entities=[definitions.symbol],
            ttl=view.ttl,
            schema=[Field(name=catalog.ENTITY, dtype=String), *schema.values()],
            source=definitions.sources[name],
            online=True,
            tags=view.tags,
        )
        monkeypatch.setitem(definitions.views, name, changed)

    return change


@pytest.fixture
def remove(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Takes a timeframe out of the definitions: its views, their sources and their services."""
    from feature_repo import definitions

    def take_out(timeframe: str) -> None:
        removed = {catalog.view(kind, timeframe).name for kind in catalog.VIEW_KINDS}
        for objects in ("views", "sources"):
            remaining = {name: item for name, item in getattr(definitions, objects).items() if name not in removed}
            monkeypatch.setattr(definitions, objects, remaining)
        services = {
            name: service
            for name, service in definitions.services.items()
            if not removed.intersection(catalog.SERVICES[name])
        }
        monkeypatch.setattr(definitions, "services", services)

    return take_out


def tags_of(store: Any, view: str, field: str) -> dict[str, str]:
    return next(f.tags for f in store.get_feature_view(view).features if f.name == field)


RSI = meaning_of(catalog.INDICATORS["rsi_14"]).tags()
RSI_15 = meaning_of(replace(catalog.INDICATORS["rsi_14"], parameters={"window": 15})).tags()


def test_a_second_apply_changes_nothing(store: Any) -> None:
    report = apply_definitions(store)
    assert report == {"added": [], "changed": [], "removed": [], "unchanged": [*catalog.VIEWS]}
    assert len(store.list_feature_view_versions("indicators_1h")) == 1


def test_a_changed_parameter_under_an_old_name_is_refused_with_the_difference(
    store: Any, redefine: Callable[..., None]
) -> None:
    redefine("indicators_1h", {"rsi_14": RSI_15})
    with pytest.raises(DefinitionChangedError) as refused:
        apply_definitions(store)
    lines = str(refused.value).splitlines()
    assert lines[:2] == [
        "- indicators_1h:rsi_14 Float64 kind=rsi lookback=14 parameters=window=14 warm_up=387",
        "+ indicators_1h:rsi_14 Float64 kind=rsi lookback=15 parameters=window=15 warm_up=416",
    ]
    assert "--accept" in lines[-1]


def test_what_is_refused_is_not_registered(store: Any, redefine: Callable[..., None]) -> None:
    """Neither the change nor the new view, which alone would be accepted."""
    redefine("indicators_1h", {"rsi_14": RSI_15})
    redefine("indicators_4h", {"rsi_99": RSI})
    with pytest.raises(DefinitionChangedError):
        apply_definitions(store)
    assert tags_of(store, "indicators_1h", "rsi_14") == RSI
    assert "rsi_99" not in [f.name for f in store.get_feature_view("indicators_4h").features]


def test_accept_takes_the_change_and_keeps_the_old_definition_as_a_version(
    store: Any, redefine: Callable[..., None]
) -> None:
    redefine("indicators_1h", {"rsi_14": RSI_15})
    report = apply_definitions(store, accept=True)
    assert report["changed"] == ["indicators_1h"]
    assert tags_of(store, "indicators_1h", "rsi_14") == RSI_15
    assert len(store.list_feature_view_versions("indicators_1h")) == 2
    assert apply_definitions(store)["unchanged"] == [*catalog.VIEWS]


def test_a_new_field_is_no_change_of_meaning(store: Any, redefine: Callable[..., None]) -> None:
    redefine("indicators_1h", {"rsi_99": RSI})
    assert apply_definitions(store)["changed"] == []
    assert tags_of(store, "indicators_1h", "rsi_99") == RSI


def test_a_field_that_is_gone_is_refused(store: Any, redefine: Callable[..., None]) -> None:
    redefine("indicators_1h", {"rsi_14": None})
    with pytest.raises(DefinitionChangedError, match=r"^- indicators_1h:rsi_14 Float64 kind=rsi") as refused:
        apply_definitions(store)
    assert len(str(refused.value).splitlines()) == 2
    assert apply_definitions(store, accept=True)["changed"] == ["indicators_1h"]
    assert "rsi_14" not in [f.name for f in store.get_feature_view("indicators_1h").features]


def test_a_view_that_is_gone_is_refused_and_taken_with_its_services_when_accepted(
    store: Any, remove: Callable[[str], None]
) -> None:
    remove("30m")
    with pytest.raises(DefinitionChangedError) as refused:
        apply_definitions(store)
    assert str(refused.value).splitlines()[:5] == [
        "- indicators_30m: the view is gone",
        "- ohlcv_30m: the view is gone",
        "- window_30m: the view is gone",
        "- latest_30m: the service is gone",
        "- window_service_30m: the service is gone",
    ]
    assert len(store.list_feature_views()) == len(catalog.VIEWS)

    assert apply_definitions(store, accept=True)["removed"] == ["indicators_30m", "ohlcv_30m", "window_30m"]
    objects = [*store.list_feature_views(), *store.list_feature_services(), *store.list_data_sources()]
    assert not [item.name for item in objects if "30m" in item.name]
    assert apply_definitions(store)["removed"] == []


SMA = catalog.INDICATORS["sma_20"]


def test_a_changed_input_under_an_old_name_is_refused(store: Any, redefine: Callable[..., None]) -> None:
    """The average of highs is not what strategies read as ``sma_20``."""
    of_highs = replace(SMA, kind=replace(KINDS["sma"], inputs=("high",)))
    redefine("indicators_1h", {"sma_20": meaning_of(of_highs).tags()})
    with pytest.raises(DefinitionChangedError) as refused:
        apply_definitions(store)
    assert str(refused.value).splitlines()[:2] == [
        "- indicators_1h:sma_20 Float64 inputs=close kind=sma",
        "+ indicators_1h:sma_20 Float64 inputs=high kind=sma",
    ]


def test_an_edited_kernel_under_an_old_name_is_refused(store: Any, redefine: Callable[..., None]) -> None:
    def edited(close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
        return (KINDS["sma"].kernel(close, window=window)[0] * 1.0001,)

    redefine("indicators_1h", {"sma_20": meaning_of(replace(SMA, kind=replace(KINDS["sma"], kernel=edited))).tags()})
    with pytest.raises(DefinitionChangedError, match=r"\+ indicators_1h:sma_20 Float64 kernel=[0-9a-f]{16} kind=sma"):
        apply_definitions(store)


def test_a_changed_bound_is_no_change_of_meaning(store: Any, redefine: Callable[..., None]) -> None:
    redefine("indicators_1h", {"sma_20": meaning_of(replace(SMA, low=None, high=9.0)).tags()})
    assert apply_definitions(store)["unchanged"] == [*catalog.VIEWS]


def test_a_registry_from_before_the_digest_is_no_change(settings: Settings, redefine: Callable[..., None]) -> None:
    """Version 0.1 registered kind, parameters (in the catalog's order) and lookback only."""
    store = settings.repo().feature_store()
    old = {name: {"kind": i.kind.name, "lookback": str(i.lookback),
                  "parameters": ", ".join(f"{k}={v:g}" for k, v in i.parameters.items())}
           for name, i in catalog.PRODUCER.items()}  # fmt: skip
    redefine("indicators_1h", old)
    apply_definitions(store)
    redefine("indicators_1h", {name: meaning_of(i).tags() for name, i in catalog.PRODUCER.items()})
    assert apply_definitions(store)["unchanged"] == [*catalog.VIEWS]
    assert tags_of(store, "indicators_1h", "rsi_14") == RSI  # from now on the digest is compared
    redefine("indicators_1h", {"rsi_14": RSI_15})
    with pytest.raises(DefinitionChangedError):
        apply_definitions(store)


def test_a_kernel_that_looks_ahead_is_refused_before_anything_is_registered(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ahead(close: FloatArray, *, window: int) -> tuple[FloatArray, ...]:
        return KINDS["sma"].kernel(np.append(close[1:], close[-1:]), window=window)

    bad = replace(SMA, kind=replace(KINDS["sma"], kernel=ahead))
    monkeypatch.setattr("flows.apply.PRODUCER", {**catalog.PRODUCER, "sma_20": bad})
    store = settings.repo().feature_store()
    for accept in (False, True):
        with pytest.raises(DefinitionFailedError, match=r"- sma_20: sma_20 looks ahead: its value at bar \d+ changes"):
            apply_definitions(store, accept=accept)
    assert store.list_feature_views() == []


def test_only_what_is_new_or_changed_is_tried(
    store: Any, redefine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    monkeypatch.setattr("flows.apply.trial_problem", lambda indicator: tried.append(indicator.name) or "")
    apply_definitions(store)
    assert tried == []
    redefine("indicators_1h", {"rsi_14": RSI_15})
    apply_definitions(store, accept=True)
    assert tried == ["rsi_14"]
