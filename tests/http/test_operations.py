"""Every row of the table of operations can be reached, and fits the service."""

from __future__ import annotations

import inspect
import re
from typing import get_type_hints

import pytest

from ktrdr_mcp.api.operations import OPERATIONS
from ktrdr_mcp.service.service import Service


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_service_has_a_method_that_takes_the_request_and_gives_the_reply(name: str) -> None:
    operation = OPERATIONS[name]
    method = getattr(Service, name)
    hints = get_type_hints(method)
    _, request, *more = inspect.signature(method).parameters
    assert inspect.iscoroutinefunction(method)
    assert hints[request] is operation.request
    assert hints["return"] is operation.reply
    assert more == (["on_progress"] if operation.reports_progress else [])


@pytest.mark.parametrize("name", OPERATIONS)
def test_addresses_and_pages_name_fields_that_there_are(name: str) -> None:
    operation = OPERATIONS[name]
    assert set(re.findall(r"{(\w+)}", operation.path)) <= set(operation.request.model_fields)
    if operation.rows is not None:
        assert {operation.rows, "returned", "has_more"} <= set(operation.reply.model_fields)
        assert {"limit", "offset"} <= set(operation.request.model_fields)
    if operation.resource is not None:
        reply, content = operation.reply, operation.resource.content
        assert content in reply.model_fields or isinstance(vars(reply)[content], property)


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_other_route_takes_what_is_sent_to_this_one(name: str) -> None:
    own = OPERATIONS[name]
    taking = [
        f"{each.method} {each.path}"
        for each in OPERATIONS.values()
        if each is not own
        and each.method == own.method
        and re.fullmatch(re.sub(r"{\w+}", "[^/]+", each.path), own.path)
    ]
    assert not taking, f"{own.method} {own.path} is also {taking[0]}: name another path"
