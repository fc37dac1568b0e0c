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
