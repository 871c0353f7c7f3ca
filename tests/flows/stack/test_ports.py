"""A port in use is named, with the process that uses it and the remedy."""

from __future__ import annotations

import os
import socket

import pytest

from flows.stack import PortTakenError
from flows.stack.ports import require_free


def test_a_taken_port_is_named_with_its_owner_and_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortTakenError, match=rf"port {port} is in use.*fstore up --port {port + 1}") as caught:
            require_free("127.0.0.1", port, option="--port")
        if os.path.exists("/proc/net/tcp"):  # noqa: PTH110
            assert f"process {os.getpid()}" in str(caught.value)
    require_free("127.0.0.1", port, option="--port")
