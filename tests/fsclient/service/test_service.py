"""The service as any HTTP client sees it: which callers are answered, what is refused, and how errors are reported."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pyarrow as pa
import pytest

from feature_repo.repo import Repo
from fsclient import FeatureStoreError, errors
from fsclient.remote.access import AccessError
from fsclient.remote.encoding import ARROW
from fsclient.remote.problems import STATUS, problem, read_problem
from fsclient.service import access as access_module
from fsclient.service.access import MAX_BODY_BYTES, Access
from fsclient.service.keys import KeyFile
from fsclient.service.questions import MAX_NAMES
from tests.fsclient.proxy import Proxy
from tests.fsclient.serving import Serving
from tests.fsclient.stack import PUBLISHED, Clock

LATEST = {"symbols": ["EUR/USD"], "features": ["close"]}
DAYS = {"symbol": "EUR/USD", "start_date": "2024-03-04", "end_date": "2024-03-05"}
QUESTIONS: dict[str, dict[str, Any]] = {
    "/v1/latest": LATEST,
    "/v1/ohlcv": DAYS,
    "/v1/indicators": {**DAYS, "indicators": ["rsi_14"]},
    "/v1/compute": {**DAYS, "feature_name": "RSI", "parameters": {"timeperiod": 7}},
    "/v1/history": {**DAYS, "warm_up": 3},
}


@pytest.fixture
def http(service: Serving) -> Iterator[httpx.Client]:
    """As curl is: no client of ours."""
    with httpx.Client(base_url=service.url, trust_env=False, timeout=30.0) as client:
        yield client


def reported(answer: httpx.Response) -> tuple[int, str, str]:
    error = orjson.loads(answer.content)["error"]
    return answer.status_code, error["kind"], error["message"]


# ------------------------------------------------------------------------------------------------------- answers


def test_a_person_gets_json_and_a_program_arrow(http: httpx.Client) -> None:
    question = {"symbols": [*PUBLISHED], "features": ["close", "4h:rsi_14"], "timeframe": "1h"}
    plain = http.post("/v1/latest", json=question).json()
    arrow = http.post("/v1/latest", json=question, headers={"accept": ARROW})
    table = pa.ipc.open_stream(arrow.content).read_all()
    assert arrow.headers["content-type"] == ARROW
    assert table.column_names == ["symbol", "close", "4h:rsi_14", "event_timestamp", "age_bars"]
    assert [row["close"] for row in plain["rows"]] == table["close"].to_pylist()
    assert plain["rows"][0]["event_timestamp"] == "2024-06-26T12:00:00Z"
    assert plain["provenance"]["source"] == "online"
    assert orjson.loads(table.schema.metadata[b"provenance"])["complete"] is True


def test_json_has_null_for_what_does_not_exist(http: httpx.Client) -> None:
    question = {**DAYS, "start_date": "2024-02-01", "end_date": "2024-02-01", "indicators": ["sma_200"]}
    answer = http.post("/v1/indicators", json=question).json()
    assert {row["sma_200"] for row in answer["rows"]} == {None}
    assert answer["rows"][0]["open_time"] == "2024-02-01T00:00:00Z"
    assert answer["provenance"]["missing"][0]["reason"] == "warm_up"


def test_a_feature_is_computed_with_the_parameters_that_are_given(http: httpx.Client) -> None:
    answer = http.post("/v1/compute", json=QUESTIONS["/v1/compute"]).json()
    assert list(answer["rows"][0]) == ["open_time", "rsi"]


def test_health_says_whether_the_online_store_answers_and_no_more(
    http: httpx.Client, proxy: Proxy, clock: Clock
) -> None:
    assert http.get("/v1/health").json() == {"status": "ok", "online": True}
    proxy.refuse()
    clock.forward(2)
    assert http.get("/v1/health").json() == {"status": "ok", "online": False}


def test_the_calls_are_counted_for_prometheus(http: httpx.Client, service: Serving) -> None:
    http.post("/v1/latest", json=LATEST)
    http.post("/v1/latest", json={**LATEST, "symbols": "nobody"})
    text = http.get("/metrics").text
    assert 'fstore_client_calls_total{method="get_latest",source="online"} 1.0' in text
    assert 'fstore_client_errors_total{kind="UnknownSymbolError",method="get_latest"} 1.0' in text


def test_the_schema_is_shown_and_no_page_that_loads_scripts_from_elsewhere(http: httpx.Client) -> None:
    assert set(QUESTIONS) <= set(http.get("/openapi.json").json()["paths"])
    assert {http.get(path).status_code for path in ("/docs", "/redoc", "/")} == {404}


# -------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("path", "change", "status", "kind", "message"),
    [
        ("/v1/latest", {"symbols": ["EURUSD"]}, 404, "UnknownSymbolError", "Did you mean EUR/USD"),
        ("/v1/latest", {"features": ["rsi_15"]}, 404, "UnknownFeatureError", "rsi_14"),
        ("/v1/latest", {"timeframe": "7m"}, 422, "InvalidRequestError", "7m"),
        ("/v1/latest", {"symbols": []}, 422, "InvalidRequestError", "no symbol"),
        ("/v1/latest", {"symbols": 3}, 422, "InvalidRequestError", "symbols"),
        ("/v1/latest", {"symbols": ["x"] * (MAX_NAMES + 1)}, 422, "InvalidRequestError", "at most 1000"),
        ("/v1/latest", {"features": ["x"] * (MAX_NAMES + 1)}, 422, "InvalidRequestError", "at most 1000"),
        ("/v1/latest", {"symbols": ["x" * 101]}, 422, "InvalidRequestError", "at most 100"),
        ("/v1/latest", {"timeout_s": 0}, 422, "InvalidRequestError", "timeout_s"),
        ("/v1/latest", {"colour": "red"}, 422, "InvalidRequestError", "colour"),
        ("/v1/ohlcv", {"end_date": "2024-03-01"}, 422, "InvalidRequestError", "after end_date"),
        ("/v1/ohlcv", {"start_date": 1}, 422, "InvalidRequestError", "start_date"),
        ("/v1/ohlcv", {"timeframe": "1m", "start_date": "1980-01-01"}, 422, "InvalidRequestError", "at a time"),
        ("/v1/history", {"timeframe": "1m", "start_date": "1980-01-01"}, 422, "InvalidRequestError", "at a time"),
        ("/v1/compute", {"timeframe": "1m", "start_date": "1980-01-01"}, 422, "InvalidRequestError", "at a time"),
        ("/v1/compute", {"feature_name": "nothing"}, 404, "UnknownFeatureError", "compute_feature takes"),
        ("/v1/compute", {"parameters": {"timeperiod": [1]}}, 422, "InvalidRequestError", "timeperiod"),
    ],
)  # fmt: skip
def test_a_mistake_is_shown_by_its_kind(
    path: str, change: dict[str, Any], status: int, kind: str, message: str, http: httpx.Client
) -> None:
    problem = reported(http.post(path, json={**QUESTIONS[path], **change}))
    assert problem[:2] == (status, kind)
    assert message in problem[2]


def test_what_is_no_question_is_shown_as_such(http: httpx.Client) -> None:
    for content in (b"", b"{nope", b"\xff\xfe", b"[" * 100_000, b"3", b'"x"'):
        answer = http.post("/v1/latest", content=content, headers={"content-type": "application/json"})
        assert reported(answer)[0] in (400, 422), content[:9]
    assert reported(http.post("/v1/latest", data={"symbols": "x"}))[0] == 415
    assert reported(http.get("/v1/latest"))[:2] == (405, "InvalidRequestError")
    status, _, message = reported(http.post("/v1/nothing", json={}))
    assert status == 404
    assert "/v1/indicators" in message


def test_an_outage_is_shown_with_when_to_come_again(http: httpx.Client, proxy: Proxy) -> None:
    proxy.refuse()
    answers = [http.post("/v1/latest", json=LATEST) for _ in range(8)]
    assert {reported(answer)[0] for answer in answers} == {503}
    assert reported(answers[0])[1] == "FeatureStoreUnavailable"
    assert reported(answers[-1])[1] == "CircuitOpenError"
    assert int(answers[-1].headers["retry-after"]) >= 1
    recomputed = http.post("/v1/latest", json={**LATEST, "on_unavailable": "recompute"}).json()
    assert recomputed["provenance"]["source"] == "recomputed"


def test_a_slow_store_is_shown_within_the_callers_time(http: httpx.Client, proxy: Proxy) -> None:
    proxy.black_hole()
    answer = http.post("/v1/latest", json={**LATEST, "timeout_s": 0.2})
    assert reported(answer)[:2] == (504, "RequestTimeout")
    assert answer.elapsed.total_seconds() < 2


def test_an_error_that_nobody_expected_is_only_logged(
    http: httpx.Client, service: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("redis://me:secret@10.0.0.1")

    monkeypatch.setattr("fsclient.service.lookups.latest_request", broken)
    answer = http.post("/v1/latest", json=LATEST)
    assert reported(answer) == (500, "InternalError", "the service failed; its own log says at what")
    assert "secret" not in answer.text + str(answer.headers)
    assert "RuntimeError" in caplog.text


def test_every_error_is_read_back_as_itself() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FeatureStoreError)]
    for kind in set(kinds) - {FeatureStoreError}:
        assert kind in STATUS
        status, body, _ = problem(kind("what to do"))
        assert 400 <= status < 600
        error = read_problem(body)
        assert (type(error), str(error)) == (kind, "what to do")
    again = read_problem(problem(errors.CircuitOpenError("later", retry_after_s=1.25))[1])
    assert isinstance(again, errors.CircuitOpenError)
    assert again.retry_after_s == 1.25
    for body in (b"", b"<html>", b"{}", b'{"error": []}', b'{"error": {"kind": "KeyError", "message": "x"}}'):
        assert read_problem(body) is None


# ------------------------------------------------------------------------------------- which callers are answered


def every_route(http: httpx.Client) -> list[tuple[str, str]]:
    """Those of the schema, and what FastAPI adds to them."""
    paths = http.get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods] + [
        ("GET", "/openapi.json")
    ]


def test_without_any_key_this_machine_is_answered_and_with_one_who_has_it(http: httpx.Client, service: Serving) -> None:
    routes = every_route(http)
    assert {path for _, path in routes} >= {*QUESTIONS, "/metrics", "/v1/publishes", "/v1/health"}
    assert http.post("/v1/latest", json=LATEST).status_code == 200
    key = service.keys.add("one")
    for method, path in routes:
        answer = http.request(method, path, json=QUESTIONS.get(path))
        assert answer.status_code == (200 if path == "/v1/health" else 401), path
        if answer.status_code == 401:
            assert reported(answer)[1] == "AuthenticationError"
            assert answer.headers["www-authenticate"] == "Bearer"
    assert http.post("/v1/latest", json=LATEST, headers={"authorization": f"Bearer {key}"}).status_code == 200
    assert http.get("/metrics", headers={"authorization": f"bearer {key}"}).status_code == 200
    for wrong in (f"Basic {key}", key, f"Bearer {key}x", "Bearer", "Bearer schl\xfcssel"):
        assert http.get("/metrics", headers={"authorization": wrong.encode("latin-1")}).status_code == 401, wrong
    assert http.get(f"/metrics?key={key}").status_code == 401


def test_a_key_that_is_revoked_stops_working_at_once_and_opens_nothing_to_all(
    http: httpx.Client, service: Serving
) -> None:
    key = service.keys.add("one")
    headers = {"authorization": f"Bearer {key}"}
    assert http.get("/metrics", headers=headers).status_code == 200
    KeyFile(service.keys.path).revoke("one")  # as another process does
    assert http.get("/metrics", headers=headers).status_code == 401
    assert http.get("/metrics").status_code == 401


def test_keys_that_can_not_be_read_let_nobody_in(
    http: httpx.Client, service: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    key = service.keys.add("one")
    service.keys.path.write_text("{")
    answer = http.get("/metrics", headers={"authorization": f"Bearer {key}"})
    assert reported(answer)[:2] == (503, "FeatureStoreUnavailable")
    assert str(service.keys.path) not in answer.text
    assert str(service.keys.path) in caplog.text


def test_other_sites_pages_reach_nothing(http: httpx.Client) -> None:
    """Fault: a browser on this machine is made to ask, by a name of the site's own or across sites."""
    for headers in (
        {"host": "evil.example"},
        {"host": "evil.example:8060"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "[::1"},
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
    ):
        assert http.post("/v1/latest", json=LATEST, headers=headers).status_code == 403, headers
        assert http.get("/metrics", headers=headers).status_code == 403, headers
    answer = http.post("/v1/latest", json=LATEST)
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_with_a_key_the_name_does_not_matter(http: httpx.Client, service: Serving) -> None:
    """Such as behind a proxy with TLS."""
    key = service.keys.add("one")
    headers = {"authorization": f"Bearer {key}", "host": "features.example"}
    assert http.get("/metrics", headers=headers).status_code == 200
    assert http.get("/metrics", headers={"host": "features.example"}).status_code == 401


