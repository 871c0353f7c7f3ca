"""The Dash application: its frame, pages and routes."""

from __future__ import annotations

import logging
import threading
from importlib import metadata
from types import ModuleType
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, dcc, html
from flask import Flask, Response

from fsclient.dashboard import widgets
from fsclient.dashboard.pages import alerts, client, features, overview, pipelines, quality
from fsclient.dashboard.prometheus import exposition
from fsclient.dashboard.sources import Sources

PAGES: tuple[ModuleType, ...] = (overview, client, features, quality, pipelines, alerts)
_BY_PATH = {page.PATH: page for page in PAGES}
_log = logging.getLogger("feature_store_client")


def create_app(sources: Sources) -> Dash:
    """The application, its routes protected by ``sources.access``. It loads nothing from other machines."""
    server = Flask(__name__)
    app = Dash(
        __name__,
        server=server,  # type: ignore[arg-type]  # documented, but missing in the annotation
        title="Feature store",
        update_title="",
        serve_locally=True,
        suppress_callback_exceptions=True,  # pages are created on demand
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
        assets_ignore=r".*\.py",
        enable_mcp=False,
    )
    app.index_string = _INDEX
    app.layout = _frame()
    sources.access.protect(server)
    _register(app, sources)
    for page in PAGES:
        page.register(app, sources)
    metrics_page = exposition(sources)

    @server.get("/metrics")
    def metrics() -> Response:
        body, kind = metrics_page()
        return Response(body, content_type=kind)

    return app


def _frame() -> html.Div:
    links = [dcc.Link(page.TITLE, href=page.PATH) for page in PAGES]
    return html.Div(
        [
            dcc.Location(id="url", refresh=False),
            dcc.Store(id="view"),
            html.Aside(
                [
                    html.Div([html.I(), "Feature store"], className="brand"),
                    html.Nav(links),
                    html.Div(
                        [
                            html.Button("Light / dark", id="theme", className="plain", n_clicks=0),
                            html.Button(id="repaint", n_clicks=0, hidden=True),
                            html.Div(f"Times in UTC. {_version()}", className="version"),
                        ],
                        className="foot",
                    ),
                ],
                className="side",
            ),
            html.Main(html.Div("Loading", className="loading"), id="page", className="page"),
        ],
        className="frame",
    )


def _register(app: Dash, sources: Sources) -> None:
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("dashboard", "view"),
        Output("view", "data"),
        Input("url", "pathname"),
        Input("theme", "n_clicks"),
        Input("repaint", "n_clicks"),
    )
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("dashboard", "here"),
        Output("repaint", "title"),
        Input("view", "data"),
    )
    for name in ("client", "features", "quality", "pipelines"):
        app.clientside_callback(  # type: ignore[no-untyped-call]
            ClientsideFunction("dashboard", "remember"),
            Output(f"{name}-query", "modified_timestamp"),
            Input(f"{name}-query", "data"),
            prevent_initial_call=True,
        )

    @app.callback(Output("page", "children"), Input("view", "data"), prevent_initial_call=True)
    def show(view: dict[str, str]) -> Any:
        page = _BY_PATH.get(view["path"])
        if page is None:
            return widgets.page(
                "Not found", "", widgets.empty("There is no such page", dcc.Link("Go to the overview", href="/"))
            )
        return page.layout(sources, widgets.read_query(view["search"]), view["theme"])


def warm_up(sources: Sources) -> threading.Thread:
    """Reads the history in the background, so that the first page does not wait for it."""

    def read() -> None:
        try:
            sources.traffic.refresh()
            sources.online.ages()
            sources.market.symbols()
        except Exception:
            _log.exception("the dashboard could not preload its data; its pages say what is wrong")

    thread = threading.Thread(target=read, name="fsclient-dashboard", daemon=True)
    thread.start()
    return thread


def _version() -> str:
    try:
        return f"fstore {metadata.version('fstore')}"
    except metadata.PackageNotFoundError:
        return "fstore"


# Plotly is most of what a browser has to load, so loading starts at once rather than with the first chart.
_INDEX = """<!doctype html>
<html lang="en"><head>{%metas%}<title>{%title%}</title>{%css%}
<link rel="preload" as="script" href="/_dash-component-suites/plotly/package_data/plotly.min.js">
<link rel="icon" type="image/svg+xml" href="/assets/favicon.svg"></head>
<body>{%app_entry%}<footer hidden>{%config%}{%scripts%}{%renderer%}</footer></body></html>"""
