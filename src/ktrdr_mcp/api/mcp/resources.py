"""What an MCP client can read by address: histories, model cards, strategy files."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.server.mcpserver.resources import ResourceSecurity
from mcp.types import Resource

from ktrdr_mcp import paths
from ktrdr_mcp.api.internal_errors import internal_error
from ktrdr_mcp.errors import InvalidName, KtrdrError, NotFound
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.schemas.service import ServiceProtocol

logger = logging.getLogger(__name__)

TEMPLATES: Final = (
    "training://{task_id}",
    "model://{model_name}",
    "strategy://{name}",
    "equity://{model_name}/{start_date}/{end_date}/{symbol}/{cost_bps}/{sides}",
)
YAML: Final = "application/yaml"
MAX_LISTED: Final = 100  # of the strategies; clients show the whole list to the model
LEFT_OUT: Final = "-"  # in the address of an equity curve
SIDES: Final = {"long": True, "both": False}

# Every name is checked by `paths`, whose sentence says more than the SDK's refusal.
OUR_OWN_CHECKS: Final = ResourceSecurity(
    reject_path_traversal=False, reject_absolute_paths=False, reject_null_bytes=False
)


class NameNotFound(ResourceNotFoundError):
    """The address has the right form, and nothing is there."""


def add_resources(server: MCPServer[Any], lab: ServiceProtocol) -> None:
    """Registers the resource templates.

    Args:
        server: the server that gets them.
        lab: where their content comes from.
    """
    training, model, strategy, equity = TEMPLATES

    @server.resource(
        training,
        name="training",
        description="A task's full history: specification, every epoch, metrics.",
        mime_type="application/json",
        security=OUR_OWN_CHECKS,
    )
    async def read_training(task_id: str) -> str:
        return await content(paths.task_id, task_id, lab.training_history, compact_json)

    @server.resource(
        model,
        name="model",
        description="The card of a saved model's newest version.",
        mime_type="application/json",
        security=OUR_OWN_CHECKS,
    )
    async def read_model(model_name: str) -> str:
        return await content(paths.model_name, model_name, lab.model_card, compact_json)

    @server.resource(
        strategy,
        name="strategy",
        description="A strategy file: indicators, fuzzy sets and training defaults.",
        mime_type=YAML,
        security=OUR_OWN_CHECKS,
    )
    async def read_strategy(name: str) -> str:
        return await content(paths.strategy_name, name, lab.strategy_text, str)

    @server.resource(
        equity,
        name="equity",
        description="The equity curve of a backtest_model call, whose reply names the address.",
        mime_type="application/json",
        security=OUR_OWN_CHECKS,
    )
    async def read_equity(
        model_name: str, start_date: str, end_date: str, symbol: str, cost_bps: str, sides: str
    ) -> str:
        async def curve(checked: str) -> dict[str, Any]:
            raw = {
                "start_date": start_date,
                "end_date": end_date,
                "symbol": symbol,
                "cost_bps": number(cost_bps),
                "long_only": SIDES.get(sides, sides),
            }
            given = {name: value for name, value in raw.items() if value != LEFT_OUT}
            return await lab.equity_curve(
                parse(requests.BacktestModel, {"model_name": checked, **given})
            )

        return await content(paths.model_name, model_name, curve, compact_json)


async def listed_resources(lab: ServiceProtocol) -> list[Resource]:
    """The strategies, those of this program first; the other kinds are listed by tools.

    Args:
        lab: knows the workspace's own; without it, this program's are listed.
    """
    built_in = requests.BUILT_IN_STRATEGIES
    try:
        known = await lab.complete("strategy", "")
    except KtrdrError as error:
        logger.warning("Listing the strategies failed: %s", error.message)
        known = []
    names = [*built_in, *(name for name in known if name not in built_in)]
    return [
        Resource(uri=f"strategy://{name}", name=name, mime_type=YAML) for name in names[:MAX_LISTED]
    ]


def number(text: str) -> float | str:
    """The number that a text says, or the text, for the contract to refuse."""
    try:
        return float(text)
    except ValueError:
        return text


def compact_json(document: dict[str, Any]) -> str:
    """A document as JSON without white space."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


async def content(
    checked: Callable[[object], str],
    name: str,
    read: Callable[[str], Awaitable[Any]],
    rendered: Callable[[Any], str],
) -> str:
    """A resource's text, or the SDK's errors with our sentences.

    Args:
        checked: returns the name if it is well formed.
        name: what stands in the address.
        read: asks the laboratory.
        rendered: turns its answer into text.
    Raises:
        NameNotFound: nothing has this name, or nothing can.
        ResourceError: it is there and cannot be read.
    """
    try:
        return rendered(await read(checked(name)))
    except KtrdrError as error:
        kind = NameNotFound if isinstance(error, NotFound | InvalidName) else ResourceError
        raise kind(f"{error.message} {error.hint}") from None
    except Exception:
        logger.exception("Reading a resource failed unexpectedly")
        defect = internal_error("Reading this resource")
        raise ResourceError(f"{defect.message} {defect.hint}") from None
