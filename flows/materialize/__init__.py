"""The batch flow: new bars to published features.

``stages`` alone knows their order (as the stream flow's ``session`` does for live bars); ``flow`` runs it in Prefect,
symbols in shards. What a stage does is beside this package: ``pending``, ``history``, ``shard``, ``results``,
``publication``.
"""

from flows.materialize.stages import materialize_symbols

__all__ = ["materialize_symbols"]
