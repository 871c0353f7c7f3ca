"""A real webhook and a real mail server get the message; a refusal is reported without its URL."""

from __future__ import annotations

import asyncio
import email
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from flows.alerts.channels import ChannelError, channels_of
from flows.settings import SettingsError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:apprise.*")  # of its own imports

SECRET = "s3cret"  # noqa: S105


class Webhook(BaseHTTPRequestHandler):
    """Keeps what is posted; answers with the server's ``status``."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, json.loads(body)))  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def webhook() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        server.received, server.status = [], 200  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def serve_mail(received: list[Message], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As much of SMTP as a client needs to leave a message."""

    async def say(line: str) -> None:
        writer.write(line.encode() + b"\r\n")
        await writer.drain()

    await say("220 test")
    while line := await reader.readline():
        match line.split()[0].upper():
            case b"EHLO" | b"HELO":
                await say("250 test")
            case b"DATA":
                await say("354 go on")
                received.append(email.message_from_bytes(await reader.readuntil(b"\r\n.\r\n")))
                await say("250 taken")
            case b"QUIT":
                await say("221 bye")
                break
            case _:
                await say("250 yes")
    writer.close()


@contextmanager
def mail_server() -> Iterator[tuple[int, list[Message]]]:
    received: list[Message] = []
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(
        asyncio.start_server(lambda reader, writer: serve_mail(received, reader, writer), "127.0.0.1", 0)
    )
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1], received
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def test_a_webhook_gets_title_and_text(webhook: Any) -> None:
    (channel,) = channels_of([f"json://127.0.0.1:{webhook.server_port}/hook"])
    channel.send("fstore: view_age EUR/USD 1h began", "9 bars old <b>")
    ((path, body),) = webhook.received
    assert path == "/hook"
    assert (body["title"], body["message"]) == ("fstore: view_age EUR/USD 1h began", "9 bars old <b>")


def test_a_mail_gets_there() -> None:
    with mail_server() as (port, received):
        url = f"mailto://127.0.0.1:{port}?from=fstore@desk.example&to=ops@desk.example&mode=insecure"
        (channel,) = channels_of([url])
        channel.send("fstore: 2 began", "one\ntwo")
    (message,) = received
    assert message["Subject"] == "fstore: 2 began"
    assert "ops@desk.example" in message["To"]
    (text,) = [part for part in message.walk() if part.get_content_type() == "text/plain"]
    assert str(text.get_payload()).split() == ["one", "two"]


def test_a_refusal_is_reported_without_the_url(webhook: Any, caplog: pytest.LogCaptureFixture) -> None:
    webhook.status = 500
    (channel,) = channels_of([f"json://user:{SECRET}@127.0.0.1:{webhook.server_port}/{SECRET}"])
    with caplog.at_level("DEBUG"), pytest.raises(ChannelError) as caught:
        channel.send("title", "text")
    assert SECRET not in f"{caught.value} {channel!r} {channel.name} {caplog.text}"


def test_an_unavailable_server_is_a_refusal() -> None:
    with mail_server() as (port, _):
        pass
    (channel,) = channels_of([f"json://127.0.0.1:{port}/hook"])
    with pytest.raises(ChannelError):
        channel.send("title", "text")


@pytest.mark.parametrize("url", ["", "desk@example.com " + SECRET, f"nonsense://{SECRET}@host"])
def test_an_invalid_url_is_named_by_its_position(url: str) -> None:
    with pytest.raises(SettingsError, match="alert_urls: number 2 is not a URL") as caught:
        channels_of(["json://127.0.0.1/", url])
    assert SECRET not in str(caught.value)


def test_a_channel_is_recognised_and_no_other_is_taken_for_it() -> None:
    channel, again, other = channels_of([f"json://127.0.0.1/{path}" for path in ("a", "a", "b")])
    assert channel.name == again.name != other.name
