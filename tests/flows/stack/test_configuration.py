"""What flows that are called in a process run within."""

from __future__ import annotations

import subprocess
import sys

WAITS = """
import atexit, time
from flows.settings import load_settings
from flows.stack.configuration import prefect_engine

with prefect_engine(load_settings()):
    atexit.register(print, "ended", flush=True)  # as Prefect registers the end of its own server
    print("begun", flush=True)
    time.sleep(60)
"""


def test_a_command_asked_to_end_ends_what_it_started() -> None:
    command = [sys.executable, "-c", WAITS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout
        assert waiting.stdout.readline() == "begun\n"
        waiting.terminate()
        assert waiting.communicate(timeout=30) == ("ended\n", "")
        assert waiting.returncode == 143
