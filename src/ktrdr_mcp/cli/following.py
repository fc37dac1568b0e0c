"""Follows a training to its end, however the waiting ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import anyio

from ktrdr_mcp import limits
from ktrdr_mcp.api.operations import CANCEL_TRAINING, GET_TRAINING_STATUS, TERMINAL
from ktrdr_mcp.cli.session import Interrupted, runs_here
from ktrdr_mcp.errors import TrainingFailed

if TYPE_CHECKING:
    from ktrdr_mcp.schemas.responses import TrainingStatus
    from ktrdr_mcp.schemas.service import ServiceProtocol


QUEUE_TIMEOUT_S: Final = 2.0  # how old the shown place in the queue may get
STOPPING_TIMEOUT_S: Final = 10.0


class TrainingEnded(TrainingFailed):
    """A training that ended without a model.

    Args:
        status: its last status.
    """

    def __init__(self, status: TrainingStatus) -> None:
        reason = f": {status.error}" if status.error else "."
        super().__init__(
            f"The training {status.task_id} {ENDINGS[status.status]}{reason}",
            hint="" if status.error else "Train again with `ktrdr-mcp train`.",
        )
        self._code = status.error_code or status.status

    def to_dict(self) -> dict[str, Any]:
        """The one error shape, with the task's own code."""
        shape = super().to_dict()
        shape["error"]["code"] = self._code
        return shape


ENDINGS: Final = {"failed": "failed", "cancelled": "was cancelled"}


async def wait_for_end(
    service: ServiceProtocol,
    task_id: str,
    on_progress: Callable[[TrainingStatus], Awaitable[None]],
    limit_s: float | None = None,
) -> TrainingStatus:
    """A task's status once it has ended, or once the time is over.

    Args:
        service: where it runs.
        task_id: which task.
        on_progress: called with every new status.
        limit_s: how long to wait; None for as long as it takes.
    """
    until_s = None if limit_s is None else anyio.current_time() + limit_s
    wait_s = 0.0
    while True:
        waiting = {"task_id": task_id, "wait_s": wait_s}
        status = await GET_TRAINING_STATUS.answer(service, waiting, on_progress)
        left_s = limits.MAX_WAIT_S if until_s is None else until_s - anyio.current_time()
        if status.status in TERMINAL or left_s <= 0:
            return status
        await on_progress(status)
        longest_s = QUEUE_TIMEOUT_S if status.status == "pending" else limits.MAX_WAIT_S
        wait_s = min(longest_s, left_s)


async def wait_for_completion(
    service: ServiceProtocol, task_id: str, on_progress: Callable[[TrainingStatus], Awaitable[None]]
) -> None:
    """Returns once a training is completed.

    Raises:
        TrainingEnded: it failed or was cancelled.
        Interrupted: the user did not want to wait any longer.
    """
    try:
        status = await wait_for_end(service, task_id, on_progress)
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):
            raise await explain_interruption(service, task_id) from None
    if status.status != "completed":
        raise TrainingEnded(status)


async def explain_interruption(service: ServiceProtocol, task_id: str) -> Interrupted:
    """What becomes of a training that nobody waits for any more.

    Cancelled if it runs in this process, which ends now; else it goes on.
    """
    if not runs_here(service):
        return Interrupted(
            f"The training {task_id} goes on in the background.",
            hint=f"Follow it with `ktrdr-mcp status {task_id} --wait 600`, or end it with "
            f"`ktrdr-mcp cancel {task_id}`.",
        )
    await CANCEL_TRAINING.answer(service, {"task_id": task_id})
    waiting = {"task_id": task_id, "wait_s": STOPPING_TIMEOUT_S}
    status = await GET_TRAINING_STATUS.answer(service, waiting)
    if status.status == "completed":
        return Interrupted(
            f"The training {task_id} was completed before it could be cancelled.",
            hint=f"See it with `ktrdr-mcp performance {task_id}`.",
        )
    return Interrupted(
        f"The training {task_id} ran in this process and is cancelled.",
        hint="Without --in-process, it would go on in the background.",
    )
