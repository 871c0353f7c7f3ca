"""How often a service is started again."""

from __future__ import annotations

from flows.stack.supervisor import RestartBudget


def test_a_service_that_ends_now_and_then_is_always_started_again() -> None:
    budget = RestartBudget()
    assert all(budget.allows(now) for now in range(0, 20_000, 130))


def test_a_service_that_ends_at_once_is_given_up() -> None:
    budget = RestartBudget()
    assert [budget.allows(float(now)) for now in range(7)] == [True] * 5 + [False] * 2
