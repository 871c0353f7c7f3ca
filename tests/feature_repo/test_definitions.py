"""The Feast objects against the catalog, and as Feast's own commands see them."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from feast.cli.cli import cli
from feast.repo_operations import get_repo_files, parse_repo
from feast.types import Array, Float64

from feature_repo import catalog, definitions
from feature_repo.home import REPO
from feature_repo.meaning import meaning_of
from feature_repo.stores.redis.codec import field_key


def test_every_view_of_the_catalog_is_a_view_of_feast() -> None:
    assert len(catalog.VIEWS) == 3 * len(catalog.TIMEFRAMES)
    assert list(definitions.views) == list(catalog.VIEWS)
    for name, view in definitions.views.items():
        spec = catalog.VIEWS[name]
        assert (view.name, view.batch_source.name) == (name, spec.source)
        assert [f.name for f in view.features] == list(spec.fields)
        assert {f.dtype for f in view.features} == {Array(Float64) if spec.is_window else Float64}
        assert view.join_keys == [catalog.ENTITY]
        assert view.ttl == timedelta(0)
        assert view.batch_source.timestamp_field == "event_timestamp"
        assert view.batch_source.created_timestamp_column == "created"


def test_every_service_serves_views_that_exist() -> None:
    assert set(definitions.services) == set(catalog.SERVICES)
    for name, service in definitions.services.items():
        assert tuple(p.name for p in service.feature_view_projections) == catalog.SERVICES[name]


def test_fields_tell_how_they_are_made() -> None:
    fields = {f.name: f.tags for f in definitions.views["indicators_1h"].features}
    assert fields["sma_50"] == meaning_of(catalog.INDICATORS["sma_50"]).tags()
    assert fields["sma_50"]["inputs"] == "close"
    assert fields["bb_upper"]["parameters"] == "window=20, deviations=2"
    assert all(tags["kind"] for tags in fields.values())


def test_no_two_fields_of_a_symbol_share_a_hash() -> None:
    # All views of a symbol are in one hash, so they must differ from each other, and from times and revisions.
    keys = [field_key(view.name, name) for view in catalog.VIEWS.values() for name in view.fields]
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {4}


def test_feast_imports_no_other_module() -> None:
    assert get_repo_files(REPO) == [REPO / "definitions.py"]


def test_feast_finds_all_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    monkeypatch.syspath_prepend(str(REPO))
    objects = parse_repo(REPO)
    assert {v.name for v in objects.feature_views} == set(catalog.VIEWS)
    assert {s.name for s in objects.feature_services} == set(catalog.SERVICES)
    assert [e.name for e in objects.entities if e.name == catalog.ENTITY] == [catalog.ENTITY]


def test_what_is_applied_comes_back_the_same(feature_store: Any) -> None:
    for view in feature_store.list_feature_views():
        assert view.schema == definitions.views[view.name].schema
        assert view.batch_source == definitions.sources[view.name]


def test_feast_apply_twice_and_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In this process, as a start of Feast takes seconds; `feast apply` as a process: see `test_registry_url`."""
    monkeypatch.setenv("FSTORE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path])  # the command adds to it

    def feast(*arguments: str) -> Result:
        done = CliRunner().invoke(cli, ["-c", str(REPO), *arguments])
        assert done.exit_code == 0, done.output
        return done

    for _ in range(2):
        feast("apply")
    assert "Could not validate" not in caplog.text
    names = [line.split()[0] for line in feast("feature-views", "list").stdout.splitlines()[1:]]
    assert sorted(names) == sorted(catalog.VIEWS)
    assert {file.name for file in tmp_path.iterdir()} - {"registry.db-shm", "registry.db-wal"} == {"registry.db"}
