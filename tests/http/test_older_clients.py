"""A proxy of version 0.1 beside this server reads every reply."""

from __future__ import annotations

import json

import pytest

from ktrdr_mcp.api.http.app import build_api
from ktrdr_mcp.api.http.guard import Rules
from tests.support import sample_replies
from tests.support.asgi_requests import LOCAL, ask
from tests.support.fake_service import FakeService

pytestmark = pytest.mark.asyncio

METRICS = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")
PATH = f"/training/{sample_replies.UUID}"


@pytest.mark.parametrize("more", ["", "/events"])
async def test_where_there_are_no_figures_yet_an_older_proxy_gets_an_object(
    service: FakeService, more: str
) -> None:
    ended = sample_replies.status(1, "cancelled").model_copy(update={"current_metrics": None})
    service.replies["get_training_status"] = ended
    guard = build_api(service, Rules(instance="here")).guard
    instance = ("x-ktrdr-instance", "here")
    client = ("x-ktrdr-client", "me")
    for header, metrics in (
        ([instance], dict.fromkeys(METRICS)),
        ([instance, client], None),
        ([], None),
    ):
        answer = await ask(guard, "GET", PATH + more, [LOCAL, *header])
        body = answer.body.decode()
        text = body.partition("data: ")[2].splitlines()[0] if more else body
        assert json.loads(text)["current_metrics"] == metrics
