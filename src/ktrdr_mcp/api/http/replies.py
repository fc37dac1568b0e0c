"""HTTP responses: a reply's JSON, or an error's with its status from the one table."""

from __future__ import annotations

from typing import Final

from starlette.responses import HTMLResponse, JSONResponse, Response

from ktrdr_mcp.errors import KtrdrError
from ktrdr_mcp.schemas.responses import Reply

NOT_STORED: Final = {"Cache-Control": "no-store"}
PAGE_POLICY: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
RETRY_AFTER_S: Final = {429: "5", 503: "2"}


def reply_response(reply: Reply) -> Response:
    """A reply as it is told over HTTP."""
    return Response(
        reply.model_dump_json(by_alias=True), headers=NOT_STORED, media_type="application/json"
    )


def page_response(html: str) -> Response:
    """A page that runs no script and asks for no other file, whatever a browser makes of it."""
    return HTMLResponse(html, headers=NOT_STORED | PAGE_POLICY)


def error_response(error: KtrdrError) -> Response:
    """An error in the one shape, under its own status."""
    headers = dict(NOT_STORED)
    if error.http_status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if (seconds := RETRY_AFTER_S.get(error.http_status)) is not None:
        headers["Retry-After"] = seconds
    return JSONResponse(error.to_dict(), status_code=error.http_status, headers=headers)
