"""How a run ends in Prefect, on schedule or by hand: one that stopped a symbol is not green, or nobody would look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

STOPPED = "Stopped"
"""The state of a run that did all it could, and not all: its name in Prefect, and in the events of automations."""

_SHOWN = 5


def final_state(did: str, problems: Sequence[str], result: Any = None) -> State[Any]:
    """``Completed`` with what was done, or ``Stopped`` (a failed state) with what was not.

    Args:
        result: what the flow returns in either state; ``result_of`` the state returns it.
    """
    if not problems:
        return Completed(message=did, data=result)
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    message = f"{did}; {len(problems)} stopped: {'; '.join(problems[:_SHOWN])}{more}"
    return Failed(name=STOPPED, message=message, data=result)


def result_of(state: State[Any]) -> Any:
    """What a flow that was called with ``return_state=True`` returns, though it stopped something.

    Raises:
        BaseException: what the flow raised.
    """
    result = state.result(raise_on_failure=False)
    if isinstance(result, BaseException):
        raise result
    return result
