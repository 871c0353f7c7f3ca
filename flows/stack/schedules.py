"""Schedules run while the stack does. Down, they are paused; up, those are resumed, and what was missed is dropped.

A deployment that a user paused stays paused: which ones the stack has paused is written down before it pauses them.
Prefect deletes a deployment's waiting runs when it is paused, so resuming never starts a heap of late ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import httpx

from flows.stack.errors import StackError
from flows.stack.state import folder, write_whole

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

POOL = "fstore"
"""The work pool of the platform's deployments."""

_PAGE = 200


def ensure_pool(api_url: str) -> None:
    """Makes the process work pool that the deployments name, once."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    with _client(api_url) as client, suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))


def pause_schedules(api_url: str, home: Path) -> tuple[str, ...]:
    """Pauses the pool's deployments that are not paused; returns their names.

    Raises:
        StackError: the server does not answer, or refuses.
    """
    with _client(api_url) as client:
        active = [one for one in _deployments(client) if not one.paused]
        _remember(home, _remembered(home) | {str(one.id) for one in active})
        for one in active:
            client.pause_deployment(one.id)
    return tuple(one.name for one in active)


def resume_schedules(api_url: str, home: Path) -> tuple[str, ...]:
    """Resumes what ``pause_schedules`` paused, and drops late runs of a stack that was killed.

    Returns:
        The names of all that are active now.

    Raises:
        StackError: the server does not answer, or refuses.
    """
    ours = _remembered(home)
    with _client(api_url) as client:
        wanted = [one for one in _deployments(client) if not one.paused or str(one.id) in ours]
        for one in wanted:
            client.pause_deployment(one.id)  # drops the runs that were due while nobody worked
            client.resume_deployment(one.id)
    _remember(home, frozenset())
    return tuple(one.name for one in wanted)


def end_abandoned(api_url: str) -> int:
    """Ends the runs that a stack which was ended or killed has left begun: nobody works on them any more, and each
    would keep its deployment's place, so that all that follow are cancelled. Returns how many.

    Raises:
        StackError: the server does not answer, or refuses.
    """
    from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter, WorkPoolFilterName
    from prefect.states import Crashed

    begun = FlowRunFilter.model_validate({"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}})
    pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL]))
    with _client(api_url) as client:
        runs = client.read_flow_runs(flow_run_filter=begun, work_pool_filter=pool, limit=_PAGE)
        for run in runs:
            client.set_flow_run_state(run.id, Crashed(message="the stack ended under it"), force=True)
    return len(runs)


def _deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName

    pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL]))
    found: list[DeploymentResponse] = []
    while True:
        page = client.read_deployments(work_pool_filter=pool, limit=_PAGE, offset=len(found))
        found += page
        if len(page) < _PAGE:
            return found


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
            f"the Prefect server at {api_url} does not do as asked ({error}); is it the right one?"
        ) from error


def _remembered(home: Path) -> frozenset[str]:
    try:
        return frozenset(str(UUID(one)) for one in json.loads((folder(home) / "paused.json").read_text()))
    except (FileNotFoundError, ValueError):
        return frozenset()


def _remember(home: Path, deployments: frozenset[str]) -> None:
    write_whole(folder(home) / "paused.json", json.dumps(sorted(deployments)))
