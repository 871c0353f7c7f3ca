"""One value explained: the bars and parameters it came from, what was known when, and whether the stores agree.

``value`` gathers an ``explanation``: ``origin`` finds what the value was made of and makes it again, ``shown`` what is
online of it.
"""

from flows.inspect.explain.explanation import Explanation, Known, NoSuchBarError, Rejected
from flows.inspect.explain.value import explain

__all__ = ["explain", "Explanation", "Known", "Rejected", "NoSuchBarError"]