def test_others_reach_nothing_without_a_key(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    for host in ("0.0.0.0", "10.0.0.1", "::", "trader-1"):  # noqa: S104  # what the test is about
        with pytest.raises(AccessError, match="fstore keys add"):
            Access.to(host, keys)
    assert Access.to("127.0.0.1", keys).is_open
    keys.add("one")
    assert not Access.to("127.0.0.1", keys).is_open
    assert not Access.to("0.0.0.0", keys).is_open  # noqa: S104
    keys.revoke("one")
    with pytest.raises(AccessError):
        Access.to("0.0.0.0", keys)  # noqa: S104


def test_a_key_is_never_logged(http: httpx.Client, service: Serving, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = service.keys.add("one")
    for sent_key in (key, "fstore_wrong-but-secret"):
        http.get("/metrics", headers={"authorization": f"Bearer {sent_key}"})
        http.post("/v1/latest", json={"symbols": 1}, headers={"authorization": f"Bearer {sent_key}"})
    assert key not in caplog.text
    assert "secret" not in caplog.text


# ------------------------------------------------------------------------------------------------------- too much


def test_a_body_that_is_too_large_is_refused_whether_it_says_so_or_not(http: httpx.Client) -> None:
    large = b'{"symbols": "' + b"x" * MAX_BODY_BYTES + b'"}'
    headers = {"content-type": "application/json"}
    assert reported(http.post("/v1/latest", content=large, headers=headers))[0] == 413

    def trickle() -> Iterator[bytes]:
        for at in range(0, len(large), 50_000):
            yield large[at : at + 50_000]

    assert reported(http.post("/v1/latest", content=trickle(), headers=headers))[0] == 413
    assert http.post("/v1/latest", json=LATEST).status_code == 200


def test_a_body_that_does_not_come_is_not_waited_for(service: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "BODY_TIMEOUT_S", 0.2)
    with socket.create_connection(("127.0.0.1", service.port), 10) as line:
        line.sendall(
            b"POST /v1/latest HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            b"content-type: application/json\r\ncontent-length: 99\r\n\r\n{"
        )
        response = line.recv(65_536)
    assert response.startswith(b"HTTP/1.1 408 ")


def test_an_answer_says_nothing_of_what_runs_here(http: httpx.Client) -> None:
    headers = http.post("/v1/latest", json=LATEST).headers
    assert "server" not in headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


# ------------------------------------------------------------------------------------------------ the server itself


def test_a_port_that_is_taken_is_named(service: Serving, repo: Repo, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=re.escape(f"can't listen on 127.0.0.1:{service.port}")):
        Serving(repo, tmp_path / "keys.json", port=service.port)


def test_it_ends_with_listeners_on_the_line(http: httpx.Client, service: Serving) -> None:
    with http.stream("GET", "/v1/publishes") as line:
        assert line.status_code in (200, 503)
        service.stop()
