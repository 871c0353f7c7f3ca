"""Runs what the documents show. Reads blocks as JSON lines, answers each with its exit code and what it printed.

`fstore` and `feast` commands and Python blocks run in this one process, so that Prefect, great-expectations and Feast
are loaded once and not once a command; any other command goes to the shell.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import json
import os
import re
import shlex
import subprocess
import sys
import traceback
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any


def run_command(command: str) -> int:
    """Runs one line of a console, `NAME=value` before a command included."""
    words = shlex.split(command, comments=True)
    variables = {}
    while re.match(r"[A-Z_]+=", words[0]):
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    os.environ.update(variables)
    try:
        if words[0] in ("fstore", "feast"):
            (script,) = entry_points(group="console_scripts", name=words[0])
            sys.argv = words
            return int(script.load()() or 0)  # as the installed script does
        done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
        print(done.stdout, end="")
        if done.returncode:
            print(done.stderr, end="")
        return done.returncode
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)


def run_python(source: str, names: dict[str, Any], loop: asyncio.Runner) -> None:
    """Runs a block as a notebook does: `await` works at the top level, and names live on in the page's next block."""
    code = compile(source, "<block>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if code.co_flags & inspect.CO_COROUTINE:
        loop.run(eval(code, names))  # noqa: S307  # our own documents
    else:
        exec(code, names)  # noqa: S102


def main() -> None:
    answers, pages = sys.stdout, dict[str, dict[str, Any]]()
    folder, environ = Path.cwd(), dict(os.environ)
    with asyncio.Runner() as loop:
        for line in sys.stdin:
            block, code = json.loads(line), 0
            printed = io.StringIO()
            errors = printed if block["kind"] == "console" else io.StringIO()
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
                try:
                    if block["kind"] == "console":
                        code = run_command(block["source"])
                    else:
                        names = pages.setdefault(block["page"], {"__name__": "__main__"})
                        run_python(block["source"], names, loop)
                except Exception:
                    code = 1
                    traceback.print_exc(file=printed)
            os.chdir(folder)  # what a line or a block sets is its own
            os.environ.clear()
            os.environ.update(environ)
            print(json.dumps({"code": code, "printed": printed.getvalue()}), file=answers, flush=True)


if __name__ == "__main__":
    main()
