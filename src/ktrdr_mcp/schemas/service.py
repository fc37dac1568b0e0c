"""What the layers above know of the service, beside the operations of the API's table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final, Protocol

from ktrdr_mcp.schemas.requests import GetTrainingStatus
from ktrdr_mcp.schemas.responses import TrainingStatus

PROOF_PATH: Final = "/lab/proof"  # where the owner of a workspace proves that it is
CODE_PATH: Final = "/page/code"  # gives a program with the token a code for a browser
EXCHANGE_PATH: Final = "/page/token"  # gives a browser a token for such a code
INSTANCE: Final = "X-KTRDR-Instance"  # which daemon a request is meant for

CLIENT: Final = "X-KTRDR-Client"  # who asks, in a word of its own; clients take turns
CALLER: Final[ContextVar[str]] = ContextVar("caller", default="")  # the same, of this request
MAY_CHANGE: Final[ContextVar[bool]] = ContextVar("may_change", default=True)  # this request's token

OnProgress = Callable[[TrainingStatus], Awaitable[None]]


class ServiceProtocol(Protocol):
    """Answers each operation with the method of its name, in this process or in another.

    Such a method takes the operation's request, returns its reply and raises KtrdrError alone. One
    takes more than a request, and so it stands here.
    """

    async def get_training_status(
        self, request: GetTrainingStatus, on_progress: OnProgress | None = None
    ) -> TrainingStatus:
        """A task's state; waits up to `wait_s` for its end and reports progress meanwhile."""
