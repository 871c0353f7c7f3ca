"""The process that owns the local stack: begins it in order, keeps it alive, ends it in the opposite order."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from redis.exceptions import RedisError

from feature_repo.stores.redis.connection import connect
from feature_repo.stores.redis.embedded import ensure_server
from flows.settings import Settings
from flows.stack import services
from flows.stack.configuration import configure_prefect
from flows.stack.environment import environment, given_api_url
from flows.stack.errors import StackError
from flows.stack.ports import require_free
from flows.stack.processes import Child, Identity, kill, wait_for_end
from flows.stack.schedules import end_abandoned, ensure_pool, pause_schedules, resume_schedules
from flows.stack.services import PREFECT_FILE, PROJECT, Service
from flows.stack.state import State, clear_state, read_state, take_lock, write_state

HOST = "127.0.0.1"
START_TIMEOUT_S = 120.0
"""How long a cold, busy machine may take to start a service."""

_TICK_S = 0.5
_RESTARTS = 5
_RESTARTS_WITHIN_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is started.

    Attributes:
        api_url: a Prefect server that somebody else runs; empty: one of the stack's own, on ``prefect_port``.
        dashboard_port: None: no dashboard.
        project: the folder that flows are run in.
        prefect_file: what is deployed.
    """

    prefect_port: int = 4200
    dashboard_port: int | None = 8050
    api_url: str = field(default_factory=given_api_url)
    project: Path = PROJECT
    prefect_file: Path = PREFECT_FILE


class Stopped(Exception):  # noqa: N818  # no error: somebody asked for it
    """The stack was asked to end while it was being started."""


@dataclass(slots=True)
class RestartBudget:
    """How often a service that ends by itself is started again: a few times in a while, then there is a reason.

    ``now`` is in seconds of a clock that never goes back.
    """

    ends: list[float] = field(default_factory=list)

    def allows(self, now: float) -> bool:
        """Counts an end; returns whether another start is worth it."""
        self.ends = [*(end for end in self.ends if end > now - _RESTARTS_WITHIN_S), now]
        return len(self.ends) <= _RESTARTS


