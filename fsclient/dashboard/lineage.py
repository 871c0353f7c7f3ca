"""What a field means and what it is made of."""

from __future__ import annotations

import json
from hashlib import sha256

from feature_repo.catalog import PRODUCER, Indicator


def definition_digest(indicator: Indicator) -> str:
    """A short name of what an indicator means: it changes when its kernel, parameters, inputs or warm-up do."""
    meaning = [
        indicator.kind,
        sorted(indicator.parameters.items()),
        indicator.inputs,
        indicator.outputs,
        indicator.lookback,
        indicator.warm_up,
    ]
    return sha256(json.dumps(meaning).encode()).hexdigest()[:8]


def lineage(field: str) -> tuple[str, ...]:
    """What a field is made of, from the source to the name that a strategy reads."""
    indicator = PRODUCER.get(field)
    if indicator is None:
        return ("source file", "quality gate", "bars", f"ohlcv_*:{field}", "latest_* service")
    parameters = ", ".join(f"{name}={number:g}" for name, number in indicator.parameters.items())
    return (
        f"bars ({', '.join(indicator.inputs)})",
        f"{indicator.kind}({parameters})",
        "quality gate",
        f"indicators_*:{field}",
        "latest_* service",
    )
