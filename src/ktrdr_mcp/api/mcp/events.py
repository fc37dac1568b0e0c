"""What changes in the service, for clients that listen; whoever made the change."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
)
from mcp.types import (
    NotificationParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
)

from ktrdr_mcp.api.mcp.tasks import require_declared_listening
from ktrdr_mcp.api.operations import CHANGE_TIMEOUT_S, next_states
from ktrdr_mcp.errors import KtrdrError
from ktrdr_mcp.schemas.responses import ResourceStates
from ktrdr_mcp.schemas.service import ServiceProtocol

logger = logging.getLogger(__name__)

PAUSE_S: Final = 1.0  # after the service could not be asked, or answered early for nothing
MAX_FOLLOWED: Final = 1_000  # addresses; what is beyond changes unheard


class ServiceEvents(InMemorySubscriptionBus):
    """Follows the service for as long as anybody listens, and tells of what has changed.

    Args:
        service: in this process or in another; following does not start it again.
    """

    def __init__(self, service: ServiceProtocol) -> None:
        super().__init__()
        self._service = service
        self._listening = 0
        self._followed: Counter[str] = Counter()
        self._others = asyncio.Event()  # other addresses are followed now
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

    @contextmanager
    def following(self, addresses: list[str]) -> Iterator[None]:
        """Looks after resources, too, for as long as the block runs."""
        self._followed.update(addresses)
        self._others.set()
        try:
            yield
        finally:
            self._followed.subtract(addresses)
            self._followed = +self._followed

    async def _follow(self) -> None:
        """Publishes what changes."""
        clock = asyncio.get_running_loop().time
        seen: ResourceStates | None = None
        complaint = ""
        while True:
            self._others.clear()
            began = clock()
            try:
                now = await self._states(seen)
            except KtrdrError as error:  # the service may come back
                if error.message != complaint:
                    complaint = error.message
                    logger.debug("The service cannot be followed: %s", complaint)
                await asyncio.sleep(PAUSE_S)
                continue
            except Exception:
                logger.exception("Following the service failed unexpectedly")
                await asyncio.sleep(PAUSE_S)
                continue
            complaint = ""
            for event in [] if seen is None or now is None else changes(seen, now):
                await self.publish(event)
            same = seen is not None and now is not None and now.mark == seen.mark
            if (
                same and clock() - began < CHANGE_TIMEOUT_S / 2
            ):  # a service that shuts down does not wait
                await asyncio.sleep(PAUSE_S)
            seen = now or seen

    async def _states(self, seen: ResourceStates | None) -> ResourceStates | None:
        """What there is once it has changed, or after a while; None if others are to be followed.

        Raises:
            KtrdrError: the service cannot be asked.
        """
        addresses = sorted(self._followed)[:MAX_FOLLOWED]
        asked = asyncio.ensure_future(next_states(self._service, addresses, seen))
        others = asyncio.ensure_future(self._others.wait())
        try:
            await asyncio.wait({asked, others}, return_when=asyncio.FIRST_COMPLETED)
            return await asked if asked.done() else None
        finally:
            asked.cancel()
            others.cancel()


def changes(before: ResourceStates, now: ResourceStates) -> list[ServerEvent]:
    """What has changed; of what was not followed before, nothing is known."""
    changed = [
        address
        for address, state in now.states.items()
        if before.states.get(address, state) != state
    ]
    events: list[ServerEvent] = [ResourceUpdated(uri=address) for address in changed]
    return events if now.lists == before.lists else [*events, ResourcesListChanged()]


class Listen(ListenHandler):
    """Answers subscriptions/listen, and has the listened addresses followed.

    Args:
        events: the bus.
    """

    def __init__(self, events: ServiceEvents) -> None:
        super().__init__(events)
        self._events = events

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """See ListenHandler."""
        require_declared_listening(ctx)
        with self._events.following(list(params.notifications.resource_subscriptions or [])):
            return await super().__call__(ctx, params)


def announce_changes(server: Server[Any], events: ServiceEvents) -> None:
    """Has a server tell its clients of changes: modern ones that listen, and all that shake hands.

    Args:
        server: the low-level one.
        events: the bus.
    """
    server.add_request_handler(
        "subscriptions/listen", SubscriptionsListenRequestParams, Listen(events)
    )

    async def initialized(
        context: ServerRequestContext[Any, Any], params: NotificationParams
    ) -> None:
        """Passes changes of the lists on to a client of the handshake era until it leaves."""
        session = context.session
        changed = asyncio.Event()

        def deliver(event: ServerEvent) -> None:
            if isinstance(event, ResourcesListChanged):
                changed.set()

        async def pass_on() -> None:
            while True:
                await changed.wait()
                changed.clear()
                await session.send_resource_list_changed()

        unsubscribe = events.subscribe(deliver)
        passing = asyncio.create_task(pass_on(), name="list-changes")
        # The session has no public word for its end.
        left = session._connection.exit_stack
        left.callback(unsubscribe)
        left.callback(passing.cancel)

    server.add_notification_handler("notifications/initialized", NotificationParams, initialized)
    options = server.create_initialization_options(NotificationOptions(resources_changed=True))
    server.create_initialization_options = lambda *_: options  # type: ignore[method-assign]
