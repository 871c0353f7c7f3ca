"""How this platform wants Prefect: quiet, local, and with its files in the home folder unless told otherwise."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from flows.errors import MendableError
from flows.settings import Settings, require_task_runner


class EngineError(MendableError):
    """Prefect can't be reached or started; the message says what to look at."""


def configure_prefect(settings: Settings) -> None:
    """Sets Prefect's defaults for this process and its children; call it before Prefect is imported.

    A variable that is set stays as it is: ``PREFECT_API_URL`` leads every run to that server. Profiles in
    ``~/.prefect`` count only when ``PREFECT_HOME`` names it: another project's server is not where these runs belong.
    While the local stack is up, runs belong to its server.
    """
    from flows.stack.status import running_api

    defaults = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",  # 20 s is too short for a cold, busy machine
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }
    if api := running_api(settings):
        defaults["PREFECT_API_URL"] = api
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


@contextmanager
def prefect_engine(settings: Settings) -> Iterator[None]:
    """What a flow that is called in this process, and its import, run within; of the main thread.

    Where no server is named Prefect starts one, a process that it ends when this one does. From here on SIGTERM is such
    an end too (exit code 143), or the server would live on.

    Raises:
        SettingsError: the package of the task runner is not installed.
        EngineError: Prefect has no server.
    """
    require_task_runner(settings.task_runner)
    configure_prefect(settings)
    signal.signal(signal.SIGTERM, _end)
    try:
        yield
    except RuntimeError as error:
        if type(error) is not RuntimeError:  # Prefect raises nothing more specific when it has no server
            raise
        raise EngineError(f"Prefect: {error} Is PREFECT_API_URL right, and its server up?") from error


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)
