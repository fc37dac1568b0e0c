"""The HTTP application: routes behind one guard, errors in one shape."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ktrdr_mcp import limits
from ktrdr_mcp.api.http import ktrdr_client, openapi
from ktrdr_mcp.api.http.arguments import raw_arguments
from ktrdr_mcp.api.http.events import END, all_events, as_it_is, event_stream
from ktrdr_mcp.api.http.guard import SAFE_METHODS, Guard, Rules
from ktrdr_mcp.api.http.replies import (
    NOT_STORED,
    as_older,
    error_response,
    is_older,
    page_response,
    reply_response,
)
from ktrdr_mcp.api.http.sign_in import BrowserKeys, sign_in_routes
from ktrdr_mcp.api.operations import (
    GET_TRAINING_STATUS,
    OPERATIONS,
    TERMINAL,
    Operation,
    bound_pages,
    reading_only,
)
from ktrdr_mcp.errors import (
    InvalidRequest,
    KtrdrError,
    MethodNotAllowed,
    NotFound,
    did_you_mean,
    internal_error,
    quote,
)
from ktrdr_mcp.schemas.service import MAY_CHANGE, ServiceProtocol

PREFIX: Final = "/api/v1"
MCP_PATH: Final = "/mcp"

Answer = Callable[[Request], Awaitable[Response]]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HttpApi:
    """The application, and what a test or a server needs of it."""

    guard: Guard  # the application to serve
    routes: list[BaseRoute]


def build_api(service: ServiceProtocol, rules: Rules, more: Sequence[BaseRoute] = ()) -> HttpApi:
    """The service as an ASGI application.

    Args:
        service: answers every operation.
        rules: who may come in.
        more: another protocol's routes, behind the same guard.
    """
    keys = BrowserKeys()
    operations = [bound_pages(each, limits.MAX_PAGE_ROWS) for each in OPERATIONS.values()]
    routes = [
        *(operation_route(service, each) for each in operations),
        events_route(service),
        all_events_route(service),
        *sign_in_routes(keys),
        *document_routes(openapi.document(operations)),
        *ktrdr_routes(service),
        *more,
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: refuse_route, Exception: refuse_internal_error},
    )
    app.router.redirect_slashes = False
    reading = {each.name for each in operations if not each.changes}
    open_to_readers = [each for each in app.routes if is_mcp(each) or name_of(each) in reading]
    return HttpApi(Guard(SamePaths(OnlyReading(app, open_to_readers)), rules, keys), app.routes)


class SamePaths:
    """Makes a path with the prefix, with a trailing slash or with both the same as without."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "http":
            path: str = scope["path"]
            if path.startswith(f"{PREFIX}/"):
                path = path.removeprefix(PREFIX)
            if len(path) > 1 and path not in ktrdr_client.KEPT_SLASH:
                path = path.removesuffix("/")
            scope = {**scope, "path": path}
        await self.app(scope, receive, send)


class OnlyReading:
    """Lets whoever may only read through to what changes nothing.

    Calls of MCP pass: which tools change something, their operations know.

    Args:
        app: what answers.
        routes: those that change nothing, whatever their method.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self.app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "http" and not (MAY_CHANGE.get() or self.only_reads(scope)):
            refusal = reading_only(f"{scope['method']} {quote(scope['path'])}")
            return await error_response(refusal)(scope, receive, send)
        return await self.app(scope, receive, send)

    def only_reads(self, scope: Scope) -> bool:
        """Whether a request changes nothing."""
        if scope["method"] in SAFE_METHODS:
            return True
        return any(each.matches(scope)[0] == Match.FULL for each in self._routes)


def name_of(route: BaseRoute) -> str:
    """The name of a route: of an operation's, the operation's."""
    return str(getattr(route, "name", ""))


def is_mcp(route: BaseRoute) -> bool:
    """Whether MCP is spoken there."""
    return bool(getattr(route, "path", "") == MCP_PATH)


def operation_route(service: ServiceProtocol, operation: Operation[Any, Any]) -> Route:
    """The route of an operation."""

    async def answer(request: Request) -> Response:
        raw = await raw_arguments(request)
        reply = await operation.answer(service, raw)
        if operation.page is not None and not wants_json(request):
            content, policy = getattr(reply, operation.page), getattr(reply, "policy", None)
            return page_response(content, operation.page_type, policy)
        return reply_response(as_older(reply) if is_older(request) else reply)

    return route(operation.path, operation.method, operation.name, answer)


def wants_json(request: Request) -> bool:
    """Whether the caller asks for JSON and not for a page."""
    accepted = request.headers.get("accept", "")
    return "application/json" in accepted and "text/html" not in accepted


def events_route(service: ServiceProtocol) -> Route:
    """The stream of a task's progress."""

    async def answer(request: Request) -> Response:
        raw = await raw_arguments(request)
        first = await GET_TRAINING_STATUS.answer(service, raw)
        seen_its_end = request.headers.get("last-event-id") == END
        if seen_its_end and first.status in TERMINAL:
            return Response(status_code=204)  # tells an EventSource not to come again
        stream = event_stream(service, first, as_older if is_older(request) else as_it_is)
        return StreamingResponse(stream, headers=NOT_STORED, media_type="text/event-stream")

    return route(openapi.EVENTS_PATH, "GET", "training_events", answer)


