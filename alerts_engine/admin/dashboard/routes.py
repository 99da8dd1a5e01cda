"""The dashboard's routes: the page and its files, open since nothing is in them; and the parts that need the token."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING
from urllib.parse import quote

from alerts_engine.admin.dashboard import parts
from alerts_engine.admin.exchange import HTML, Answer, HttpError
from alerts_engine.admin.site import Route

if TYPE_CHECKING:
    from alerts_engine.admin.engine_source import EngineSource
    from alerts_engine.admin.exchange import Request
    from alerts_engine.admin.lookups import Operation

POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_ASSETS = {
    "htmx.min.js": "text/javascript; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


async def page(_: Request) -> Answer:
    """The page without anything in it."""
    body = (files(__package__) / "templates" / "page.html").read_bytes()
    return Answer(HTTPStatus.OK, body, HTML, {"Content-Security-Policy": POLICY})


async def to_the_page(request: Request) -> Answer:
    """With a slash at its end, so that what the page asks for is found beneath it."""
    last = request.url_path.rpartition("/")[2]
    return Answer(HTTPStatus.PERMANENT_REDIRECT, headers={"Location": f"./{quote(last, safe='%')}/"})


async def asset(request: Request) -> Answer:
    """One of a few files; a name that is not in the list is nowhere looked for."""
    name = request.path_values["name"]
    if name not in _ASSETS:
        raise HttpError(HTTPStatus.NOT_FOUND, "there is nothing here")
    return Answer(HTTPStatus.OK, (files(__package__) / "assets" / name).read_bytes(), _ASSETS[name])


_PARTS: tuple[tuple[str, str, Operation], ...] = (
    ("GET", "/dashboard/overview", parts.overview_part),
    ("POST", "/dashboard/search", parts.search_part),
    ("GET", "/dashboard/causes", parts.cause_part),
    ("POST", "/dashboard/retry", parts.retry_part),
    ("GET", "/dashboard/runs/{run_id}", parts.run_part),
    ("GET", "/dashboard/deliveries/{id}", parts.delivery_part),
    ("GET", "/dashboard/digests/{id}", parts.digest_part),
    ("GET", "/dashboard/users/{id}", parts.user_part),
    ("GET", "/dashboard/users/{id}/deliveries", parts.deliveries_part),
    ("GET", "/dashboard/events/{id}", parts.event_part),
    ("GET", "/dashboard/explain", parts.explain_part),
    ("POST", "/dashboard/explain", parts.explain_part),
)


def dashboard_routes(source: EngineSource) -> tuple[Route, ...]:
    """All of them."""
    return (
        Route("GET", "", to_the_page, open=True),
        Route("GET", "/", page, open=True),
        Route("GET", "/assets/{name}", asset, open=True),
        *(Route(method, path, partial(part, source)) for method, path, part in _PARTS),
    )
