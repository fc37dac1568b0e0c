"""The documentation page, which must work without a network and run nothing."""

from __future__ import annotations

import json
import re
import shlex
from html import unescape
from html.parser import HTMLParser

import pytest
import pytest_asyncio

from ktrdr_mcp.api.http import openapi
from ktrdr_mcp.api.http.openapi import body_schema, words
from ktrdr_mcp.api.operations import OPERATIONS
from ktrdr_mcp.schemas.config import EarlyStopping, TrainingConfig
from tests.support.asgi_requests import LOCAL, ask

pytestmark = pytest.mark.asyncio

VOID = {"meta"}
OPTIONAL_END = {"p", "html"}


class Elements(HTMLParser):
    """Which elements there are, what they link to, and whether they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.targets: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.links += [value or "" for name, value in attrs if name in {"href", "src"}]
        self.targets |= {value or "" for name, value in attrs if name == "id"}
        if tag not in VOID | OPTIONAL_END:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in OPTIONAL_END:
            assert self.open.pop() == tag


def commands_on(page: str) -> list[str]:
    """The commands that the page shows."""
    return [unescape(text) for text in re.findall(r"<pre>(curl .*?)</pre>", page, re.DOTALL)]


@pytest_asyncio.fixture
async def page(api) -> str:
    response = await ask(api.guard, "GET", "/docs", [LOCAL])
    assert response.status == 200
    assert response.headers["content-security-policy"].startswith("default-src 'none'")
    return response.body.decode()


async def test_the_page_loads_and_runs_nothing(page) -> None:
    elements = Elements()
    elements.feed(page)
    assert elements.open == []
    assert not elements.names & {"script", "link", "img", "iframe", "form"}
    assert {link for link in elements.links if not link.startswith("#")} == {"/openapi.json"}
    assert {link[1:] for link in elements.links if link.startswith("#")} == elements.targets


async def test_every_route_and_every_field_is_on_the_page(page) -> None:
    for route in OPERATIONS.values():
        assert f"<code>{route.method} {route.path}</code></h2>" in page
        for name in route.request.model_fields:
            assert f"<code>{name}</code>" in page
    for name in [*TrainingConfig.model_fields, *EarlyStopping.model_fields]:
        assert f"<code>{name}</code>" in page


async def test_the_commands_on_the_page_send_the_examples(page) -> None:
    sent = {}
    for command in commands_on(page):
        _, url, *rest = shlex.split(command)
        path, _, query = url.removeprefix("http://localhost:8000").partition("?")
        assert re.fullmatch(r"/|(/[A-Z_a-z]+)+", path)
        assert re.fullmatch(r"([a-z_]+=\w+(&|$))*", query)
        if rest:
            header, body = rest[1], rest[3]
            assert header == "Content-Type: application/json"
            sent[url] = json.loads(body)
    for route in OPERATIONS.values():
        if route.request_example is not None:
            assert sent[f"http://localhost:8000{route.path}"] == route.request_example


async def test_a_reading_command_with_nothing_to_put_in_is_answered(page, api) -> None:
    urls = [shlex.split(command)[1] for command in commands_on(page) if " -d " not in command]
    paths = [url.removeprefix("http://localhost:8000") for url in urls]
    whole = [path for path in paths if path.islower() and path != "/events"]  # that has no end
    assert {"/strategies", "/complete?kind=task_id"} <= set(whole)
    for path in whole:
        answer = await ask(api.guard, "GET", path, [LOCAL])
        assert answer.status == 200, f"{path}: {answer.body.decode()}"


@pytest.mark.parametrize("name", [name for name, one in OPERATIONS.items() if one.method == "POST"])
async def test_a_route_that_needs_a_body_has_an_example_of_it(name) -> None:
    route = OPERATIONS[name]
    body = body_schema(route.request, route.path)
    if body is not None and body["required"]:
        assert route.request_example is not None


async def test_what_a_document_says_is_text(document) -> None:
    document["info"]["description"] = "<script>alert(1)</script>"
    document["paths"]["/training"]["get"]["summary"] = "a < b & c"
    page = openapi.page(document, "http://<host>")
    assert "<script" not in page
    assert "a &lt; b &amp; c" in page
    assert "<host>" not in page


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (
            {"type": "integer", "minimum": 1, "maximum": 64, "default": 1},
            "integer, at least 1, at most 64, default 1",
        ),
        (
            {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.9},
            "number, above 0, below 0.9",
        ),
        ({"enum": ["adam", "sgd"], "default": "adam"}, 'adam | sgd, default "adam"'),
        ({"const": "mlp"}, "mlp"),
        (
            {"anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}]},
            "string, 9 characters at most or null",
        ),
        (
            {"type": "array", "items": {"type": "integer"}, "minItems": 1},
            "array of integer, 1 items at least",
        ),
        ({"type": "string", "pattern": "^a$", "description": "a name"}, "string, form ^a$: a name"),
        ({}, "any value"),
    ],
)
async def test_a_schema_is_said_in_words(schema, text) -> None:
    assert words(schema) == text
