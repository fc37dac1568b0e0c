"""How every stream of events notices that something in the service has changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ktrdr_mcp.api.operations import RESOURCE_STATES
from ktrdr_mcp.schemas.responses import ResourceStates
from ktrdr_mcp.schemas.service import ServiceProtocol

POLL_S: Final = 5.0  # so long a service waits for a change before it answers


async def next_states(
    service: ServiceProtocol, addresses: Sequence[str], seen: ResourceStates | None
) -> ResourceStates:
    """What there is once it is no longer what was seen, or after a while.

    Args:
        service: in this process or in another.
        addresses: resources to look after, beside the lists of all.
        seen: the last answer; None, or one for other addresses, is answered at once.
    Raises:
        KtrdrError: the service cannot be asked.
    """
    same = seen is not None and seen.states.keys() == set(addresses)
    known = {"mark": seen.mark, "wait_s": POLL_S} if seen is not None and same else {}
    return await RESOURCE_STATES.answer(service, {"addresses": list(addresses), **known})
