"""What the kernels take, from a symbol's bars: its columns, and each bar's trading day."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from feature_repo.catalog import BAR_FIELDS, Session
from feature_repo.sessions import session_day

FloatArray = npt.NDArray[np.float64]


def kernel_inputs(
    session: Session, opens_us: npt.NDArray[np.int64], columns: Mapping[str, FloatArray]
) -> dict[str, FloatArray]:
    """The bar columns and ``session_day``.

    Args:
        opens_us: (n,) open times, microseconds since 1970-01-01 UTC, ascending.
        columns: (n,) float64 for each of ``BAR_FIELDS``.
    """
    inputs = {name: np.asarray(columns[name], dtype=np.float64) for name in BAR_FIELDS}
    inputs["session_day"] = session_day(session, opens_us).astype(np.float64)
    return inputs
