"""How a deployed run ends: one that stopped a symbol is not green, or nobody would look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

STOPPED = "Stopped"
"""The state of a run that did all it could, and not all: its name in Prefect, and in the events of automations."""

_SHOWN = 5


def final_state(did: str, problems: Sequence[str]) -> State[Any]:
    """``Completed`` with what was done, or ``Stopped`` (a failed state) with what was not."""
    if not problems:
        return Completed(message=did)
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return Failed(name=STOPPED, message=f"{did}; {len(problems)} stopped: {'; '.join(problems[:_SHOWN])}{more}")
