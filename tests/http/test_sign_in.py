"""How a browser gets in: without a cookie, by a code that works once and soon."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from ktrdr_mcp.api.http.app import build_api
from ktrdr_mcp.api.http.guard import Rules
from ktrdr_mcp.api.http.sign_in import MOST_KEPT, BrowserKeys
from ktrdr_mcp.errors import Unauthorized
from ktrdr_mcp.report.live import live_page
from ktrdr_mcp.report.page import source_hash
from ktrdr_mcp.schemas import responses
from tests.support.fake_service import FakeService

TOKEN = "a-token-of-sixteen-characters"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class WithPage(FakeService):
    """The canned service, with the page as it is."""

    async def live_page(self, request: object) -> responses.Report:
        html, policy = live_page()
        return responses.Report(html=html, policy=policy)


@pytest.fixture
def client() -> TestClient:
    guard = build_api(WithPage(), Rules(token=TOKEN)).guard
    return TestClient(guard, "http://localhost")


def test_the_page_needs_no_token_and_holds_no_data(client: TestClient) -> None:
    shown = client.get("/", headers={"Accept": "text/html"})
    assert shown.status_code == 200
    assert shown.text == live_page()[0]
    assert client.get("/training").status_code == 401
    assert client.get("/events").status_code == 401


def test_the_policy_allows_the_page_s_own_script_and_styles_and_no_other(
    client: TestClient,
) -> None:
    shown = client.get("/", headers={"Accept": "text/html"})
    policy = shown.headers["content-security-policy"]
    script = re.search(r"<script>(.*?)</script>", shown.text, flags=re.DOTALL)
    assert script is not None
    assert f"script-src {source_hash(script[1])};" in policy
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "http" not in policy


def test_a_code_is_exchanged_once_for_a_token_that_lets_in(client: TestClient) -> None:
    code = client.post("/page/code", json={}, headers=BEARER).json()["code"]
    token = client.post("/page/token", json={"code": code}).json()["token"]
    assert token != TOKEN
    assert client.get("/training", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    again = client.post("/page/token", json={"code": code})
    assert again.status_code == 401
    assert again.json()["error"]["code"] == "unauthorized"


def test_a_code_is_given_to_holders_of_the_token_alone(client: TestClient) -> None:
    assert client.post("/page/code", json={}).status_code == 401
    assert client.post("/page/token", json={"code": "guessed"}).status_code == 401
    foreign = {"Origin": "http://evil.example", **BEARER}
    assert client.post("/page/code", json={}, headers=foreign).status_code == 403
    code = client.post("/page/code", json={}, headers=BEARER).json()["code"]
    stolen = client.post("/page/token", json={"code": code}, headers={"Origin": "http://evil"})
    assert stolen.status_code == 403


def test_an_old_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, now = BrowserKeys(), 1_000.0
    monkeypatch.setattr("ktrdr_mcp.api.http.sign_in.time.monotonic", lambda: now)
    code = keys.new_code()
    now += 31
    with pytest.raises(Unauthorized):
        keys.exchange(code)


def test_what_is_kept_is_bounded() -> None:
    keys = BrowserKeys()
    tokens = [keys.exchange(keys.new_code()) for _ in range(MOST_KEPT + 1)]
    assert not keys.allow(tokens[0])
    assert all(keys.allow(each) for each in tokens[1:])
    assert not keys.allow("")
    assert not keys.allow("\xff")
