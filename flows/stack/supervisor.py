"""The process that owns the local stack: starts it in order, keeps it running, stops it in reverse order."""

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
from flows.stack.environment import configured_api_url, environment
from flows.stack.ports import require_free
from flows.stack.processes import Child, Identity, kill, wait_for_end
from flows.stack.schedules import end_abandoned, ensure_pool, pause_schedules, resume_schedules
from flows.stack.services import PREFECT_FILE, PROJECT, Service
from flows.stack.state import StackError, State, clear_state, read_state, take_lock, write_state

HOST = "127.0.0.1"
START_TIMEOUT_S = 120.0
"""How long a cold, busy machine may take to start a service."""

_TICK_S = 0.5
_RESTARTS = 5
_RESTARTS_WITHIN_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to start.

    Attributes:
        api_url: an external Prefect server; empty: the stack starts its own on ``prefect_port``.
        dashboard_port: None: no dashboard.
        project: the folder in which flows are run.
        prefect_file: the deployments.
    """

    prefect_port: int = 4200
    dashboard_port: int | None = 8050
    api_url: str = field(default_factory=configured_api_url)
    project: Path = PROJECT
    prefect_file: Path = PREFECT_FILE


class Stopped(Exception):  # noqa: N818  # not an error: it was requested
    """The stack was stopped while it was starting."""


@dataclass(slots=True)
class RestartBudget:
    """How often a service that ends by itself is restarted: a few times within a while, after which it is an error.

    ``now`` is in seconds of a monotonic clock.
    """

    ends: list[float] = field(default_factory=list)

    def allows(self, now: float) -> bool:
        """Records an end; returns whether the service may be restarted."""
        self.ends = [*(end for end in self.ends if end > now - _RESTARTS_WITHIN_S), now]
        return len(self.ends) <= _RESTARTS


class Supervisor:
    """Owns the stack of a home.

    Args:
        on_step: called with a line of text for each step.
        stop: stops the stack once it is set.
    """

    def __init__(
        self, settings: Settings, plan: Plan, *, stop: threading.Event, on_step: Callable[[str], None] = lambda _: None
    ) -> None:
        self._settings = settings
        self._plan = plan
        self._stop = stop
        self._on_step = on_step
        self._children: dict[str, tuple[Service, Child]] = {}
        self._budgets: dict[str, RestartBudget] = {}
        self._api_url = plan.api_url or f"http://{HOST}:{plan.prefect_port}/api"
        self._logs = settings.home / "logs"
        self._state = State(supervisor=Identity.of(os.getpid()), api_url=self._api_url)

    def run(self, on_ready: Callable[[], None]) -> bool:
        """Keeps the stack up until it is stopped. Returns False at once when another supervisor has it up.

        Raises:
            StackError: a service does not start or keeps ending; everything else has then been stopped.
            EmbeddedServerError: the embedded Redis does not start.
        """
        lock = take_lock(self._settings.home)
        if lock is None:
            return False
        with lock:
            try:
                self._start_all()
                on_ready()
                self._watch()
            except Stopped:
                pass
            finally:
                self._stop_all()
        return True

    def _watch(self) -> None:
        while not self._stop.wait(_TICK_S):
            if not self._settings.redis_url:
                ensure_server(self._settings.home)  # its owner may have been a command that has ended since
            for name, (service, child) in list(self._children.items()):
                code = child.exit_code()
                if code is None:
                    continue
                if not self._budgets.setdefault(name, RestartBudget()).allows(time.monotonic()):
                    raise StackError(f"{name} keeps ending: {child.last_line()} (full log: {child.log})")
                self._on_step(
                    f"{datetime.now(UTC):%H:%M:%S} {name} ended with code {code} and was restarted (log: {child.log})"
                )
                self._start(service)

    # ------------------------------------------------------------------------------------------------ starting

    def _start_all(self) -> None:
        configure_prefect(self._settings)
        plan, home = self._plan, self._settings.home
        _end_leftovers(home)
        if not plan.api_url:
            require_free(HOST, plan.prefect_port, option="--port")
        if plan.dashboard_port is not None:
            require_free(HOST, plan.dashboard_port, option="--dashboard-port")
        self._place("redis", self._redis())
        if not plan.api_url:
            self._start_and_wait(services.prefect_server(HOST, plan.prefect_port))
        self._place("prefect", self._api_url.removesuffix("/api"))
        ensure_pool(self._api_url)
        if not plan.api_url:  # on an external server another worker may be running them
            end_abandoned(self._api_url)
        self._deploy(plan.prefect_file)
        active = resume_schedules(self._api_url, home)
        self._place("scheduled", ", ".join(sorted(active)) or "no deployment")
        self._start_and_wait(services.worker())
        if plan.dashboard_port is not None:
            self._start_and_wait(services.dashboard(HOST, plan.dashboard_port))
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
                f"Redis does not answer ({error}). Check FSTORE_REDIS_URL, and that its server is running."
            ) from error
        return "set by FSTORE_REDIS_URL"

    def _start_and_wait(self, service: Service) -> None:
        """Starts a service and waits until it is ready."""
        self._on_step(f"starting {service.name}")
        child = self._start(service)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not service.is_ready():
            if child.exit_code() is not None or time.monotonic() > deadline:
                raise StackError(f"{service.name} did not start: {child.last_line()} (full log: {child.log})")
            self._pause()

    def _start(self, service: Service) -> Child:
        environ = environment(self._settings, self._api_url)
        log = self._logs / f"{service.name}.log"
        child = Child(service.name, service.command, log=log, environ=environ, folder=self._plan.project)
        self._children[service.name] = (service, child)
        self._write(replace(self._state, children={**self._state.children, service.name: child.identity}))
        return child

    def _deploy(self, file: Path) -> None:
        self._on_step(f"deploying {file.name}")
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
            raise StackError(f"{file} can't be deployed: {child.last_line()} (full log: {child.log})")

    def _pause(self) -> None:
        if self._stop.wait(0.1):
            raise Stopped

    def _place(self, name: str, where: str) -> None:
        self._write(replace(self._state, places={**self._state.places, name: where}))

    def _write(self, state: State) -> None:
        self._state = state
        write_state(self._settings.home, state)

    # ------------------------------------------------------------------------------------------------- stopping

    def _stop_all(self) -> None:
        """Pauses schedules first, so that nothing new begins; then stops the services in reverse order."""
        if "worker" in self._children:  # otherwise nothing is scheduled yet
            self._on_step("pausing the schedules")
            with contextlib.suppress(StackError):  # a server that has ended schedules nothing
                pause_schedules(self._api_url, self._settings.home)
        for name, (_, child) in reversed(self._children.items()):
            self._on_step(f"stopping {name}")
            child.stop()
        clear_state(self._settings.home)


def _end_leftovers(home: Path) -> None:
    """Waits until the guards of a killed supervisor have ended their commands; one that hangs is killed."""
    state = read_state(home)
    for identity in state.children.values() if state else ():
        if not wait_for_end(identity, 20.0):
            kill(identity)
    clear_state(home)
