"""What an MCP client can read by address: histories, model cards, strategy files."""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.shared.uri_template import UriTemplate
from mcp.types import Resource, ResourceTemplate

from ktrdr_mcp.api.operations import GET_AVAILABLE_STRATEGIES, JSON, OPERATIONS, YAML, Operation
from ktrdr_mcp.api.operations import Resource as Offer
from ktrdr_mcp.errors import InvalidName, KtrdrError, NotFound, internal_error, quote
from ktrdr_mcp.limits import MAX_PAGE_ROWS
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.service import ServiceProtocol

logger = logging.getLogger(__name__)

MAX_LISTED: Final = 100  # of the strategies; clients show the whole list to the model
OFFERED: Final = [
    (UriTemplate.parse(each.resource.template), each, each.resource)
    for each in OPERATIONS.values()
    if each.resource is not None
]
SINGLE: Final = [offer for template, _, offer in OFFERED if not template.variable_names]


def resource_templates() -> list[ResourceTemplate]:
    """The forms of the addresses that there are."""
    return [
        ResourceTemplate(
            uri_template=offer.template,
            name=offer.name,
            description=offer.description,
            mime_type=offer.mime_type,
        )
        for _, _, offer in OFFERED
        if offer not in SINGLE
    ]


async def list_resources(service: ServiceProtocol) -> list[Resource]:
    """What has one address, and the strategies, those of this program first; tools list the rest.

    Args:
        service: knows the workspace's own; without it, this program's are listed.
    """
    built_in = requests.BUILT_IN_STRATEGIES
    try:
        listed = (
            await GET_AVAILABLE_STRATEGIES.answer(service, {"limit": MAX_PAGE_ROWS})
        ).strategies
        known = [each.name for each in listed if not each.name.endswith((".yaml", ".yml"))]
    except KtrdrError as error:
        logger.warning("Listing the strategies failed: %s", error.message)
        known = []
    names = [*built_in, *(name for name in known if name not in built_in)]
    single = [
        Resource(
            uri=offer.template,
            name=offer.name,
            description=offer.description,
            mime_type=offer.mime_type,
        )
        for offer in SINGLE
    ]
    return single + [
        Resource(uri=f"strategy://{name}", name=name, mime_type=YAML) for name in names[:MAX_LISTED]
    ]


async def read(service: ServiceProtocol, uri: str) -> tuple[str, str]:
    """A resource's text and its MIME type, or the SDK's errors with our sentences.

    Raises:
        ResourceNotFoundError: nothing has this address, or nothing can.
        ResourceError: it is there and cannot be read.
    """
    for template, operation, offer in OFFERED:
        texts = template.match(uri)
        if texts is not None:
            given = {name: str(text) for name, text in texts.items()}
            return await content(service, operation, offer, given), offer.mime_type
    forms = ", ".join(offer.template for _, _, offer in OFFERED if offer not in SINGLE)
    raise ResourceNotFoundError(f"{quote(uri)} is not a resource. Resources are {forms}.")


async def content(
    service: ServiceProtocol, operation: Operation[Any, Any], offer: Offer, texts: dict[str, str]
) -> str:
    """The text of a resource whose address has one of our forms. Raises as `read`."""
    try:
        reply = await operation.answer(service, offer.arguments(texts))
    except KtrdrError as error:
        absent = isinstance(error, NotFound | InvalidName)
        kind = ResourceNotFoundError if absent else ResourceError
        raise kind(f"{error.message} {error.hint}") from None
    except Exception:
        logger.exception("Reading a resource failed unexpectedly")
        internal = internal_error("Reading this resource")
        raise ResourceError(f"{internal.message} {internal.hint}") from None
    value = getattr(reply, offer.content)
    return compact_json(value) if offer.mime_type == JSON else str(value)


def compact_json(document: dict[str, Any]) -> str:
    """A document as JSON without white space."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False)
