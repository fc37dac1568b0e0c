"""An HTTP client: the same training as mcp_client.py, with nothing but the standard library.

    ktrdr-mcp serve                                          # in another terminal
    python examples/http_client.py [URL] [EPOCHS]

Every route is described at URL/docs.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from typing import Any

POLL_INTERVAL_S = 0.5


def call(url: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Sends a GET, or a POST if there is a body. Raises RuntimeError with the server's words."""
    request = urllib.request.Request(  # noqa: S310
        url.rstrip("/") + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            reply: dict[str, Any] = json.load(response)
            return reply
    except urllib.error.HTTPError as refused:
        error = json.load(refused)["error"]
        raise RuntimeError(f"{error['code']}: {error['message']} {error['hint']}") from None


def train(url: str, epochs: int) -> None:
    """One training on the built-in hourly AAPL bars, from start to prediction."""
    started = call(
        url,
        "/training/start",
        {"symbol": "AAPL", "timeframe": "1h", "config": {"epochs": epochs}},
    )
    task_id = started["task_id"]
    print(f"started {task_id} on {started['data']['bars']} bars")

    while (status := call(url, f"/training/{task_id}"))["status"] in {"pending", "training"}:
        print(f"epoch {status['current_epoch']} of {status['total_epochs']}")
        time.sleep(POLL_INTERVAL_S)
    if status["status"] != "completed":
        raise RuntimeError(f"The training {status['status']}: {status['error']}")

    verdict = call(url, f"/training/{task_id}/performance")["verdict"]
    print(f"verdict {verdict['prediction']}: {verdict['reason']}")

    call(url, "/models/save", {"task_id": task_id, "model_name": "example"})
    predicted = call(
        url,
        "/models/predict",
        {
            "model_name": "example",
            "symbol": "AAPL",
            "timeframe": "1h",
            "test_date": "2025-06-09",
        },
    )
    print(f"signal {predicted['prediction']['signal']} for the bar of {predicted['as_of']}")


if __name__ == "__main__":
    train(
        sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000",
        int(sys.argv[2]) if len(sys.argv) > 2 else 20,
    )
