"""The command line, ``fstore``: one module per group of commands, and one that draws."""

from flows.cli.main import app, main

__all__ = ["app", "main"]
