"""What an MCP client can pick: resources by address, the prompt of a session, completed names."""

from __future__ import annotations

import json
import logging
from typing import Any, Final

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.shared.exceptions import MCPError
from mcp.shared.uri_template import UriTemplate
from mcp.types import (
    INVALID_PARAMS,
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    Resource,
    ResourceTemplate,
    ResourceTemplateReference,
)

from ktrdr_mcp import paths
from ktrdr_mcp.api.operations import (
    COMPLETE,
    GET_AVAILABLE_STRATEGIES,
    JSON,
    OPERATIONS,
    YAML,
    Operation,
)
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
KIND_OF_ARGUMENT: Final = {
    "task_id": "task_id",
    "model_name": "model_name",
    "symbol": "symbol",
    "timeframe": "timeframe",
    "strategy": "strategy",
    "name": "strategy",  # as in strategy://{name}
}
MAX_COMPLETIONS: Final = 100  # the protocol's bound
MAX_PREFIX_CHARACTERS: Final = 128
RESEARCH_SESSION: Final = """\
Find out whether the direction of {symbol} on {timeframe} bars can be predicted.

1. Call research_log with symbol {symbol}: go on where the last conversation stopped, and repeat
   nothing that was tried.
2. Look: get_market_data_summary with symbol {symbol} and timeframe {timeframe}. It shows the rows
   before every default test window only.
3. Suppose one thing and write it down: get_available_indicators has what a strategy can be made of;
   built-in strategies are {built_in}; get_available_strategies reads one, as does
   strategy://{{name}}. Try yours with save_strategy, dry_run true and the series, then save it.
4. Test it: start_training with symbol {symbol}, timeframe {timeframe}, the strategy, wait_s=50 and
   a note of why. If it is still training, call get_training_status with wait_s=50 until it has
   ended. Do not start it again meanwhile.
5. Begin with the verdict: it counts every training on these bars, whoever started it. no_skill
   means stop; inconclusive says what it needs.
6. Change one thing at a time, by training and validation figures only; compare_trainings ranks.
7. Save only a model that you would defend, with save_trained_model and a description of the
   evidence; then try test_model_prediction on a date after the training range.
8. Leave what you learned with add_research_note.

Report the hypothesis, every trial with its test figures, and what the evidence supports.
"""
WITHOUT_SERIES: Final = """\
Ask which symbol and timeframe the research is about: get_market_data_summary lists the series, and
research_log what was tried on them. Then:

"""


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


def add_prompt(server: MCPServer[Any]) -> None:
    """Registers the research session."""

    @server.prompt(description="Start an honest research session on one series of bars.")
    async def research_session(symbol: str | None = None, timeframe: str | None = None) -> str:
        try:
            series = {
                "symbol": "SYMBOL" if symbol is None else paths.symbol(symbol),
                "timeframe": "TIMEFRAME" if timeframe is None else paths.timeframe(timeframe),
            }
        except KtrdrError as error:
            raise MCPError(INVALID_PARAMS, f"{error.message} {error.hint}") from None
        built_in = ", ".join(requests.BUILT_IN_STRATEGIES)
        text = RESEARCH_SESSION.format(**series, built_in=built_in)
        return text if symbol and timeframe else WITHOUT_SERIES + text


def add_completion(server: MCPServer[Any], service: ServiceProtocol) -> None:
    """Registers the completion of task ids, model names, symbols, timeframes and strategies.

    Args:
        server: the server that gets it.
        service: knows the names.
    """

    @server.completion()  # type: ignore[no-untyped-call, untyped-decorator]  # the SDK's gap
    async def complete(
        reference: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion:
        kind = KIND_OF_ARGUMENT.get(argument.name)
        if kind is None or len(argument.value) > MAX_PREFIX_CHARACTERS:
            return Completion(values=[], total=0, has_more=False)
        try:
            raw = {"kind": kind, "prefix": argument.value}
            known = (await COMPLETE.answer(service, raw)).names
        except KtrdrError as error:
            logger.warning("Completion of %s failed: %s", kind, error.message)
            known = []
        return Completion(
            values=known[:MAX_COMPLETIONS], total=len(known), has_more=len(known) > MAX_COMPLETIONS
        )
