"""What may be seen and changed without the key and with it, on every route of the server's own stack."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from feature_repo.repo import load_repo
from fsclient.dashboard import Access, AccessError, Sources, create_app, read_key
from fsclient.dashboard.access import COOKIE, SESSION_S, is_loopback
from tests.fsclient.clock import Clock

KEY = "a-long-enough-key"
CALLBACK = {
    "output": "page.children",
    "outputs": {"id": "page", "property": "children"},
    "inputs": [],
    "changedPropIds": [],
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def slept() -> list[float]:
    return []


def client_of(access: Access, tmp_path: Path) -> Any:
    repo = load_repo(variables={"FSTORE_HOME": str(tmp_path), "FSTORE_REDIS_URL": f"unix://{tmp_path}/nobody.sock"})
    return create_app(Sources.of(repo, access=access)).server.test_client()


@pytest.fixture
def locked(tmp_path: Path, clock: Clock, slept: list[float]) -> Any:
    return client_of(Access(key=KEY, open_to_see=False, clock=clock, sleep=slept.append), tmp_path)


@pytest.fixture
def local(tmp_path: Path) -> Any:
    return client_of(Access.to("127.0.0.1", None), tmp_path)


def routes(client: Any) -> list[tuple[str, str]]:
    routes = []
    for rule in client.application.url_map.iter_rules():
        path = (
            str(rule)
            .replace("<path:path>", "client")
            .replace("<string:package_name>/<path:fingerprinted_path>", "dash/x.js")
        )
        path = path.replace("<path:filename>", "dashboard.js").replace("<job>", "x").replace("<", "").replace(">", "")
        routes += [(method, path) for method in rule.methods - {"HEAD", "OPTIONS"}]
    return routes


def test_every_route_but_the_form_asks_for_the_key(locked: Any) -> None:
    guarded = [(m, p) for m, p in routes(locked) if p != "/login"]
    assert {p for _, p in guarded} >= {
        "/_dash-update-component",
        "/_dash-layout",
        "/_dash-dependencies",
        "/metrics",
        "/",
    }
    for method, path in guarded:
        assert locked.open(path, method=method, json=CALLBACK if method == "POST" else None).status_code == 401, path


def test_a_browser_is_led_to_the_form_and_the_key_opens_all(locked: Any) -> None:
    response = locked.get("/features?symbol=EUR%2FUSD", headers={"Accept": "text/html"})
    form = response.headers["Location"]
    assert (response.status_code, urlsplit(form).path) == (302, "/login")
    assert b"Key of this dashboard" in locked.get(form).data
    opened = locked.post(form, data={"key": KEY})
    assert (opened.status_code, opened.headers["Location"]) == (302, "/features?symbol=EUR%2FUSD")
    cookie = opened.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert KEY not in cookie
    assert KEY not in opened.headers["Location"]
    assert locked.get("/_dash-layout").status_code == 200
    assert locked.get("/metrics").status_code == 200


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/features?a=b", "/features?a=b"),
        ("https://evil.example/x", "/x"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/evil.example"),
        ("/\t/evil.example", "/"),
        ("//[", "/"),
        ("javascript:alert(1)", "/alert(1)"),
        ('/"><script>', "/%22%3E%3Cscript%3E"),
    ],
)
def test_the_key_leads_to_no_other_server(locked: Any, target: str, shown: str) -> None:
    query = {"query_string": {"to": target}}
    assert b"<script" not in locked.get("/login", **query).data
    assert locked.post("/login", data={"key": KEY}, **query).headers["Location"] == shown


def test_what_a_browser_says_of_where_a_form_comes_from_is_believed(locked: Any) -> None:
    policy = locked.get("/login").headers["Referrer-Policy"]
    assert policy == "same-origin"  # with "no-referrer" it would say "null" of the form's own page
    own = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert locked.post("/login", data={"key": KEY}, headers=own).status_code == 302
    for origin in ("null", "http://evil.example"):
        assert locked.post("/login", data={"key": KEY}, headers={"Origin": origin}).status_code == 403


def test_a_session_ends(locked: Any, clock: Clock) -> None:
    locked.post("/login", data={"key": KEY})
    clock.now = SESSION_S + 1
    assert locked.get("/_dash-layout").status_code == 401


@pytest.mark.parametrize("key", ["", "wrong", KEY + "x", KEY[:-1], "schlüssel"])
def test_a_wrong_key_opens_nothing_and_takes_time(locked: Any, slept: list[float], key: str) -> None:
    answer = locked.post("/login", data={"key": key})
    assert answer.status_code == 403
    assert COOKIE not in answer.headers.get("Set-Cookie", "")
    assert bool(slept) == bool(key)
    assert locked.get("/_dash-layout", headers={"Cookie": f"{COOKIE}="}).status_code == 401


def test_prometheus_gives_the_key_as_a_bearer_token(locked: Any) -> None:
    assert locked.get("/metrics", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
    assert locked.get("/metrics", headers={"Authorization": "Bearer no"}).status_code == 401
    assert locked.get(f"/metrics?key={KEY}").status_code == 401


def test_a_key_is_never_logged_nor_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    access = Access.to("0.0.0.0", KEY)  # noqa: S104 - what the test is about
    with caplog.at_level(logging.DEBUG):
        client_of(access, tmp_path).post("/login", data={"key": KEY})
    assert KEY not in caplog.text + repr(access)


def test_another_site_can_neither_reach_the_local_dashboard_by_a_name_of_its_own_nor_post_to_it(local: Any) -> None:
    assert local.get("/_dash-layout").status_code == 200
    assert local.get("/_dash-layout", headers={"Host": "evil.example"}).status_code == 403
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert local.post("/_dash-update-component", json=CALLBACK, headers=headers).status_code == 403


def test_others_reach_nothing_without_a_key() -> None:
    with pytest.raises(AccessError, match="FSTORE_DASHBOARD_KEY"):
        Access.to("0.0.0.0", None)  # noqa: S104
    assert Access.to("::1", None).open_to_see


OWN = ("127.0.0.1", "localhost", "[::1]", "127.8.0.1")
OTHERS = ("0.0.0.0", "10.0.0.1", "trader-1", "")  # noqa: S104


@pytest.mark.parametrize(("host", "own"), [*((host, True) for host in OWN), *((host, False) for host in OTHERS)])
def test_loopback_is_recognised(host: str, own: bool) -> None:
    assert is_loopback(host) is own


def test_a_key_comes_from_a_variable_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    assert read_key(None, None) is None
    assert read_key(KEY, None) == read_key(None, file) == KEY
    with pytest.raises(AccessError, match="12 characters"):
        read_key("short", None)
    with pytest.raises(AccessError, match="can't be read"):
        read_key(None, tmp_path / "absent")
