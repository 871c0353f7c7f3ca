"""``prefect.yaml`` and the automations, as far as they can be held against the project without a server."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from prefect.events.schemas.automations import AutomationCore
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from feature_repo import catalog
from feature_repo.home import REPO
from flows.engine.states import STOPPED
from flows.stack.schedules import POOL

FOLDER = REPO.parent / "deployments"
FILE: dict[str, Any] = yaml.safe_load((FOLDER / "prefect.yaml").read_text())
DEPLOYMENTS: dict[str, Any] = {entry["name"]: entry for entry in FILE["deployments"]}
EVERY = pytest.mark.parametrize("name", DEPLOYMENTS)


def test_it_has_a_deployment_for_every_job() -> None:
    jobs = {"ingest", "stream", "backfill", "verify", "maintain", "alerts", "notify"}
    assert set(DEPLOYMENTS) == jobs | {f"materialize-{tf}" for tf in catalog.TIMEFRAMES}


@EVERY
def test_its_flow_takes_the_parameters_that_it_gives(name: str) -> None:
    flow = load_flow_from_entrypoint(DEPLOYMENTS[name]["entrypoint"])
    assert name.startswith(flow.name)
    required = {p for p, schema in parameter_schema(flow).properties.items() if "default" not in schema}
    parameters = DEPLOYMENTS[name].get("parameters", {})
    if DEPLOYMENTS[name].get("schedules"):
        assert required <= set(parameters), "nobody is there to fill in a scheduled run's form"
        flow.validate_parameters(parameters)


@EVERY
def test_every_parameter_is_described_and_names_are_chosen_from_a_list(name: str) -> None:
    properties = parameter_schema(load_flow_from_entrypoint(DEPLOYMENTS[name]["entrypoint"])).properties
    assert [parameter for parameter, schema in properties.items() if not schema.get("description")] == []
    for parameter, known in (("symbols", catalog.SYMBOLS), ("timeframes", catalog.TIMEFRAMES)):
        if parameter in properties:
            assert str([*known]) in str(properties[parameter])


@EVERY
def test_one_run_at_a_time_with_a_time_limit_and_no_retries_of_its_own(name: str) -> None:
    deployment = DEPLOYMENTS[name]
    flow = load_flow_from_entrypoint(deployment["entrypoint"])
    assert deployment["work_pool"] == {"name": POOL}
    assert deployment["concurrency_limit"]["limit"] == 1
    assert deployment["concurrency_limit"]["collision_strategy"] == (
        "CANCEL_NEW" if "schedules" in deployment else "ENQUEUE"
    )
    assert bool(flow.timeout_seconds) == (name != "stream")  # which runs until it is cancelled
    assert not flow.retries
    assert "fstore" in deployment["tags"]


def test_all_bad_ends_of_watched_runs_are_shown_and_telling_is_not_watched() -> None:
    assert {name for name, entry in DEPLOYMENTS.items() if "watched" not in entry["tags"]} == {"notify"}
    triggers = [DeploymentEventTrigger.model_validate(trigger) for trigger in DEPLOYMENTS["notify"]["triggers"]]
    expected = {event for trigger in triggers for event in trigger.expect}
    ends = {"Failed", STOPPED, "Crashed", "TimedOut", "Late"}
    assert expected == {f"prefect.flow-run.{end}" for end in ends}


@pytest.mark.parametrize("path", sorted((FOLDER / "automations").glob("*.yaml")), ids=lambda path: path.name)
def test_the_automations_are_prefects(path: Any) -> None:
    for automation in yaml.safe_load(path.read_text())["automations"]:
        AutomationCore.model_validate(automation, extra="forbid")
