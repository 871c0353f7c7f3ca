"""The local stack: embedded Redis, Prefect server, worker and dashboard, started and stopped together.

One process, the supervisor, owns all others and holds a lock as long as it runs, so whether the stack is up has one
answer that a reused process id can't falsify. Whatever ends the supervisor ends everything it owns.
"""

from flows.stack.ports import PortTakenError
from flows.stack.state import StackError, State, running_api, running_state, stack_lines
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
