"""What a user is told of the local stack."""

from __future__ import annotations

from flows.settings import Settings
from flows.stack.state import State, is_supervised, read_state


def running_state(settings: Settings) -> State | None:
    """The home's stack while its supervisor lives; None when it is down."""
    return read_state(settings.home) if is_supervised(settings.home) else None


def running_api(settings: Settings) -> str | None:
    """The API of the Prefect server that the running stack uses: where other runs belong too."""
    state = running_state(settings)
    return state.api_url if state and state.ready else None


def stack_lines(settings: Settings) -> list[tuple[str, str]]:
    """(what, where) of each part of the stack, its processes included; one line when it is down."""
    state = running_state(settings)
    if state is None:
        return [("stack", "down; fstore up starts it")]
    how = "up" if state.ready else "being started"
    lines = [("stack", f"{how}, process {state.supervisor.pid}; fstore down ends it"), *state.places.items()]
    for name, guard in state.children.items():
        lines.append((name, f"process {guard.pid}" if guard.process() else "ended, about to be started again"))
    return lines
