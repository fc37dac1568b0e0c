"""Replies as the proxies of version 0.1 read them, which may outlive the server they began with."""

from __future__ import annotations

from typing import TypeVar

from starlette.requests import Request

from ktrdr_mcp.schemas import service
from ktrdr_mcp.schemas.responses import Reply, TrainingStatus

Answer = TypeVar("Answer", bound=Reply)


def is_older(request: Request) -> bool:
    """Whether a proxy of version 0.1 asks: it says which server it means, and not who it is."""
    return service.INSTANCE in request.headers and service.CLIENT not in request.headers


def as_older(reply: Answer) -> Answer:
    """A reply whose current metrics are an object of nulls where there are none yet."""
    if isinstance(reply, TrainingStatus) and reply.current_metrics is None:
        return reply.model_copy(update={"current_metrics": reply.newest})
    return reply