def all_events_route(service: ServiceProtocol) -> Route:
    """The stream of the progress of all tasks that run."""

    async def answer(request: Request) -> Response:
        stream = all_events(service)
        return StreamingResponse(stream, headers=NOT_STORED, media_type="text/event-stream")

    return route(openapi.ALL_EVENTS_PATH, "GET", "all_events", answer)


def document_routes(document: dict[str, Any]) -> list[Route]:
    """The OpenAPI document, for programs and for people."""

    async def programs(request: Request) -> Response:
        return JSONResponse(document)

    async def people(request: Request) -> Response:
        address = f"{request.url.scheme}://{request.url.netloc}"
        return HTMLResponse(openapi.page(document, address), headers=openapi.SECURITY)

    return [
        route("/openapi.json", "GET", "openapi", programs),
        route("/docs", "GET", "docs", people),
    ]


def ktrdr_routes(service: ServiceProtocol) -> list[Route]:
    """The routes of KTRDR's later client, which the document does not name."""
    return [
        route(path, method, f"{method} {path}", ktrdr_client.bound_to(service, answer))
        for method, path, answer in ktrdr_client.ROUTES
    ]


def route(path: str, method: str, name: str, answer: Answer) -> Route:
    """A route that answers with our errors and lets no other out.

    Args:
        name: what failed, if it fails.
        answer: makes the response. Raises KtrdrError.
    """

    async def endpoint(request: Request) -> Response:
        try:
            return await answer(request)
        except KtrdrError as error:
            return error_response(error)
        except Exception:
            log.exception("%s failed unexpectedly", name)
            return error_response(internal_error(name))

    made = Route(path, endpoint, methods=[method], name=name)
    made.methods = {method}  # Starlette adds HEAD
    return made


async def refuse_route(request: Request, error: Exception) -> Response:
    """The answer where no route fits."""
    path = quote(request.url.path)
    if not isinstance(error, HTTPException) or error.status_code not in {404, 405}:
        return error_response(InvalidRequest("The request was not understood.", hint="See /docs."))
    if error.status_code == 404:
        known = {getattr(route, "path", "") for route in request.app.routes}
        guess = did_you_mean(request.url.path[:100], known)
        return error_response(
            NotFound(f"{path} is not a route.{guess}", hint="The routes are listed at /docs.")
        )
    allowed = ", ".join(methods_of(request))
    response = error_response(
        MethodNotAllowed(f"{request.method} is not a method of {path}.", hint=f"Use {allowed}.")
    )
    response.headers["Allow"] = allowed
    return response


def methods_of(request: Request) -> list[str]:
    """The methods of the request's path, or of the paths that it fits if none is just so."""
    routes = request.app.routes
    same = [route for route in routes if route.path == request.scope["path"]]
    fitting = [route for route in routes if route.matches(request.scope)[0] != Match.NONE]
    return sorted({method for route in same or fitting for method in route.methods or ()})


async def refuse_internal_error(request: Request, error: Exception) -> Response:
    """The answer to what should not happen; the server logs the rest."""
    return error_response(internal_error("The request"))
