"""Fencing: what keeps a run that lost its lease from writing over the run that has it now."""


class FencedOutError(RuntimeError):
    """A later run has written here; what this one computed is out of date, and nothing of it was written."""
