"""One generated market per session; per test, its own proxy, home, clock and clients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from feature_repo.repo import Repo, load_repo
from feature_repo.stores.redis.embedded import ensure_server, socket_path, stop_server
from fsclient import FeatureStoreClient
from tests.fsclient.proxy import Proxy
from tests.fsclient.serving import Serving
from tests.fsclient.stack import Clock, Market, build, repo_of


@pytest.fixture(scope="session")
def market_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("market")


@pytest.fixture(scope="session")
def stored_market(market_home: Path) -> Iterator[Market]:
    url = ensure_server(market_home)
    repo = load_repo(variables={"FSTORE_HOME": str(market_home), "FSTORE_REDIS_URL": url})
    yield build(repo, url)
    stop_server(market_home)


@pytest.fixture
def market(stored_market: Market) -> Market:
    """The market with its online store as a run left it."""
    stored_market.publish_all()
    return stored_market


@pytest.fixture(scope="session")
def running_proxy(stored_market: Market, market_home: Path) -> Iterator[Proxy]:
    with Proxy(str(socket_path(market_home))) as proxy:
        yield proxy


@pytest.fixture
def proxy(running_proxy: Proxy) -> Iterator[Proxy]:
    running_proxy.forward()
    running_proxy.forget()
    yield running_proxy
    running_proxy.forward()


@pytest.fixture
def repo(market: Market, proxy: Proxy, tmp_path: Path) -> Repo:
    return repo_of(market, tmp_path / "home", proxy.port)


@pytest.fixture
def clock() -> Clock:
    return Clock()


_QUIET = {"publish_metrics": False}  # whose connection would be counted among those of lookups

Make = Callable[..., FeatureStoreClient]


@pytest_asyncio.fixture
async def make_client(repo: Repo, clock: Clock) -> AsyncIterator[Make]:
    """Makes clients on the test's repository and clock, and closes them."""
    clients: list[FeatureStoreClient] = []

    def make(**options: Any) -> FeatureStoreClient:
        settings: dict[str, Any] = {"repo": repo, "now": clock.now, "clock": clock.monotonic, **_QUIET, **options}
        clients.append(FeatureStoreClient(**settings))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


@pytest_asyncio.fixture
async def client(make_client: Make) -> FeatureStoreClient:
    return make_client()


@pytest.fixture
def service(repo: Repo, clock: Clock, tmp_path: Path) -> Iterator[Serving]:
    """A service on the test's repository and clock, behind the same proxy before the online store."""
    with Serving(repo, tmp_path / "keys.json", now=clock.now, clock=clock.monotonic) as serving:
        yield serving


@pytest.fixture
def way(service: Serving) -> Iterator[Proxy]:
    """A proxy before the service."""
    with Proxy(("127.0.0.1", service.port)) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def make_remote(
    service: Serving, way: Proxy, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Make]:
    """Makes clients that ask the test's service, through the proxy before it, and closes them."""
    monkeypatch.setenv("FSTORE_HOME", str(tmp_path / "elsewhere"))  # of a machine that has no stores
    clients: list[FeatureStoreClient] = []

    def make(**options: Any) -> FeatureStoreClient:
        url = f"http://127.0.0.1:{way.port}"
        settings: dict[str, Any] = {"url": url, "now": clock.now, "clock": clock.monotonic, **_QUIET, **options}
        clients.append(FeatureStoreClient(**settings))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()
