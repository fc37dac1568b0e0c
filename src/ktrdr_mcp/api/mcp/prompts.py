"""The prompt that starts a research session, and the completion of names."""

from __future__ import annotations

import logging
from typing import Any, Final

from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INVALID_PARAMS,
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
)

from ktrdr_mcp import paths
from ktrdr_mcp.api.operations import COMPLETE
from ktrdr_mcp.errors import KtrdrError
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.service import ServiceProtocol

logger = logging.getLogger(__name__)

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

1. Call get_market_data_summary with symbol {symbol}: note the range and the number of bars.
2. Write down one hypothesis before you train: which indicators should carry it, and why.
   Built-in strategies: {built_in}.
   The list of resources names the workspace's own too; strategy://{{name}} is one's text.
3. Call start_training with symbol {symbol} and timeframe {timeframe}, then get_training_status
   with wait_s=50 until the task has ended. Do not start it again meanwhile.
4. Call get_model_performance and begin with its verdict: it counts every training on these bars,
   whoever started it. no_skill means stop; inconclusive says what it needs.
5. Change one thing at a time, by training and validation figures only; compare_trainings ranks.
6. Save only a model that you would defend, with save_trained_model and a description of the
   evidence; then try test_model_prediction on a date after the training range.

Report the hypothesis, every trial with its test figures, and what the evidence supports.
"""


def add_prompt(server: MCPServer[Any]) -> None:
    """Registers the research session."""

    @server.prompt(description="Start an honest research session on one series of bars.")
    async def research_session(symbol: str = "AAPL", timeframe: str = "1h") -> str:
        try:
            series = {"symbol": paths.symbol(symbol), "timeframe": paths.timeframe(timeframe)}
        except KtrdrError as error:
            raise MCPError(INVALID_PARAMS, f"{error.message} {error.hint}") from None
        built_in = ", ".join(requests.BUILT_IN_STRATEGIES)
        return RESEARCH_SESSION.format(**series, built_in=built_in)


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
