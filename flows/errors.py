"""The root of the errors that an operator can fix: the command line shows each in one line."""


class FixableError(RuntimeError):
    """Its message says what is wrong and what to do about it."""
