"""The state in which a run ends, and the result that it returns in any state."""

from __future__ import annotations

import pytest
from prefect.states import Failed

from flows.engine.states import final_state, result_of


def test_a_run_with_a_stopped_symbol_is_a_failed_one_that_says_which() -> None:
    assert final_state("3 views published", []).is_completed()
    stopped = final_state("3 views published", [f"S{i} 1h: bad" for i in range(7)])
    assert stopped.is_failed()
    assert stopped.name == "Stopped"
    assert "7 stopped: S0 1h: bad" in (stopped.message or "")
    assert (stopped.message or "").endswith("and 2 more")


def test_a_run_gives_its_result_whether_it_stopped_a_symbol_or_not() -> None:
    assert result_of(final_state("3 views published", [], [1])) == [1]
    assert result_of(final_state("1 view published", ["GBP/USD: no bars"], [1, 2])) == [1, 2]


def test_what_a_flow_raised_is_raised() -> None:
    error = OSError("No space left on device")
    with pytest.raises(OSError, match="No space left on device") as raised:
        result_of(Failed(data=error))
    assert raised.value is error
