"""The ``fstore`` command, also ``python -m flows``; without the extra that a command needs it names the extra.

This module and ``flows/extras.py`` import the standard library only: they run where just the client is installed.
"""

from __future__ import annotations

import sys
from typing import Any

from flows.extras import missing_extra


def main(arguments: list[str] | None = None) -> Any:
    """Runs the command line; exits with 2 when a package is not installed that one of our extras brings."""
    try:
        from flows.cli import main as run

        return run(arguments)
    except ModuleNotFoundError as error:
        advice = missing_extra(error)
        if advice is None:  # a bug, here or in a dependency: its traceback is what helps
            raise
        print(f"error  {advice}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
