"""Every line on standard input that has an id is answered, whatever it is."""

from __future__ import annotations

import json
import subprocess

import pytest
from mcp.types import INVALID_REQUEST, PARSE_ERROR

from tests.api.test_mcp_stdio_purity import HANDSHAKE, message
from tests.support import programs

CALL = {"name": "get_training_status", "arguments": {"task_id": "\ud83d"}}
LINES = [
    '{"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": "x"}',
    message("tools/call", CALL, 3).rstrip(),
    '[{"jsonrpc": "2.0", "id": 4, "method": "ping"}]',
    '{"id": 5, "method": "ping"}',
    '{"jsonrpc": "2.0", "id": "six", "method": 7}',
    "no JSON",
    "[" * 10_000,
    "42",
    "",
    message("ping", {}, 7).rstrip(),
]


@pytest.fixture(scope="module")
def answers() -> list[dict[str, object]]:
    """What a server says to all lines, in no order, when the input ends behind the last."""
    lines = [message("initialize", HANDSHAKE, 1), message("notifications/initialized", {})]
    lines += [f"{line}\n" for line in LINES]
    with subprocess.Popen(
        programs.command("noisy_stdio_server"),
        cwd=programs.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        output, _ = server.communicate("".join(lines), timeout=60)
    assert server.returncode == 0
    return [json.loads(line) for line in output.splitlines()]


def test_half_a_surrogate_pair_is_a_bad_name_and_not_silence(answers) -> None:
    (answer,) = [each for each in answers if each["id"] == 3]
    assert answer["result"]["structuredContent"]["error"]["code"] == "invalid_name"


def test_what_is_no_request_is_refused_under_its_id_where_it_has_one(answers) -> None:
    refused = [each for each in answers if "error" in each and each["id"] is not None]
    codes = {each["id"]: each["error"]["code"] for each in refused}
    assert codes == {2: INVALID_REQUEST, 5: INVALID_REQUEST, "six": INVALID_REQUEST}


def test_batches_and_what_is_not_json_are_refused_without_an_id(answers) -> None:
    codes = sorted(each["error"]["code"] for each in answers if each["id"] is None)
    assert codes == sorted([INVALID_REQUEST, PARSE_ERROR, PARSE_ERROR, INVALID_REQUEST])


def test_requests_that_run_when_the_input_ends_are_answered(answers) -> None:
    """All but the empty line have an answer, and the handshake."""
    assert len(answers) == len(LINES)
    assert {3, 7} <= {each["id"] for each in answers if "result" in each}
