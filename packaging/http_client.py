"""A client of the HTTP interface, in the standard library alone: one training to its verdict.

Usage: http_client.py URL TOKEN_FILE
"""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path
from typing import Any

REQUEST = {"symbol": "AAPL", "timeframe": "1h", "config": {"epochs": 20, "seed": 1}}
ENDED = {"completed", "failed", "cancelled"}


def ask(url: str, token: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Sends a request and returns the reply. Raises HTTPError."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers)
    with urllib.request.urlopen(request, timeout=90) as reply:
        return dict(json.load(reply))


def main(url: str, token_file: str) -> None:
    """Trains once and prints what it is worth."""
    token = Path(token_file).read_text(encoding="ascii").strip()
    task_id = ask(f"{url}/training/start", token, REQUEST)["task_id"]
    status = {"status": "pending"}
    while status["status"] not in ENDED:
        status = ask(f"{url}/training/{task_id}?wait_s=50", token)
    performance = ask(f"{url}/training/{task_id}/performance", token)
    print(json.dumps({"task_id": task_id, **performance["verdict"]}, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
