"""An MCP client over stdio: trains a network, reads what it is worth, saves it and predicts.

    python examples/mcp_client.py [WORKSPACE] [EPOCHS]

Any MCP client can do the same; this one is the Python SDK's. The workspace is a folder for data,
strategies and models; a temporary one if none is named.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from typing import Any

from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """Calls a tool. Raises RuntimeError with the server's own words; its hint says what to do."""
    result = await client.call_tool(tool, arguments)
    reply: dict[str, Any] = result.structured_content or {}
    if result.is_error:
        error = reply["error"]
        raise RuntimeError(f"{error['code']}: {error['message']} {error['hint']}")
    return reply


async def train(workspace: str, epochs: int) -> None:
    """One training on the built-in hourly AAPL bars, from start to prediction."""
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "ktrdr_mcp", "--workspace", workspace]
    )
    async with Client(server) as client:
        started = await call(
            client, "start_training", symbol="AAPL", timeframe="1h", config={"epochs": epochs}
        )
        task_id = started["task_id"]  # it survives the end of this client, and a crash
        print(f"started {task_id} on {started['data']['bars']} bars")

        status = {"status": "pending"}
        while status["status"] in {"pending", "training"}:
            status = await call(client, "get_training_status", task_id=task_id, wait_s=50)
        if status["status"] != "completed":
            raise RuntimeError(f"The training {status['status']}: {status['error']}")

        performance = await call(client, "get_model_performance", task_id=task_id)
        verdict = performance["verdict"]
        print(f"verdict {verdict['prediction']}: {verdict['reason']}")

        await call(client, "save_trained_model", task_id=task_id, model_name="example")
        predicted = await call(
            client,
            "test_model_prediction",
            model_name="example",
            symbol="AAPL",
            timeframe="1h",
            test_date="2025-06-09",
        )
        print(f"signal {predicted['prediction']['signal']} for the bar of {predicted['as_of']}")


def main() -> None:
    """Reads the command line."""
    epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    if len(sys.argv) > 1:
        asyncio.run(train(sys.argv[1], epochs))
    else:
        # What a workspace's server still writes after its last client must not raise here.
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            asyncio.run(train(folder, epochs))


if __name__ == "__main__":
    main()
