"""HTTP responses: a reply's JSON, or an error's with its status from the one table.

Proxies of version 0.1 may outlive the server they began with; they get replies as they read them.
"""

from __future__ import annotations

from typing import Final, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ktrdr_mcp.errors import KtrdrError
from ktrdr_mcp.schemas import service
from ktrdr_mcp.schemas.responses import Reply, TrainingStatus

NOT_STORED: Final = {"Cache-Control": "no-store"}
POLICY: Final = "Content-Security-Policy"
NO_SCRIPT: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
PAGE_HEADERS: Final = {"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}
RETRY_AFTER_S: Final = {429: "5", 503: "2"}

Answer = TypeVar("Answer", bound=Reply)


def reply_response(reply: Reply) -> Response:
    """A reply as it is told over HTTP."""
    return Response(
        reply.model_dump_json(by_alias=True), headers=NOT_STORED, media_type="application/json"
    )


def page_response(content: str, media_type: str, policy: str | None) -> Response:
    """A page, which runs no script and asks for no other file unless its policy says so."""
    headers = NOT_STORED | PAGE_HEADERS | {POLICY: policy or NO_SCRIPT}
    return Response(content, headers=headers, media_type=media_type)


def error_response(error: KtrdrError) -> Response:
    """An error in the one shape, under its own status."""
    headers = dict(NOT_STORED)
    if error.http_status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if (seconds := RETRY_AFTER_S.get(error.http_status)) is not None:
        headers["Retry-After"] = seconds
    return JSONResponse(error.to_dict(), status_code=error.http_status, headers=headers)


def is_older(request: Request) -> bool:
    """Whether a proxy of version 0.1 asks: it says which server it means, and not who it is."""
    return service.INSTANCE in request.headers and service.CLIENT not in request.headers


def as_older(reply: Answer) -> Answer:
    """A reply whose current metrics are an object of nulls where there are none yet."""
    if isinstance(reply, TrainingStatus) and reply.current_metrics is None:
        return reply.model_copy(update={"current_metrics": reply.newest})
    return reply
