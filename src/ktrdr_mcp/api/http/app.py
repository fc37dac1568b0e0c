"""The HTTP application: routes behind one guard, errors in one shape."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Receive, Scope, Send

from ktrdr_mcp import __version__
from ktrdr_mcp.api.http import docs_page, openapi
from ktrdr_mcp.api.http.arguments import raw_arguments
from ktrdr_mcp.api.http.events import END, TERMINAL, event_stream
from ktrdr_mcp.api.http.guard import Guard, Rules
from ktrdr_mcp.api.http.replies import NOT_STORED, error_response, reply_response
from ktrdr_mcp.api.http.routes import EVENTS_PATH, Route, all_routes
from ktrdr_mcp.api.internal_errors import internal_error
from ktrdr_mcp.errors import (
    InvalidRequest,
    KtrdrError,
    MethodNotAllowed,
    NotFound,
    did_you_mean,
    shown,
)
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.service import ServiceProtocol

PREFIX: Final = "/api/v1"

Answer = Callable[[Request], Awaitable[Response]]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HttpApi:
    """The application, and what a test or a server needs of it."""

    guard: Guard  # the application to serve
    routes: list[BaseRoute]


class Application(FastAPI):
    """FastAPI, with our examples in its documentation."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document; made once."""
        if self.openapi_schema is None:
            self.openapi_schema = openapi.add_examples(super().openapi())
        return self.openapi_schema


def build_api(lab: ServiceProtocol, rules: Rules, more: Sequence[BaseRoute] = ()) -> HttpApi:
    """The laboratory as an ASGI application.

    Args:
        lab: the laboratory behind every route.
        rules: who may come in.
        more: another protocol's routes, behind the same guard.
    """
    app = Application(
        title="ktrdr-mcp",
        version=__version__,
        description=openapi.DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={HTTPException: refuse_route, Exception: refuse_defect},
    )
    for route in all_routes(lab):
        add_route(app, route)
    add_events(app, lab)
    add_documentation(app)
    app.router.routes.extend(more)
    return HttpApi(Guard(SamePaths(app), rules), app.routes)


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
            scope = {**scope, "path": (path.removesuffix("/") if len(path) > 1 else path)}
        await self.app(scope, receive, send)


def add_route(app: FastAPI, route: Route) -> None:
    """Registers a use case with its documentation."""
    app.add_api_route(
        route.path,
        answering(route.name, lambda request: replied(route, request)),
        methods=[route.method],
        response_model=route.reply,
        name=route.name,
        operation_id=route.name,
        summary=route.summary,
        description="",
        responses=openapi.replies(route),
        openapi_extra=openapi.arguments(route),
    )


async def replied(route: Route, request: Request) -> Response:
    """The reply to a request. Raises KtrdrError."""
    parsed = parse(route.request, await raw_arguments(request, route.request))
    return reply_response(await route.call(parsed))


def add_events(app: FastAPI, lab: ServiceProtocol) -> None:
    """Registers the stream of a task's progress."""

    async def events(request: Request) -> Response:
        asked = parse(requests.TaskOnly, await raw_arguments(request, requests.TaskOnly))
        first = await lab.get_training_status(requests.GetTrainingStatus(task_id=asked.task_id))
        seen_its_end = request.headers.get("last-event-id") == END
        if seen_its_end and first.status in TERMINAL:
            return Response(status_code=204)  # tells an EventSource not to come again
        stream = event_stream(lab, first)
        return StreamingResponse(stream, headers=NOT_STORED, media_type="text/event-stream")

    app.add_api_route(
        EVENTS_PATH,
        answering("training_events", events),
        methods=["GET"],
        response_class=StreamingResponse,
        name="training_events",
        operation_id="training_events",
        summary="A task's progress as server-sent events, until its end.",
        description="",
        responses=openapi.EVENTS_REPLIES,
        openapi_extra={"parameters": openapi.parameters(requests.TaskOnly, EVENTS_PATH)},
    )


def add_documentation(app: FastAPI) -> None:
    """Registers the page for people."""

    async def documentation(request: Request) -> Response:
        address = f"{request.url.scheme}://{request.url.netloc}"
        return HTMLResponse(docs_page.page(app.openapi(), address), headers=docs_page.SECURITY)

    app.add_route("/docs", documentation, include_in_schema=False)


def answering(name: str, answer: Answer) -> Answer:
    """An endpoint that answers with our errors and lets no other out.

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

    return endpoint


async def refuse_route(request: Request, error: Exception) -> Response:
    """The answer where no route fits."""
    path = shown(request.url.path)
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


async def refuse_defect(request: Request, error: Exception) -> Response:
    """The answer to what should not happen; the server logs the rest."""
    return error_response(internal_error("The request"))