class Supervisor:
    """Owns the stack of a home.

    Args:
        tell: is called with each step, for the screen.
        stop: ends the stack once it is set.
    """

    def __init__(
        self, settings: Settings, plan: Plan, *, stop: threading.Event, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._stop = stop
        self._tell = tell
        self._children: dict[str, tuple[Service, Child]] = {}
        self._budgets: dict[str, RestartBudget] = {}
        self._api_url = plan.api_url or f"http://{HOST}:{plan.prefect_port}/api"
        self._logs = settings.home / "logs"
        self._state = State(supervisor=Identity.of(os.getpid()), api_url=self._api_url)

    def run(self, on_ready: Callable[[], None]) -> bool:
        """Has the stack up until it is asked to end. Returns False, at once, when another supervisor has it up.

        Raises:
            StackError: a part of it does not start, or ends again and again; all else has been ended then.
            EmbeddedServerError: the embedded Redis does not start.
        """
        lock = take_lock(self._settings.home)
        if lock is None:
            return False
        with lock:
            try:
                self._begin_all()
                on_ready()
                self._watch()
            except Stopped:
                pass
            finally:
                self._end_all()
        return True

    def _watch(self) -> None:
        while not self._stop.wait(_TICK_S):
            if not self._settings.redis_url:
                ensure_server(self._settings.home)  # its first owner may have been a command that has ended by now
            for name, (service, child) in list(self._children.items()):
                code = child.exit_code()
                if code is None:
                    continue
                if not self._budgets.setdefault(name, RestartBudget()).allows(time.monotonic()):
                    raise StackError(f"{name} ends again and again: {child.last_line()} (all of it: {child.log})")
                self._tell(f"{datetime.now(UTC):%H:%M:%S} {name} ended with {code}; started again ({child.log})")
                self._start(service)

    # ------------------------------------------------------------------------------------------------ starting

    def _begin_all(self) -> None:
        configure_prefect(self._settings)
        plan, home = self._plan, self._settings.home
        _end_leftovers(home)
        if not plan.api_url:
            require_free(HOST, plan.prefect_port, option="--port")
        if plan.dashboard_port is not None:
            require_free(HOST, plan.dashboard_port, option="--dashboard-port")
        self._place("redis", self._redis())
        if not plan.api_url:
            self._begin(services.prefect_server(HOST, plan.prefect_port))
        self._place("prefect", self._api_url.removesuffix("/api"))
        ensure_pool(self._api_url)
        if not plan.api_url:  # on a server of somebody else's, another worker may be at them
            end_abandoned(self._api_url)
        self._deploy(plan.prefect_file)
        active = resume_schedules(self._api_url, home)
        self._place("scheduled", ", ".join(sorted(active)) or "no deployment")
        self._begin(services.worker())
        if plan.dashboard_port is not None:
            self._begin(services.dashboard(HOST, plan.dashboard_port))
            self._place("dashboard", f"http://{HOST}:{plan.dashboard_port}")
        self._place("tables", self._settings.repo().offline)
        self._place("logs", str(self._logs))
        self._write(replace(self._state, ready=True))

    def _redis(self) -> str:
        url = self._settings.redis_url
        if not url:
            return f"embedded, {ensure_server(self._settings.home)}"
        repo = self._settings.repo()
        try:
            with connect(url, repo.redis_type, timeout_s=2.0) as client:
                client.ping()
        except RedisError as error:
            raise StackError(
                f"Redis does not answer ({error}). Is FSTORE_REDIS_URL right, and its server up?"
            ) from error
        return "set by FSTORE_REDIS_URL"

    def _begin(self, service: Service) -> None:
        """Starts a service and waits until it is ready."""
        self._tell(f"starting {service.name}")
        child = self._start(service)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not service.is_ready():
            if child.exit_code() is not None or time.monotonic() > deadline:
                raise StackError(f"{service.name} does not start: {child.last_line()} (all of it: {child.log})")
            self._pause()

    def _start(self, service: Service) -> Child:
        environ = environment(self._settings, self._api_url)
        log = self._logs / f"{service.name}.log"
        child = Child(service.name, service.command, log=log, environ=environ, folder=self._plan.project)
        self._children[service.name] = (service, child)
        self._write(replace(self._state, children={**self._state.children, service.name: child.identity}))
        return child

    def _deploy(self, file: Path) -> None:
        self._tell(f"deploying {file.name}")
        environ = environment(self._settings, self._api_url)
        command, log = services.deploy_command(file), self._logs / "deploy.log"
        child = Child("deploy", command, log=log, environ=environ, folder=self._plan.project)
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while (code := child.exit_code()) is None and time.monotonic() < deadline:
                self._pause()
        finally:
            child.stop()
        if code != 0:
            raise StackError(f"{file} can't be deployed: {child.last_line()} (all of it: {child.log})")

    def _pause(self) -> None:
        if self._stop.wait(0.1):
            raise Stopped

    def _place(self, name: str, where: str) -> None:
        self._write(replace(self._state, places={**self._state.places, name: where}))

    def _write(self, state: State) -> None:
        self._state = state
        write_state(self._settings.home, state)

    # -------------------------------------------------------------------------------------------------- ending

    def _end_all(self) -> None:
        """Schedules first, so that nothing new begins; then the services, the last one first."""
        if "worker" in self._children:  # nothing was scheduled before
            self._tell("pausing the schedules")
            with contextlib.suppress(StackError):  # a server that is gone schedules nothing
                pause_schedules(self._api_url, self._settings.home)
        for name, (_, child) in reversed(self._children.items()):
            self._tell(f"ending {name}")
            child.stop()
        clear_state(self._settings.home)


def _end_leftovers(home: Path) -> None:
    """Waits for what a killed supervisor left: its guards are ending it; one that hangs is killed."""
    state = read_state(home)
    for identity in state.children.values() if state else ():
        if not wait_for_end(identity, 20.0):
            kill(identity)
    clear_state(home)
