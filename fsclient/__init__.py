"""What a strategy imports: the client, its cache, its metrics, its errors, and the provenance of its answers."""

from fsclient.cache.feature_cache import FeatureCache
from fsclient.client import FeatureStoreClient
from fsclient.computed.registered import feature
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
from fsclient.metrics.registry import CallRecord, feature_store_metrics
from fsclient.provenance import Provenance, provenance
from fsclient.sync import SyncFeatureStoreClient

__all__ = [
    "FeatureStoreClient",
    "SyncFeatureStoreClient",
    "FeatureCache",
    "feature_store_metrics",
    "CallRecord",
    "feature",
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
