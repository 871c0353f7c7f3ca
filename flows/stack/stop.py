"""Ends a stack from outside, whatever has become of its supervisor."""

from __future__ import annotations

import time

from feature_repo.stores.redis.embedded import running_server
from flows.settings import Settings
from flows.stack.configuration import configure_prefect
from flows.stack.errors import StackError
from flows.stack.processes import GRACE_S, ask_to_end, kill, wait_for_end
from flows.stack.schedules import pause_schedules
from flows.stack.state import State, clear_state, is_supervised, read_state

_SUPERVISOR_TIMEOUT_S = 4 * GRACE_S


def stop_stack(settings: Settings) -> bool:
    """Ends the home's stack and pauses its schedules. Returns whether there was anything to end.

    A supervisor that lives ends it all itself. One that was killed is survived only by guards that are about to end
    what they hold; they are waited for. Then its Prefect server is gone too, and with it the schedules, unless the
    server is somebody else's: there they are paused from here.

    Raises:
        StackError: the supervisor does not end, or a server that is somebody else's does not answer.
    """
    state = read_state(settings.home)
    if state is None:
        if is_supervised(settings.home):
            raise StackError("the stack is just being started; try again in a second")
        return False
    if is_supervised(settings.home):
        if not ask_to_end(state.supervisor, _SUPERVISOR_TIMEOUT_S):
            kill(state.supervisor)  # its guards end all it owned
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
        time.sleep(0.05)  # the embedded Redis saves and ends with its owner; another process may own it by now
    clear_state(settings.home)
