"""Installs this project with one of its extras into .venv, at the versions of constraints.txt: ``install.py EXTRA``.

Only the standard library is needed. The work is done by uv, which pip installs first, as uv needs less than half of
pip's time; where uv cannot be had or fails, pip does it. uv does not read pip's configuration, so the index and the
certificates that pip is configured for are passed on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import venv
from pathlib import Path

OLDEST = (3, 11)  # requires-python in pyproject.toml
ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
PIP = [str(PYTHON), "-m", "pip", "--disable-pip-version-check"]
CONSTRAINTS = ROOT / "constraints.txt"
INCLUDED = {"dev": ("demo",)}  # an environment for development serves the demo too

_PASSED_ON = {  # pip's settings: uv's variables
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
}


def main(extra: str) -> None:
    """Makes the environment and marks it as ready for ``extra``."""
    if sys.version_info < OLDEST:
        sys.exit(f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed, this is {sys.version}")
    started = time.monotonic()
    print(f"Setting up .venv for {extra} (once, about a minute) ...", flush=True)
    make_environment()
    project = f"{ROOT}[{extra}]"
    if not (have_uv() and install_with_uv(project)):
        print("uv is unavailable, so pip installs, in two minutes or so ...", flush=True)
        run([*PIP, "install", "--quiet", "-c", str(CONSTRAINTS), "-e", project])
    for ready in (extra, *INCLUDED.get(extra, ())):
        (VENV / f".{ready}").touch()
    print(f"Set up in {time.monotonic() - started:.0f} s.", flush=True)


def make_environment() -> None:
    """Makes .venv with pip, unless there is a usable one."""
    if not usable(PIP):
        print("making the environment", flush=True)
        try:
            venv.create(VENV, clear=VENV.exists(), symlinks=True, with_pip=True)
        except subprocess.CalledProcessError:
            sys.exit("The environment can't be made: this Python lacks ensurepip (Debian: the package python3-venv).")


def usable(command: list[str]) -> bool:
    """Whether a command exists and reports its version."""
    try:
        return subprocess.run([*command, "--version"], capture_output=True, check=False).returncode == 0  # noqa: S603
    except OSError:
        return False


def have_uv() -> bool:
    """Whether uv is in the environment; pip installs it at the version of the constraints."""
    uv = next((line for line in CONSTRAINTS.read_text().splitlines() if line.startswith("uv==")), "uv")
    done = subprocess.run([*PIP, "install", "--quiet", uv], capture_output=True, text=True, check=False)  # noqa: S603
    return done.returncode == 0 and usable([str(VENV / "bin" / "uv")])


def install_with_uv(project: str) -> bool:
    """Installs the project; shows uv's steps without its list of all packages. Returns whether that worked."""
    command = [str(VENV / "bin" / "uv"), "pip", "install", "--python", str(PYTHON), "--color", "never"]
    command += ["-c", str(CONSTRAINTS), "-b", str(CONSTRAINTS), "-e", project]
    environment = {**pip_settings(), **os.environ}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace") as process:  # noqa: S603
        assert process.stderr  # noqa: S101
        for line in process.stderr:
            if not line.startswith((" + ", " - ", " ~ ")):
                print(line, end="", flush=True)
    return process.returncode == 0


def pip_settings() -> dict[str, str]:
    """Where pip is configured to install from, as uv's variables: files and ``PIP_*`` variables, the latter first."""
    shown = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    settings: dict[str, str] = {}
    for line in shown.splitlines():
        key, _, value = line.partition("=")
        scope, _, name = key.partition(".")
        if name in _PASSED_ON and (scope == ":env:" or name not in settings):
            settings[name] = value.strip("'\"")
    passed_on = {_PASSED_ON[name]: value for name, value in settings.items()}
    if "UV_INDEX" in passed_on:  # pip looks for the newest version in all of its indexes
        passed_on["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return passed_on


def run(command: list[str]) -> None:
    """Runs a command; ends with its exit code when it fails."""
    code = subprocess.run(command, check=False).returncode  # noqa: S603
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main(sys.argv[1])
