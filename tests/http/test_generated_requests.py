"""Generated requests, good and bad, to a real server: no internal error, and replies as documented.

KTRDR_API_EXAMPLES says how many there are of each kind; `make test-api` asks for thousands.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.openapi.checks import RejectedPositiveData  # noqa: F401  (registers the checks)
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
)

from ktrdr_mcp.api.operations import OPERATIONS as TABLE

EXAMPLES = int(os.environ.get("KTRDR_API_EXAMPLES", "4"))
OPERATIONS = [*TABLE, "training_events"]
# nothing can be wrong with them
WITHOUT_ARGUMENTS = {name for name, each in TABLE.items() if not each.request.model_fields}
KINDS = [
    pytest.param(name, mode, id=f"{name}-{mode}")
    for name in OPERATIONS
    for mode in GenerationMode
    if mode.is_positive or name not in WITHOUT_ARGUMENTS
]
# A well-formed request may name what there is not, or dates in the wrong order.
NOT_PROMISED = [positive_data_acceptance]
NULLS = (None, "null")  # in a query, either leaves a field out, which no schema of a text can say

given_quietly = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def sent() -> Iterator[Counter[int]]:
    """Counts the answers by status."""
    statuses: Counter[int] = Counter()
    yield statuses
    told = dict(sorted(statuses.items()))
    print(f"\n{statuses.total()} generated requests, answers: {told}")  # noqa: T201


@pytest.fixture(scope="module")
def api(served) -> Any:
    """The server's own description of itself."""
    return schemathesis.openapi.from_url(f"{served.url}/openapi.json")


def each(strategy: Any, check: Callable[[Case], None]) -> None:
    """Runs a check on generated cases."""
    given_quietly(given(strategy)(check))()


def validated(case: Case, sent: Counter[int]) -> Any:
    """Sends a case and checks the answer against the document."""
    left_out = any(value in NULLS for value in (case.query or {}).values())
    excluded = [*NOT_PROMISED, negative_data_rejection] if left_out else NOT_PROMISED
    response = case.call_and_validate(excluded_checks=excluded, timeout=60)
    sent[response.status_code] += 1
    return response


def checked(case: Case, sent: Counter[int]) -> None:
    """The same, as Hypothesis wants it."""
    validated(case, sent)


@pytest.mark.parametrize(("name", "mode"), KINDS)
def test_no_generated_request_finds_an_internal_error(api, sent, name, mode) -> None:
    operation = api.find_operation_by_id(name)

    each(operation.as_strategy(generation_mode=mode), lambda case: checked(case, sent))


def test_no_generated_training_on_real_bars_finds_an_internal_error(api, sent, served) -> None:
    operation = api.find_operation_by_id("start_training")
    seen: list[str] = []

    def check(case: Case) -> None:
        for name in ("start_date", "end_date", "strategy", "task_id", "idempotency_key"):
            case.body.pop(name, None)
        case.body |= {"symbol": "AAPL", "timeframe": "1h"}
        response = validated(case, sent)
        if response.status_code == 200:
            seen.append(response.json()["task_id"])
            httpx2.post(f"{served.url}/training/{seen[-1]}/cancel", trust_env=False)

    each(operation.as_strategy(), check)
    task = {"task_id": seen[0]}
    for name in ("get_training_status", "get_model_performance", "training_history"):
        known = api.find_operation_by_id(name).as_strategy(path_parameters=task, query={})
        each(known, lambda case: checked(case, sent))
