"""The root of errors that whoever runs the platform can mend: the command line tells them in one line."""


class MendableError(RuntimeError):
    """Its message says what is wrong and what to do about it."""
