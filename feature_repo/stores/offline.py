"""Feast's offline store on the Delta tables: as-of joins that see neither an unclosed bar nor a later revision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from feast import FeatureView, OnDemandFeatureView, RepoConfig
from feast.data_source import DataSource
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel
from feast.saved_dataset import SavedDatasetStorage
from feast.utils import _get_requested_feature_views_to_features_dict
from pydantic import Field

from feature_repo.catalog import BAR_FIELDS, ENTITY, VIEW_OF_SOURCE, View
from feature_repo.stores.asof import match_rows
from feature_repo.stores.home import HOME_VARIABLE, resolve_location
from feature_repo.stores.schemas import TIME
from feature_repo.stores.tables import OfflineTables
from feature_repo.stores.window import Window, microseconds, newest_windows, read_window


class BarOfflineStoreConfig(FeastConfigBaseModel):
    """Configuration: where the Delta tables are (a path, or an object-store URL with its options)."""

    type: Literal["feature_repo.stores.offline.BarOfflineStore"] = "feature_repo.stores.offline.BarOfflineStore"
    path: str = f"{HOME_VARIABLE}/offline"
    storage_options: dict[str, str] = Field(default_factory=dict, repr=False)

    def tables(self) -> OfflineTables:
        """The tables."""
        return OfflineTables(resolve_location(self.path), self.storage_options)


class BarRetrievalJob(RetrievalJob):
    """A read that runs when its result is asked for."""

    def __init__(
        self,
        read: Callable[[], pa.Table],
        *,
        full_feature_names: bool = False,
        on_demand: Sequence[OnDemandFeatureView] = (),
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._read = read
        self._full_feature_names = full_feature_names
        self._on_demand = list(on_demand)
        self._metadata = metadata

    @property
    def full_feature_names(self) -> bool:
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata | None:
        return self._metadata

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:  # noqa: ARG002  # a local read has none
        return self._read()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()

    def persist(
        self,
        storage: SavedDatasetStorage,
        allow_overwrite: bool = False,
        timeout: int | None = None,
    ) -> None:
        """Refused: a saved dataset would be a second copy of what the tables keep, with every revision."""
        raise NotImplementedError("write the frame yourself: job.to_df().to_parquet(path)")


class BarOfflineStore(OfflineStore):
    """The offline store."""

    supports_filter_by_created_timestamp = True

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        """Nothing to look at yet: the first run makes the tables. Feast would look beside the repository, and warn."""

    def get_table_column_names_and_types_from_data_source(
        self,
        config: RepoConfig,  # noqa: ARG002  # Feast passes it
        data_source: DataSource,
    ) -> Iterable[tuple[str, str]]:
        """A source's columns, which are known without its table."""
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
        bar does. Rows keep their order. ``entity_df=None`` with ``start_date``/``end_date`` gives a row for every
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
            entities = _entities(entity_df, grouped, tables, options)
            out = pa.Table.from_pandas(entities, preserve_index=False)
            moments = _moments(entities)
            for view, features in grouped.items():
                key = view.projection.join_key_map.get(ENTITY, ENTITY)
                if key not in entities:
                    raise ValueError(f"entity_df lacks the column {key!r}; it has {', '.join(map(str, entities))}")
                found = _as_of(tables, view, features, entities[key], moments, by_created)
                name = view.projection.name_to_use()  # type: ignore[no-untyped-call]
                prefix = f"{name}__" if full_feature_names else ""
                for feature in features:
                    out = out.append_column(prefix + feature, found[feature])
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
        names = [*join_key_columns, *feature_name_columns, timestamp_field, *_given(created_timestamp_column)]
        first, last = _opens(view, start_date), _opens(view, end_date)

        def read() -> pa.Table:
            if view.is_window:
                return _window_rows(tables, view, first, last).select(names)
            # Only keys first: the wide columns are then read from the oldest newest bar on, not from all history.
            keys = tables.read(_table(view), timeframe=view.timeframe.name, start=first, end=last, columns=[])
            newest = keys.group_by("symbol").aggregate([("open_time", "max")])
            start = min(newest["open_time_max"].to_pylist(), default=first)
            rows = tables.read(
                _table(view), timeframe=view.timeframe.name, start=start, end=last, columns=feature_name_columns
            )
            symbols = rows["symbol"].to_numpy(zero_copy_only=False)
            is_last = np.append(symbols[1:] != symbols[:-1], True)[: rows.num_rows]
            return rows.filter(pa.array(is_last)).select(names)

        return BarRetrievalJob(read)

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
        names = [*join_key_columns, *feature_name_columns, timestamp_field, *_given(created_timestamp_column)]
        first, last = _opens(view, start_date), _opens(view, end_date)

        def read() -> pa.Table:
            if view.is_window:
                return _window_rows(tables, view, first, last).select(names)
            rows = tables.read(
                _table(view), timeframe=view.timeframe.name, start=first, end=last, columns=feature_name_columns
            )
            return rows.select(names)

        return BarRetrievalJob(read)

    @staticmethod
    def offline_write_batch(
        config: RepoConfig, feature_view: FeatureView, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Refused: rows enter through the quality gate only."""
        raise NotImplementedError("bars enter through `fstore ingest`, which checks them; nothing writes past the gate")


# ------------------------------------------------------------------------------------------------- the joins


def _as_of(
    tables: OfflineTables,
    view: FeatureView,
    features: Sequence[str],
    symbols: pd.Series,
    moments: np.typing.NDArray[np.int64],
    by_created: bool,
) -> Mapping[str, pa.Array]:
    spec = _view(view.batch_source)
    known = moments[moments != _NEVER]
    end = _opens(spec, _moment(int(known.max()))) if len(known) else None
    names = sorted(symbols.dropna().astype(str).unique())
    if spec.is_window:
        return _as_of_windows(tables, spec, features, symbols, moments, by_created)
    rows = tables.read(
        _table(spec),
        timeframe=spec.timeframe.name,
        symbols=names,
        end=end,
        columns=features,
        all_revisions=by_created,
    )
    index = match_rows(
        symbols.astype("string"),
        moments,
        row_symbols=rows["symbol"],
        event_us=microseconds(rows, "event_timestamp"),
        created_us=microseconds(rows, "created") if by_created else None,
        ttl_us=_ttl(view),
    )
    taken = rows.take(index)
    return {name: taken[name] for name in features}


def _as_of_windows(
    tables: OfflineTables,
    spec: View,
    features: Sequence[str],
    symbols: pd.Series,
    moments: np.typing.NDArray[np.int64],
    by_created: bool,
) -> Mapping[str, pa.Array]:
    """Windows as of each row; one read a distinct symbol and moment."""

    @cache
    def window_at(name: str, us: int) -> Window | None:
        moment = _moment(us)
        end, known = _opens(spec, moment), moment if by_created else None
        return read_window(tables, spec.timeframe, name, end=end, as_known_at=known)

    columns: dict[str, list[Any]] = {name: [] for name in features}
    for name, us in zip(symbols, moments, strict=True):
        window = window_at(name, int(us)) if us != _NEVER and isinstance(name, str) else None
        for field in features:
            columns[field].append(window.columns[field] if window else None)
    return {name: pa.array(values, pa.list_(pa.float64())) for name, values in columns.items()}


def _window_rows(tables: OfflineTables, view: View, start: datetime | None, end: datetime | None) -> pa.Table:
    windows = newest_windows(tables, view.timeframe, end=end)
    first = _micros(start) + view.timeframe.microseconds if start else 0
    kept = {name: w for name, w in windows.items() if w.event_us >= first}
    columns: dict[str, pa.Array] = {
        ENTITY: pa.array(list(kept), pa.string()),
        "event_timestamp": pa.array([w.event_us for w in kept.values()], pa.int64()).cast(TIME),
        "created": pa.array([w.created_us for w in kept.values()], pa.int64()).cast(TIME),
    }
    for field in view.fields:
        columns[field] = pa.array([w.columns[field] for w in kept.values()], pa.list_(pa.float64()))
    return pa.table(columns)


# ----------------------------------------------------------------------------------------------- small facts

_NEVER = np.iinfo(np.int64).min  # an entity row without a timestamp


def _view(source: DataSource | None) -> View:
    try:
        return VIEW_OF_SOURCE[source.name if source else ""]
    except KeyError:
        raise ValueError(
            f"{source and source.name!r} is no source of the catalog; this store reads its own tables only"
        ) from None


def _table(view: View) -> Literal["bars", "indicators"]:
    return "bars" if view.fields == BAR_FIELDS else "indicators"


def _opens(view: View, closes: datetime | None) -> Any:
    """The open time of a bar that closes at ``closes``."""
    if closes is None:
        return None
    aware = closes if closes.tzinfo else closes.replace(tzinfo=UTC)
    return aware - timedelta(seconds=view.timeframe.seconds)


def _given(name: str | None) -> list[str]:
    return [name] if name else []


def _ttl(view: FeatureView) -> int | None:
    return int(view.ttl / timedelta(microseconds=1)) if view.ttl else None


def _moment(us: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=us)


def _micros(moment: datetime) -> int:
    return int((moment - datetime.fromtimestamp(0, UTC)) / timedelta(microseconds=1))


def _moments(entities: pd.DataFrame) -> np.typing.NDArray[np.int64]:
    """The entity rows' timestamps in whole microseconds UTC, rounded down: never a moment later than asked for."""
    name = infer_event_timestamp_from_entity_df(dict(entities.dtypes))
    times = pd.to_datetime(entities[name], utc=True)
    whole = times.dt.floor("us").astype("datetime64[us, UTC]")
    return np.asarray(whole.to_numpy(dtype="datetime64[us]").astype(np.int64))


def _entities(
    entity_df: pd.DataFrame | None,
    grouped: Mapping[FeatureView, Sequence[str]],
    tables: OfflineTables,
    options: Mapping[str, Any],
) -> pd.DataFrame:
    if entity_df is not None:
        return entity_df.reset_index(drop=True)
    frames = []
    for view in grouped:
        spec = _view(view.batch_source)
        first, last = _opens(spec, options.get("start_date")), _opens(spec, options.get("end_date"))
        table: Literal["bars", "indicators"] = "bars" if spec.is_window else _table(spec)
        keys = tables.read(table, timeframe=spec.timeframe.name, start=first, end=last, columns=[])
        frames.append(keys.select([ENTITY, "event_timestamp"]).to_pandas())
    rows = pd.concat(frames).drop_duplicates()
    return rows.sort_values([ENTITY, "event_timestamp"], ignore_index=True)
