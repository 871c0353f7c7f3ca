"""What a strategy imports: the client, its errors, and the provenance of its answers."""

from fsclient.client import FeatureStoreClient
from fsclient.errors import (
    AuthenticationError,
    CircuitOpenError,
    FeatureStoreError,
    FeatureStoreUnavailable,
    InvalidRequestError,
    RequestTimeout,
    StaleDataError,
    UnknownFeatureError,
    UnknownSymbolError,
)
from fsclient.provenance import Provenance, provenance

__all__ = [
    "FeatureStoreClient",
    "Provenance",
    "provenance",
    "FeatureStoreError",
    "FeatureStoreUnavailable",
    "CircuitOpenError",
    "RequestTimeout",
    "AuthenticationError",
    "UnknownSymbolError",
    "UnknownFeatureError",
    "InvalidRequestError",
    "StaleDataError",
]
