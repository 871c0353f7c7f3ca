"""Everything that can go wrong, as one tree. Each message says what to do.

- FeatureStoreError
    - FeatureStoreUnavailable       the store cannot be reached, and no fallback was allowed or had an answer
        - CircuitOpenError          it was not asked: it failed too often just now
        - RequestTimeout            it did not answer within ``timeout_s``
    - AuthenticationError           the store refuses the credentials
    - UnknownSymbolError            a symbol that the catalog does not have
    - UnknownFeatureError           a feature that the catalog does not have; names the nearest
    - InvalidRequestError           start after end, an unknown timeframe, a parameter out of range
    - StaleDataError                there is an answer, but it is older than ``max_age_bars``

The last four and AuthenticationError are answers, not outages: they are never retried, cached, counted by the
breaker or covered by a fallback.
"""

from __future__ import annotations

CLOSED = "this client is closed; make a new one"
"""What a FeatureStoreUnavailable says of a call that a closed client got."""


class FeatureStoreError(Exception):
    """The base of all of them."""


class FeatureStoreUnavailable(FeatureStoreError):  # noqa: N818  # the public contract's name
    """The store cannot be reached."""


class CircuitOpenError(FeatureStoreUnavailable):
    """The breaker is open; ``retry_after_s`` says for how long still."""

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RequestTimeout(FeatureStoreUnavailable):
    """No answer within the call's ``timeout_s``."""


class AuthenticationError(FeatureStoreError):
    """The credentials were refused."""


class UnknownSymbolError(FeatureStoreError):
    """A symbol that the catalog does not have."""


class UnknownFeatureError(FeatureStoreError):
    """A feature that the catalog does not have."""


class InvalidRequestError(FeatureStoreError, ValueError):
    """A request that is invalid in itself."""


class StaleDataError(FeatureStoreError):
    """The answer is older than the caller accepts."""
