"""What changes in the service, for clients that listen; whoever made the change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
)

from ktrdr_mcp.api.operations import (
    COMPLETE,
    GET_AVAILABLE_STRATEGIES,
    GET_TRAINING_STATUS,
    LIST_TRAINING_TASKS,
)
from ktrdr_mcp.errors import KtrdrError
from ktrdr_mcp.limits import MAX_PAGE_ROWS
from ktrdr_mcp.schemas.service import ServiceProtocol

logger = logging.getLogger(__name__)

LOOK_INTERVAL_S: Final = 1.0  # a task's address changes no more often
FOLLOWED_TASKS: Final = 100  # the newest


@dataclass(frozen=True)
class Seen:
    """What there was at one look: where each task stands, and the names of what can be read."""

    tasks: dict[str, tuple[str, int]]  # status and finished epochs by id
    names: frozenset[str]

    def events_since(self, before: Seen) -> list[ServerEvent]:
        """What has changed since an earlier look."""
        changed = [name for name, state in self.tasks.items() if before.tasks.get(name) != state]
        events: list[ServerEvent] = [ResourceUpdated(uri=f"training://{name}") for name in changed]
        if self.names != before.names or not self.tasks.keys() <= before.tasks.keys():
            events.append(ResourcesListChanged())
        return events


class ServiceEvents(InMemorySubscriptionBus):
    """Looks at the service for as long as anybody listens, and tells of what has changed.

    Args:
        service: in this process or in another.
    """

    def __init__(self, service: ServiceProtocol) -> None:
        super().__init__()
        self._service = service
        self._listening = 0
        self._following: asyncio.Task[None] | None = None

    def subscribe(self, listener: Callable[[ServerEvent], None]) -> Callable[[], None]:
        """Tells a listener of every event until it calls what is returned."""
        leave = super().subscribe(listener)
        gone = False
        self._listening += 1
        if self._following is None:
            self._following = asyncio.create_task(self._follow(), name="service-events")

        def unsubscribe() -> None:
            nonlocal gone
            if gone:
                return
            gone = True
            leave()
            self._listening -= 1
            if self._listening == 0 and self._following is not None:
                self._following.cancel()
                self._following = None

        return unsubscribe

    async def _follow(self) -> None:
        """Publishes what changes from look to look."""
        before: Seen | None = None
        while True:
            try:
                now = await look(self._service)
            except KtrdrError as error:  # the service may come back
                logger.info("The service cannot be looked at: %s", error.message)
            except Exception:
                logger.exception("Looking at the service failed unexpectedly")
            else:
                for event in [] if before is None else now.events_since(before):
                    await self.publish(event)
                before = now
            await asyncio.sleep(LOOK_INTERVAL_S)


async def look(service: ServiceProtocol) -> Seen:
    """What there is now. Raises KtrdrError.

    It shows no test results, so that nothing counts as a reading of them.
    """
    page = await LIST_TRAINING_TASKS.answer(service, {"limit": FOLLOWED_TASKS})
    tasks = {row.task_id: (str(row.status), row.progress) for row in page.tasks}
    for row in page.tasks:
        if row.status == "training":
            status = await GET_TRAINING_STATUS.answer(service, {"task_id": row.task_id})
            tasks[row.task_id] = (str(status.status), status.current_epoch)
    models = (await COMPLETE.answer(service, {"kind": "model_name"})).names
    strategies = (
        await GET_AVAILABLE_STRATEGIES.answer(service, {"limit": MAX_PAGE_ROWS})
    ).strategies
    names = {
        *(f"model://{name}" for name in models),
        *(f"strategy://{each.name}" for each in strategies),
    }
    return Seen(tasks, frozenset(names))
