"""The local stack: embedded Redis, Prefect server, worker and dashboard, begun and ended together.

One process, the supervisor, owns all others and holds a lock for as long as it lives, so "does it run" has one answer
that no reused process id can falsify. Whatever ends the supervisor ends what it owns.
"""

from flows.stack.errors import PortTakenError, StackError
from flows.stack.state import State
from flows.stack.status import running_api, running_state, stack_lines
from flows.stack.stop import stop_stack
from flows.stack.supervisor import Plan, Supervisor

__all__ = [
    "Plan",
    "PortTakenError",
    "StackError",
    "State",
    "Supervisor",
    "running_api",
    "running_state",
    "stack_lines",
    "stop_stack",
]
