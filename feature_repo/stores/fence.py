"""The error that keeps a run that lost its lease from overwriting the run that holds it now."""


class FencedOutError(RuntimeError):
    """A later run has written here; what this one computed is out of date, and nothing of it was written."""
