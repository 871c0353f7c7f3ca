"""The root of errors that the operator can fix: the command line shows them in one line."""


class MendableError(RuntimeError):
    """Its message says what is wrong and what to do about it."""
