"""Feast's offline store on the Delta tables: as-of joins that see neither an unclosed bar nor a later revision."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
from feast import FeatureView, OnDemandFeatureView, RepoConfig
from feast.data_source import DataSource
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel
from feast.utils import _get_requested_feature_views_to_features_dict
from pydantic import Field

from feature_repo.catalog import ENTITY, View
from feature_repo.home import HOME_VARIABLE, resolve_location
from feature_repo.repo import open_tables
from feature_repo.stores.feast.data_sources import view_of
from feature_repo.stores.feast.joins import as_of, every_close, moments_of
from feature_repo.stores.feast.pulls import every_row, newest_rows
from feature_repo.stores.feast.retrieval import BarRetrievalJob
from feature_repo.stores.schemas import TIME
from feature_repo.stores.tables import OfflineTables


class BarOfflineStoreConfig(FeastConfigBaseModel):
    """Configuration: where the Delta tables are (a path, or an object-store URL with its options)."""

    type: Literal["feature_repo.stores.offline.BarOfflineStore"] = "feature_repo.stores.offline.BarOfflineStore"
    path: str = f"{HOME_VARIABLE}/offline"
    storage_options: dict[str, str] = Field(default_factory=dict, repr=False)

    def tables(self) -> OfflineTables:
        """The tables."""
        return open_tables(resolve_location(self.path), self.storage_options)


class BarOfflineStore(OfflineStore):
    """The offline store."""

    supports_filter_by_created_timestamp = True

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        """Checks nothing: the first run makes the tables. Feast would look beside the repository, and warn."""

    def get_table_column_names_and_types_from_data_source(
        self,
        config: RepoConfig,  # noqa: ARG002  # Feast passes it
        data_source: DataSource,
    ) -> Iterable[tuple[str, str]]:
        """The names and types of a source's columns, which are known without its table."""
        view = _view(data_source)
        kind = pa.list_(pa.float64()) if view.is_window else pa.float64()
        types = {ENTITY: pa.string(), "event_timestamp": TIME, "created": TIME, **dict.fromkeys(view.fields, kind)}
        return [(name, str(type_)) for name, type_ in types.items()]

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        **options: Any,
    ) -> RetrievalJob:
        """For each row of ``entity_df`` the values that were valid at its timestamp.

        A bar counts from the moment it closed. With ``filter_by_created_timestamp=True`` a revision counts from the
        moment it was written, which is what a strategy could have read then; without, the newest revision of each
        bar does. Rows keep their order. ``entity_df=None`` with ``start_date``/``end_date`` returns a row for every
        symbol and bar close in that span.

        Raises:
            ValueError: ``entity_df`` is a query, or lacks the join key.
            EntityTimestampInferenceException: it lacks a column ``event_timestamp``, and any one of times.
        """
        if isinstance(entity_df, str):
            raise ValueError("entity_df must be a DataFrame: the Delta tables have no SQL server to run a query on")
        by_created = bool(options.get("filter_by_created_timestamp"))
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        grouped, _ = _get_requested_feature_views_to_features_dict(feature_refs, feature_views, on_demand)
        tables = config.offline_store.tables()

        def read() -> pa.Table:
            views = {view: _view(view.batch_source) for view in grouped}
            entities = (
                entity_df.reset_index(drop=True)
                if entity_df is not None
                else every_close(tables, views.values(), options.get("start_date"), options.get("end_date"))
            )
            out = pa.Table.from_pandas(entities, preserve_index=False)
            moments = moments_of(entities[infer_event_timestamp_from_entity_df(dict(entities.dtypes))])
            for view, features in grouped.items():
                key = view.projection.join_key_map.get(ENTITY, ENTITY)
                if key not in entities:
                    raise ValueError(f"entity_df lacks the column {key!r}; it has {', '.join(map(str, entities))}")
                columns = as_of(
                    tables, views[view], features, entities[key], moments, by_created=by_created, ttl_us=_ttl_us(view)
                )
                name = view.projection.name_to_use()  # type: ignore[no-untyped-call]
                prefix = f"{name}__" if full_feature_names else ""
                for feature in features:
                    out = out.append_column(prefix + feature, columns[feature])
            return out

        metadata = RetrievalMetadata(features=feature_refs, keys=[ENTITY])
        return BarRetrievalJob(read, full_feature_names=full_feature_names, on_demand=on_demand, metadata=metadata)

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """The newest bar of each symbol that closed in ``[start_date, end_date]``, at its newest revision."""
        view, tables = _view(data_source), config.offline_store.tables()
        names = [*join_key_columns, *feature_name_columns, timestamp_field, *_name_list(created_timestamp_column)]
        return BarRetrievalJob(
            lambda: newest_rows(tables, view, feature_name_columns, start_date, end_date).select(names)
        )

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Every bar that closed in ``[start_date, end_date]``, at its newest revision."""
        view, tables = _view(data_source), config.offline_store.tables()
        names = [*join_key_columns, *feature_name_columns, timestamp_field, *_name_list(created_timestamp_column)]
        return BarRetrievalJob(
            lambda: every_row(tables, view, feature_name_columns, start_date, end_date).select(names)
        )

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Refused: rows enter through the quality gate only."""
        raise NotImplementedError("bars enter through `fstore ingest`, which checks them; nothing writes past the gate")


def _view(source: DataSource | None) -> View:
    return view_of(source.name if source else "")


def _name_list(name: str | None) -> list[str]:
    return [name] if name else []


def _ttl_us(view: FeatureView) -> int | None:
    return int(view.ttl / timedelta(microseconds=1)) if view.ttl else None
