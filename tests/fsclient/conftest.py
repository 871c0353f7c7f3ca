"""One generated market a session; a proxy, a home, a clock and clients of its own a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from feature_repo.repo import Repo, load_repo
from feature_repo.stores.embedded import ensure_server, socket_path, stop_server
from fsclient import FeatureStoreClient
from tests.fsclient.proxy import Proxy
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
    made: list[FeatureStoreClient] = []

    def make(**options: Any) -> FeatureStoreClient:
        given: dict[str, Any] = {"repo": repo, "now": clock.now, "clock": clock.monotonic, **_QUIET, **options}
        made.append(FeatureStoreClient(**given))
        return made[-1]

    yield make
    for client in made:
        await client.close()


@pytest_asyncio.fixture
async def client(make_client: Make) -> FeatureStoreClient:
    return make_client()
