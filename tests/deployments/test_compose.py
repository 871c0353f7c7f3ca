"""The Compose stack, as far as it can be held against the project without an engine to run it."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from prefect.settings import Settings as PrefectSettings
from prefect.settings.legacy import _get_valid_setting_names
from sqlalchemy import make_url

from feature_repo.home import REPO
from flows.cli import app
from flows.settings import PREFIX, Settings, load_settings

DEPLOYMENTS = REPO.parent / "deployments"
FILE = DEPLOYMENTS / "docker-compose.yaml"
OURS = ("apply", "prefect", "deploy", "worker", "dashboard", "service")
WITHOUT_PASSWORD = {"PREFECT_API_URL", "PREFECT_UI_URL", "PREFECT_UI_API_URL"}
OWN_READERS = {"FSTORE_DASHBOARD_KEY"}  # read where they are used, from a file: no process has them in its environment


@pytest.fixture(scope="module")
def compose() -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = yaml.safe_load(FILE.read_text())
    return loaded


@pytest.fixture(scope="module")
def services(compose: Mapping[str, Any]) -> Mapping[str, Any]:
    services: Mapping[str, Any] = compose["services"]
    return services


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``make_secrets.sh`` makes."""
    folder = tmp_path_factory.mktemp("made") / "secrets"
    subprocess.run([DEPLOYMENTS / "make_secrets.sh", folder], check=True, capture_output=True, timeout=60)
    return folder


def commands(services: Mapping[str, Any]) -> Iterator[list[str]]:
    """Every command line of ours, also those in a shell's."""
    for name in OURS:
        words = services[name]["command"]
        if words[:2] == ["sh", "-c"]:
            yield from (shlex.split(part) for part in words[2].split("&&"))
        else:
            yield words


# --------------------------------------------------------------------------------------------- against our code


def test_the_fstore_commands_exist_and_take_these_options(services: Mapping[str, Any]) -> None:
    group = typer.main.get_command(app)
    fstore_commands = [words[1:] for words in commands(services) if words[0] == "fstore"]
    assert fstore_commands
    for words in fstore_commands:
        command = group.commands.get(words[0])  # type: ignore[attr-defined]
        assert command, f"fstore has no command {words[0]}"
        command.make_context(words[0], [*words[1:]])  # parses, runs nothing


def test_the_prefect_commands_exist_and_take_these_options(services: Mapping[str, Any]) -> None:
    for words in commands(services):
        if words[0] == "prefect":
            chosen = [word for word in words[1:] if not word.startswith("-")]
            reported = subprocess.run(
                [sys.executable, "-m", "prefect", *chosen[: 1 if chosen[0] == "deploy" else 2], "--help"],
                capture_output=True, text=True, timeout=60, check=True,
            ).stdout  # fmt: skip
            for option in (word for word in words if word.startswith("--")):
                assert option in reported, f"{' '.join(words)}: no {option}"


def test_every_variable_is_one_that_somebody_reads(services: Mapping[str, Any]) -> None:
    entrypoint = (DEPLOYMENTS / "entrypoint.sh").read_text()
    ours = {PREFIX + field.name.upper() for field in fields(Settings)}
    feast = set(re.findall(r"\$\{(\w+)\}", (DEPLOYMENTS / "feature_store.yaml").read_text()))
    prefect = set(_get_valid_setting_names(PrefectSettings))
    for name in OURS:
        for variable in services[name]["environment"]:
            read = variable.removesuffix("_FILE")
            assert read in ours | feast | prefect | OWN_READERS, f"{name}: nobody reads {variable}"
            if variable.endswith("_FILE") and read not in OWN_READERS:
                assert read in entrypoint, f"{name}: the entrypoint does not know {variable}"


def test_every_variable_of_the_production_repository_is_set(services: Mapping[str, Any]) -> None:
    image = (DEPLOYMENTS / "Dockerfile").read_text()
    text = "\n".join(line.partition("#")[0] for line in (DEPLOYMENTS / "feature_store.yaml").read_text().splitlines())
    for name in ("apply", "worker", "dashboard", "service"):
        environment = services[name]["environment"]
        for variable in re.findall(r"\$\{(\w+)\}", text):
            assert f"{variable}_FILE" in environment or f" {variable}=" in image, f"{name} lacks {variable}"


# -------------------------------------------------------------------------------------------------- in itself


