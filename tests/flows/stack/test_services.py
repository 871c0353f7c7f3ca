"""When a service of the stack is ready."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flows.stack.services import Service, dashboard, prefect_server


class Answers(BaseHTTPRequestHandler):
    """Has a page at ``/ready``."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/ready" else 503)
        self.end_headers()

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Stays quiet."""


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def service(url: str) -> Service:
    return Service(name="any", command=[], ready_url=url)


def test_a_service_is_ready_once_its_page_answers(server: str) -> None:
    assert service(f"{server}/ready").is_ready()
    assert not service(f"{server}/starting").is_ready()
    assert not service("http://127.0.0.1:1/ready").is_ready()


def test_a_proxy_is_never_asked_about_this_machine(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert service(f"{server}/ready").is_ready()


def test_the_stack_is_up_only_when_its_pages_answer() -> None:
    for page in (prefect_server("127.0.0.1", 4200), dashboard("127.0.0.1", 8050)):
        assert page.ready_url
