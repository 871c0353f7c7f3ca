"""Commands of the local stack: up and down."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from typing import Annotated

import typer

from flows.cli import show
from flows.settings import Settings, load_settings

_DETACHED_TIMEOUT_S = 180.0


def up(
    port: Annotated[int, typer.Option(help="Port of the Prefect server and its UI.", min=1, max=65535)] = 4200,
    dashboard_port: Annotated[int, typer.Option(help="Port of the dashboard.", min=1, max=65535)] = 8050,
    detach: Annotated[bool, typer.Option("--detach", help="Run in the background until `fstore down`.")] = False,
) -> None:
    """Start the local stack: Redis, Prefect and its UI, a worker, scheduled deployments, the dashboard."""
    from flows.stack import running_state

    settings = load_settings()
    if running_state(settings):
        show.line("The stack is already up:\n")
        _print_stack(settings)
    elif detach:
        _detached(settings, ["--port", str(port), "--dashboard-port", str(dashboard_port)])
    else:
        _foreground(settings, port, dashboard_port)


def down() -> None:
    """Stop the local stack; no process is left, and schedules are paused until the next `fstore up`."""
    from flows.stack import stop_stack

    with show.err.status("stopping the stack"):
        was_up = stop_stack(load_settings())
    show.line("The stack is down." if was_up else "The stack was not up.")


def _foreground(settings: Settings, port: int, dashboard_port: int) -> None:
    from flows.stack import Plan, Supervisor

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    plan = Plan(prefect_port=port, dashboard_port=dashboard_port)
    supervisor = Supervisor(settings, plan, stop=stop, on_step=lambda step: show.line((step, "dim"), to=show.err))

    def announce() -> None:
        show.line(("\nfstore is up", "bold"), "   stop it with Ctrl-C or `fstore down`\n")
        _print_stack(settings)

    if supervisor.run(announce):
        show.line("The stack is down.")
    else:  # another supervisor was faster
        show.line("The stack is already up; see fstore status.")


def _detached(settings: Settings, options: list[str]) -> None:
    from flows.stack import StackError, running_state

    log = settings.home / "logs" / "stack.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", "from flows.cli import main; main()", "up", *options]
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603  # this same command
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    deadline = time.monotonic() + _DETACHED_TIMEOUT_S
    with show.err.status("starting the stack"):
        while not ((state := running_state(settings)) and state.ready):
            if process.poll() is not None or time.monotonic() > deadline:
                process.terminate()
                raise StackError(f"{_last_line(log.read_text(errors='replace'))} (full log: {log})")
            time.sleep(0.1)
    show.line(("fstore is up", "bold"), "   stop it with `fstore down`\n")
    _print_stack(settings)


def _last_line(text: str) -> str:
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "the stack did not start")
    return last.removeprefix("error ")  # the caller prints it as an error again


def _print_stack(settings: Settings) -> None:
    from flows.stack import stack_lines

    lines = stack_lines(settings)
    width = max(len(name) for name, _ in lines)
    for name, where in lines:
        show.line((f"  {name:<{width}}", "bold"), f"  {where}")
