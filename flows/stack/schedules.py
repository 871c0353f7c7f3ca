"""Schedules are active while the stack is up: stopping pauses them, starting resumes them and drops missed runs.

A deployment that a user paused stays paused: the stack records which ones it pauses before it does so. Prefect deletes
a deployment's waiting runs when it is paused, so resuming never starts a pile of late runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import httpx

from flows.stack.state import StackError, folder, write_whole

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

POOL = "fstore"
"""The work pool of the platform's deployments."""

_PAGE = 200


def ensure_pool(api_url: str) -> None:
    """Creates the work pool of the deployments, unless it exists."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    with _client(api_url) as client, suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))


def pause_schedules(api_url: str, home: Path) -> tuple[str, ...]:
    """Pauses the pool's active deployments; returns their names.

    Raises:
        StackError: the server does not answer, or refuses the request.
    """
    with _client(api_url) as client:
        active = [deployment for deployment in _deployments(client) if not deployment.paused]
        _remember(home, _remembered(home) | {str(deployment.id) for deployment in active})
        for deployment in active:
            client.pause_deployment(deployment.id)
    return tuple(deployment.name for deployment in active)


def resume_schedules(api_url: str, home: Path) -> tuple[str, ...]:
    """Resumes what ``pause_schedules`` paused, and drops the late runs of a stack that was killed.

    Returns:
        The names of all deployments that are active now.

    Raises:
        StackError: the server does not answer, or refuses the request.
    """
    ours = _remembered(home)
    with _client(api_url) as client:
        deployments = [d for d in _deployments(client) if not d.paused or str(d.id) in ours]
        for deployment in deployments:
            client.pause_deployment(deployment.id)  # drops the runs that were due while no worker was running
            client.resume_deployment(deployment.id)
    _remember(home, frozenset())
    return tuple(deployment.name for deployment in deployments)


def end_abandoned(api_url: str) -> int:
    """Ends the runs that a stopped or killed stack left unfinished. Returns how many.

    No worker continues them, and each would keep occupying its deployment's only slot, so that all later runs would be
    cancelled.

    Raises:
        StackError: the server does not answer, or refuses the request.
    """
    from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter, WorkPoolFilterName
    from prefect.states import Crashed

    unfinished = FlowRunFilter.model_validate({"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}})
    pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL]))
    with _client(api_url) as client:
        runs = client.read_flow_runs(flow_run_filter=unfinished, work_pool_filter=pool, limit=_PAGE)
        for run in runs:
            client.set_flow_run_state(run.id, Crashed(message="the stack was stopped while it ran"), force=True)
    return len(runs)


def _deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName

    pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL]))
    deployments: list[DeploymentResponse] = []
    while True:
        page = client.read_deployments(work_pool_filter=pool, limit=_PAGE, offset=len(deployments))
        deployments += page
        if len(page) < _PAGE:
            return deployments


@contextmanager
def _client(api_url: str) -> Iterator[SyncPrefectClient]:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY

    auth, key = PREFECT_API_AUTH_STRING.value(), PREFECT_API_KEY.value()
    try:
        with SyncPrefectClient(api_url, auth_string=auth, api_key=key) as client:
            yield client
    except httpx.HTTPError as error:
        raise StackError(
            f"the Prefect server at {api_url} failed or refused a request ({error}); check PREFECT_API_URL"
        ) from error


def _remembered(home: Path) -> frozenset[str]:
    try:
        return frozenset(str(UUID(id_)) for id_ in json.loads((folder(home) / "paused.json").read_text()))
    except (FileNotFoundError, ValueError):
        return frozenset()


def _remember(home: Path, deployments: frozenset[str]) -> None:
    write_whole(folder(home) / "paused.json", json.dumps(sorted(deployments)))
