"""Where a run's tasks work: threads, processes, or the workers of a Dask or Ray cluster.

Arguments and results of tasks travel pickled between the processes of a cluster, as Dask and Ray do it: anyone who can
reach its ports can run code there, so a cluster belongs in a network of its own. Nothing pickled is stored: results
live as long as their run.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from flows.settings import require_task_runner

_THREADS = 4


def task_runner(spec: str) -> TaskRunner[Any]:
    """The task runner that ``FSTORE_TASK_RUNNER`` names, not yet started.

    Raises:
        SettingsError: the package that it needs is not installed; the message names the extra.
    """
    require_task_runner(spec)
    kind, _, address = spec.partition("://")
    if kind == "processes":
        return ProcessPoolTaskRunner()
    if kind == "dask" and address:
        return _extra("dask", "DaskTaskRunner", address=f"tcp://{address}")
    if kind == "dask":  # one thread a process: a task's own libraries use the other cores
        cluster = {"processes": True, "threads_per_worker": 1, "dashboard_address": None}
        return _extra("dask", "DaskTaskRunner", cluster_kwargs=cluster)
    if kind == "ray":
        return _extra("ray", "RayTaskRunner", address=f"ray://{address}")
    return ThreadPoolTaskRunner(max_workers=_THREADS)


def _extra(extra: str, name: str, **arguments: Any) -> TaskRunner[Any]:
    runner: TaskRunner[Any] = getattr(import_module(f"prefect_{extra}"), name)(**arguments)
    return runner
