"""Whether online, offline and recomputed hold the same, for one symbol and timeframe.

Online is compared with what offline held at online's own revision, bit for bit: so a run that stores more at this very
moment makes no difference. Offline is compared with what a run over all of history would store: nothing, if all is
well. Bars that have been written since the last run wait for the next one; rows that depend on them are not looked at.

``comparison`` asks both questions: ``online`` answers the first, ``recomputed`` the second, in ``findings``.
"""

from flows.verify.comparison import compare_stores
from flows.verify.findings import RULES, Comparison, Finding

__all__ = ["compare_stores", "Comparison", "Finding", "RULES"]