def test_ports_are_open_to_this_machine_only(services: Mapping[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == {"redis", "prefect", "dashboard", "service"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_nothing_runs_as_root_or_writes_to_its_image(services: Mapping[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert name in OURS or not service["user"].startswith("0"), name
    assert re.search(r"^USER fstore$", (DEPLOYMENTS / "Dockerfile").read_text(), re.MULTILINE)


def test_no_password_is_in_the_file(compose: Mapping[str, Any], services: Mapping[str, Any]) -> None:
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|KEY|AUTH|_URL", variable) and variable not in WITHOUT_PASSWORD:
                assert variable.endswith("_FILE"), f"{name}: {variable}"
                assert value.removeprefix("/run/secrets/") in service["secrets"], f"{name}: {variable}"
    used = {secret for service in services.values() for secret in service.get("secrets", ())}
    assert used == set(compose["secrets"])


def test_every_secret_is_made(compose: Mapping[str, Any], secrets: Path) -> None:
    for name, secret in compose["secrets"].items():
        assert secret["file"] == f"./secrets/{name}"
        assert (secrets / name).exists(), name


def test_what_is_named_is_there(compose: Mapping[str, Any], services: Mapping[str, Any]) -> None:
    for name, service in services.items():
        assert set(service["networks"]) <= set(compose["networks"]), name
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in compose["volumes"] or (DEPLOYMENTS / source).exists(), f"{name}: {source}"
        for other, how in service.get("depends_on", {}).items():
            condition = how["condition"]
            assert "healthcheck" in services[other] or condition == "service_completed_successfully", f"{name}: {other}"
            assert condition != "service_completed_successfully" or services[other]["restart"] == "no", (
                f"{name}: {other}"
            )
    for name in set(services) - {"apply", "deploy"}:
        assert services[name]["healthcheck"]["test"], name


def test_the_urls_name_the_services_and_what_they_hold(services: Mapping[str, Any], secrets: Path) -> None:
    databases = re.findall(r"CREATE DATABASE (\w+);", (DEPLOYMENTS / "postgres" / "databases.sql").read_text())
    for name in ("ledger_url", "registry_url", "prefect_database_url"):
        url = make_url((secrets / name).read_text())
        assert url.host in services
        assert url.database in databases
        assert url.username == services["postgres"]["environment"]["POSTGRES_USER"]
        assert url.password == (secrets / "postgres_password").read_text()
    for name, user in (("flows", "flows"), ("client", "client"), ("service", "client")):
        url = make_url((secrets / f"redis_{name}_url").read_text())
        assert (url.username, url.password) == (user, (secrets / f"redis_{user}_password").read_text())


def test_a_container_has_the_settings_of_its_files(services: Mapping[str, Any], secrets: Path) -> None:
    """The entrypoint, run unchanged with the worker's environment."""
    environment = services["worker"]["environment"]
    environ = {name: value.replace("/run/secrets", str(secrets)) for name, value in environment.items()}
    environ |= {"PATH": "/usr/bin:/bin", "FSTORE_HOME": "/var/lib/fstore"}
    done = subprocess.run(
        [DEPLOYMENTS / "entrypoint.sh", "env"], env=environ, capture_output=True, text=True, check=True
    )
    variables = dict(line.split("=", 1) for line in done.stdout.splitlines())
    settings = load_settings(variables, Path("/none"))
    assert settings.redis_url == (secrets / "redis_flows_url").read_text()
    assert settings.ledger_url == (secrets / "ledger_url").read_text()
    assert variables["PREFECT_API_AUTH_STRING"] == (secrets / "prefect_auth").read_text()
    assert "FSTORE_ALERT_URLS" not in variables  # its file is empty
    assert not any(name.endswith("_FILE") for name in variables)


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    environ = {"PATH": "/usr/bin:/bin", "FSTORE_REDIS_URL_FILE": str(tmp_path / "none")}
    done = subprocess.run([DEPLOYMENTS / "entrypoint.sh", "env"], env=environ, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"FSTORE_REDIS_URL_FILE names {tmp_path / 'none'}" in done.stderr


def test_secrets_are_made_once_and_are_not_the_same_for_all(secrets: Path, tmp_path: Path) -> None:
    files = {file.name: file.read_bytes() for file in secrets.iterdir()}
    subprocess.run([DEPLOYMENTS / "make_secrets.sh", secrets], check=True, capture_output=True, timeout=60)
    assert files == {file.name: file.read_bytes() for file in secrets.iterdir()}
    assert secrets.stat().st_mode & 0o077 == 0
    subprocess.run([DEPLOYMENTS / "make_secrets.sh", tmp_path / "other"], check=True, capture_output=True, timeout=60)
    assert files["dashboard_key"] != (tmp_path / "other" / "dashboard_key").read_bytes()
    passwords = [value for name, value in files.items() if "password" in name]
    assert len(set(passwords)) == len(passwords)
    assert all(re.fullmatch(rb"[0-9a-f]{48}", value) for value in passwords)


def test_compose_itself_takes_the_file() -> None:
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("docker compose is not installed")
    subprocess.run([docker, "compose", "-f", FILE, "config", "--quiet"], check=True, timeout=60)
