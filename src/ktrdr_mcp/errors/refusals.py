"""HTTP requests that reach no use case."""

from __future__ import annotations

from ktrdr_mcp.errors.base import KtrdrError


class Refused(KtrdrError):
    """An HTTP request that reaches no use case."""

    code = "refused"
    http_status = 400


class MethodNotAllowed(Refused):
    """The route does not have this method."""

    code = "method_not_allowed"
    http_status = 405


class Unauthorized(Refused):
    """The bearer token is missing or wrong."""

    code = "unauthorized"
    http_status = 401


class OriginRefused(Refused):
    """The request comes from a web page that is not allowed."""

    code = "origin_refused"
    http_status = 403


class HostRefused(Refused):
    """The request is addressed to a host name that is not ours."""

    code = "host_refused"
    http_status = 421


class BodyTooLarge(Refused):
    """The body has too many bytes."""

    code = "body_too_large"
    http_status = 413


class NotJson(Refused):
    """The body is not declared as JSON."""

    code = "not_json"
    http_status = 415
