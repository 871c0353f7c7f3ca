"""Stops a stack from another process, whatever state its supervisor is in."""

from __future__ import annotations

import time

from feature_repo.stores.redis.embedded import running_server
from flows.settings import Settings
from flows.stack.configuration import configure_prefect
from flows.stack.processes import GRACE_S, ask_to_end, kill, wait_for_end
from flows.stack.schedules import pause_schedules
from flows.stack.state import StackError, State, clear_state, is_supervised, read_state

_SUPERVISOR_TIMEOUT_S = 4 * GRACE_S


def stop_stack(settings: Settings) -> bool:
    """Stops the home's stack and pauses its schedules. Returns whether there was anything to stop.

    A running supervisor stops everything itself. A supervisor that was killed leaves only guards, which are about to
    end their commands and are waited for. Its own Prefect server, and with it the schedules, is then gone too; on an
    external server the schedules are paused from here.

    Raises:
        StackError: the stack is still starting, or an external Prefect server does not answer.
    """
    state = read_state(settings.home)
    if state is None:
        if is_supervised(settings.home):
            raise StackError("the stack is still starting; try again in a second")
        return False
    if is_supervised(settings.home):
        if not ask_to_end(state.supervisor, _SUPERVISOR_TIMEOUT_S):
            kill(state.supervisor)  # its guards end everything it owned
            _end_orphans(state, settings)
        return True
    _end_orphans(state, settings)
    return True


def _end_orphans(state: State, settings: Settings) -> None:
    deadline = time.monotonic() + 2 * GRACE_S
    for guard in state.children.values():
        if not wait_for_end(guard, deadline - time.monotonic()):
            kill(guard)
    if "prefect-server" not in state.children:
        configure_prefect(settings)
        pause_schedules(state.api_url, settings.home)
    while running_server(settings.home) and "embedded" in state.places.get("redis", "") and time.monotonic() < deadline:
        time.sleep(0.05)  # the embedded Redis saves and ends with its owner; it may have another owner by now
    clear_state(settings.home)
