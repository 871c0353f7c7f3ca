"""What a strategy imports: the client, its cache, its metrics, its errors, and the provenance of its answers.

The package itself loads neither pandas nor Arrow, which take seconds: a name that needs them is loaded when it is first
used (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING

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

# Not when it is first used: the function has the name of its module, which would be taken for it.
from fsclient.provenance import Provenance, provenance

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

if TYPE_CHECKING:
    from fsclient.cache.feature_cache import FeatureCache
    from fsclient.client import FeatureStoreClient
    from fsclient.computed.registered import feature
    from fsclient.metrics.registry import CallRecord, feature_store_metrics
    from fsclient.sync import SyncFeatureStoreClient
else:  # where a type checker would take any name for one of the package's
    _MODULES = {
        "FeatureStoreClient": "fsclient.client",
        "SyncFeatureStoreClient": "fsclient.sync",
        "FeatureCache": "fsclient.cache.feature_cache",
        "feature_store_metrics": "fsclient.metrics.registry",
        "CallRecord": "fsclient.metrics.registry",
        "feature": "fsclient.computed.registered",
    }

    def __getattr__(name):
        """A name whose module is loaded now."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_MODULES[name]), name)
        return value

    def __dir__():
        return sorted({*globals(), *_MODULES})
