"""Runs that a stack has left begun, on a real Prefect server."""

from __future__ import annotations

from flows.stack.schedules import POOL, end_abandoned, ensure_pool


def test_a_run_that_was_left_begun_gives_its_place_free(prefect_server: str) -> None:
    """Fault: a stack that ends while its worker takes a run; the run would stay ``Submitting`` for ever."""
    from prefect.client.orchestration import get_client
    from prefect.states import Pending, Scheduled

    ensure_pool(prefect_server)
    with get_client(sync_client=True) as client:
        flow = client.create_flow_from_name("left")
        deployment = client.create_deployment(flow_id=flow, name="left", work_pool_name=POOL)
        abandoned, waiting = (client.create_flow_run_from_deployment(deployment, state=Scheduled()) for _ in range(2))
        client.set_flow_run_state(abandoned.id, Pending(name="Submitting"), force=True)
        assert end_abandoned(prefect_server) == 1
        ended, untouched = client.read_flow_run(abandoned.id), client.read_flow_run(waiting.id)
    assert ended.state is not None
    assert ended.state.is_crashed()
    assert untouched.state is not None
    assert untouched.state.is_scheduled()
    assert end_abandoned(prefect_server) == 0
