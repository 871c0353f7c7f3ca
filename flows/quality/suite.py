"""The great-expectations suites, made of the rules, and their evaluation.

Importing this module imports great-expectations, which takes seconds: the gate does so when it first judges.

A stock expectation costs 5 to 7 ms, whatever the rows: the 130 rules of the indicators would take most of a second per
symbol. So all rules about values are one expectation, which judges whole columns: their types, counts and extremes.
"""

from __future__ import annotations

import json
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, assert_never

import numpy as np
import pandas as pd

from flows.quality.masks import out_of_order
from flows.quality.rules import Ascending, InOrder, NotEmpty, Present, Rule, Typed, Unique, Within

with warnings.catch_warnings():
    # It imports deprecated modules, and it sends every warning of the process to a logger that nobody reads.
    warnings.simplefilter("ignore", DeprecationWarning)
    _showwarning = warnings.showwarning
    import great_expectations as gx
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult
    from great_expectations.core.metric_domain_types import MetricDomainTypes
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )
    from great_expectations.execution_engine.pandas_execution_engine import PandasExecutionEngine
    from great_expectations.expectations.core.expect_column_values_to_be_increasing import (
        ExpectColumnValuesToBeIncreasing,
    )
    from great_expectations.expectations.core.expect_column_values_to_be_unique import ExpectColumnValuesToBeUnique
    from great_expectations.expectations.core.expect_table_row_count_to_be_between import (
        ExpectTableRowCountToBeBetween,
    )
    from great_expectations.expectations.expectation import BatchExpectation, Expectation
    from great_expectations.expectations.metrics.metric_provider import metric_value
    from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider

    if warnings.showwarning is not _showwarning:
        logging.captureWarnings(False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The result of great-expectations on a batch.

    Attributes:
        success: whether every expectation of the suite was evaluated and met.
        expectations: how many were evaluated.
        failed: names of the expectations that were not met.
    """

    success: bool
    expectations: int
    failed: tuple[str, ...]


def evaluate(rules: tuple[Rule, ...], table: pd.DataFrame) -> Evaluation:
    """Runs the suite of ``rules`` over ``table``, which holds every column that they name.

    One thread at a time: the engine of a data source keeps one batch under one name, so two threads would now and then
    receive the verdict on each other's batch.
    """
    suite = _suite(rules)
    with _ONE_BATCH:
        batch = _batch_definition().get_batch({"dataframe": table})
        try:
            result = batch.validate(suite, result_format="BOOLEAN_ONLY")
        finally:
            manager = batch.data.execution_engine.batch_manager  # or it keeps the table until the next batch
            manager.batch_data_cache.clear()
            manager.reset_batch_cache()
    failed = tuple(_title(r, table) for r in result.results if not r.success)
    evaluated = len(result.results)
    complete = evaluated == len(suite.expectations) > 0  # an empty suite passes everything
    return Evaluation(success=bool(result.success) and complete and not failed, expectations=evaluated, failed=failed)


_ONE_BATCH = threading.Lock()


def _title(result: ExpectationValidationResult, table: pd.DataFrame) -> str:
    config = result.expectation_config
    if config is None:
        return "an expectation"
    demands = config.kwargs.get("demands")
    about = ", ".join(_unmet(table, demands)) if demands else config.kwargs.get("column")
    return f"{config.type} ({about})"


def _unmet(table: pd.DataFrame, demands: str) -> Iterator[str]:
    """The kinds of demands that a table does not keep or that cannot be judged."""
    for kind, wanted in json.loads(demands).items():
        try:
            if _BROKEN[kind](table, wanted):
                yield kind
        except KeyError:  # it lacks a column
            yield kind


@cache
def _batch_definition() -> BatchDefinition[None]:
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),  # no files, and no Data Docs
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False),
    )
    context = gx.get_context(mode="ephemeral", project_config=config)
    asset = context.data_sources.add_pandas("quality").add_dataframe_asset("table")
    return asset.add_batch_definition_whole_dataframe("whole")


@lru_cache(maxsize=1024)
def _suite(rules: tuple[Rule, ...]) -> gx.ExpectationSuite:
    return gx.ExpectationSuite(name="rules", expectations=list(_expectations(rules)))


def _expectations(rules: Sequence[Rule]) -> Iterator[Expectation]:
    grouped: dict[str, list[list[Any]]] = {}
    for rule in rules:
        demand = rule.demand
        match demand:
            case NotEmpty():
                yield ExpectTableRowCountToBeBetween(min_value=1)
            case Unique():
                yield ExpectColumnValuesToBeUnique(column=rule.columns[0])
            case Ascending():
                yield ExpectColumnValuesToBeIncreasing(column=rule.columns[0])
            case Typed():
                grouped.setdefault("types", []).extend(map(list, zip(rule.columns, demand.dtypes, strict=True)))
            case Present():
                grouped.setdefault("presence", []).append([rule.columns[0], demand.unless])
            case Within():
                grouped.setdefault("bounds", []).append([rule.columns[0], demand.low, demand.high])
            case InOrder():
                grouped.setdefault("order", []).append([*rule.columns, demand.tolerance])
            case _:
                assert_never(demand)
    if grouped:
        yield ExpectColumnsToKeep(demands=json.dumps(grouped))


class ExpectColumnsToKeep(BatchExpectation):
    """Expects columns to keep their demands.

    Attributes:
        demands: kind (``types``, ``presence``, ``bounds`` or ``order``) -> its demands, as JSON: the library copies and
            hashes what an expectation holds hundreds of times an evaluation, lists entry by entry.
    """

    demands: str

    metric_dependencies = ("table.broken_demands",)
    success_keys = ("demands",)

    def _validate(self, metrics: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
        broken = metrics["table.broken_demands"]
        return {"success": not broken, "result": {"observed_value": broken}}


class BrokenDemands(TableMetricProvider):
    """The demands that a table does not keep, by kind."""

    metric_name = "table.broken_demands"
    value_keys = ("demands",)

    @metric_value(engine=PandasExecutionEngine)
    def _pandas(
        cls,  # noqa: N805  # great-expectations makes it a class method
        execution_engine: PandasExecutionEngine,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        **_: Any,
    ) -> dict[str, list[list[Any]]]:
        table, _, _ = execution_engine.get_compute_domain(metric_domain_kwargs, domain_type=MetricDomainTypes.TABLE)
        demands = json.loads(metric_value_kwargs["demands"])
        broken = {kind: _BROKEN[kind](table, wanted) for kind, wanted in demands.items()}
        return {kind: unmet for kind, unmet in broken.items() if unmet}


def _mistyped(table: pd.DataFrame, demands: list[list[Any]]) -> list[list[Any]]:
    dtypes = [(name, str(dtype)) for name, dtype in table.dtypes.items()]
    return [[name, dtype] for name, dtype in demands if [actual for n, actual in dtypes if n == name] != [dtype]]


def _missing(table: pd.DataFrame, demands: list[list[Any]]) -> list[list[Any]]:
    gaps = table[[name for name, _ in demands]].isna().to_numpy()
    excused = np.zeros(gaps.shape, dtype=np.bool_)
    for k, (_, unless) in enumerate(demands):
        if unless is not None:
            excused[:, k] = table[unless]
    return [demand for demand, broken in zip(demands, (gaps & ~excused).any(axis=0), strict=True) if broken]


def _out_of_bounds(table: pd.DataFrame, demands: list[list[Any]]) -> list[list[Any]]:
    columns = list({name for name, _, _ in demands})
    lowest, highest = table[columns].min(), table[columns].max()
    return [[name, low, high] for name, low, high in demands if lowest[name] < low or highest[name] > high]


def _out_of_order(table: pd.DataFrame, demands: list[list[Any]]) -> list[list[Any]]:
    return [
        [first, second, tolerance]
        for first, second, tolerance in demands
        if out_of_order(table[first].to_numpy(), table[second].to_numpy(), tolerance).any()
    ]


_BROKEN: Mapping[str, Callable[[pd.DataFrame, list[list[Any]]], list[list[Any]]]] = {
    "types": _mistyped,
    "presence": _missing,
    "bounds": _out_of_bounds,
    "order": _out_of_order,
}
