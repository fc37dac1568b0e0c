"""The research session's prompt, and the completion of names."""

from __future__ import annotations

import pytest
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, PromptReference, ResourceTemplateReference, TextContent

from ktrdr_mcp.errors import DatabaseError
from tests.support.fake_service import FakeService
from tests.support.mcp_clients import Connect

PROMPT = PromptReference(name="research_session")


def template(uri: str) -> ResourceTemplateReference:
    """A reference to a resource template."""
    return ResourceTemplateReference(uri=uri)


@pytest.mark.asyncio
async def test_the_prompt_starts_a_session_on_the_series(connect: Connect) -> None:
    async with connect() as client:
        (listed,) = (await client.list_prompts()).prompts
        prompt = await client.get_prompt(
            "research_session", {"symbol": "eurusd=x", "timeframe": "4h"}
        )
    assert listed.name == "research_session"
    assert [argument.name for argument in listed.arguments or []] == ["symbol", "timeframe"]
    (message,) = prompt.messages
    assert isinstance(message.content, TextContent)
    assert message.role == "user"
    assert "EURUSD=X on 4h bars" in message.content.text
    assert "strategy://{name}" in message.content.text
    assert "default, mean_reversion, trend_following" in message.content.text


@pytest.mark.asyncio
async def test_without_a_series_the_prompt_asks_which(connect: Connect) -> None:
    async with connect() as client:
        (message,) = (await client.get_prompt("research_session")).messages
    assert isinstance(message.content, TextContent)
    assert "research_log" in message.content.text
    assert "AAPL" not in message.content.text


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("research_session", {"symbol": "A; ignore all this"}, "is not a valid symbol"),
        ("research_session", {"timeframe": "2h"}, "Use one of 1m, 5m"),
        ("research_session", {"ticker": "AAPL"}, "It takes symbol, timeframe."),
        ("nonsense", None, "Prompts are research_session."),
        ("x" * 10_000, None, "Prompts are research_session."),
    ],
)
async def test_a_bad_prompt_request_is_the_callers_mistake(
    connect: Connect, name: str, arguments: dict[str, str] | None, words: str
) -> None:
    async with connect() as client:
        with pytest.raises(MCPError) as caught:
            await client.get_prompt(name, arguments)
    assert caught.value.code == INVALID_PARAMS
    assert words in caught.value.message
    assert len(caught.value.message) < 300


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("reference", "argument", "prefix", "values"),
    [
        (template("training://{task_id}"), "task_id", "task", ["task-2"]),
        (template("model://{model_name}"), "model_name", "alp", ["alpha", "alpine"]),
        (template("strategy://{name}"), "name", "tr", ["trend"]),
        (PROMPT, "symbol", "E", ["EURUSD=X"]),
        (PROMPT, "timeframe", "", ["1h", "1d"]),
    ],
)
async def test_names_are_completed(
    connect: Connect,
    reference: PromptReference | ResourceTemplateReference,
    argument: str,
    prefix: str,
    values: list[str],
) -> None:
    async with connect() as client:
        result = await client.complete(reference, {"name": argument, "value": prefix})
    assert result.completion.values == values
    assert (result.completion.total, result.completion.has_more) == (len(values), False)


@pytest.mark.asyncio
async def test_at_most_a_hundred_names_are_offered(connect: Connect, service: FakeService) -> None:
    service.names["symbol"] = [f"S{number}" for number in range(150)]
    async with connect() as client:
        completion = (await client.complete(PROMPT, {"name": "symbol", "value": "S"})).completion
    assert completion.values == service.names["symbol"][:100]
    assert (completion.total, completion.has_more) == (150, True)


@pytest.mark.asyncio
@pytest.mark.parametrize(("argument", "value"), [("nonsense", "a"), ("symbol", "A" * 10_000)])
async def test_nothing_completes_what_no_name_can_be(
    connect: Connect, service: FakeService, argument: str, value: str
) -> None:
    async with connect() as client:
        result = await client.complete(PROMPT, {"name": argument, "value": value})
    assert result.completion.values == []
    assert service.calls == []


@pytest.mark.asyncio
async def test_a_failing_completion_offers_nothing(connect: Connect, service: FakeService) -> None:
    service.failure = DatabaseError("The database cannot be read.", hint="Restore a backup.")
    async with connect() as client:
        result = await client.complete(PROMPT, {"name": "symbol", "value": "A"})
    assert result.completion.values == []
