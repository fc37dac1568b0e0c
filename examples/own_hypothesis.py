"""A hypothesis from first look to verdict with the tools alone, over stdio; prints a transcript.

    python examples/own_hypothesis.py [hours | reversal] [WORKSPACE]

A series of 8,000 hourly bars gets a planted effect: `hours`, two hours a day in which it rises and
two in which it falls; `reversal`, each hour's move is partly taken back in the next, but only after
a day that rose. What the client does is what an agent would do; it knows nothing but the replies.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters

BARS = 8_000
SERIES = {"symbol": "PLANTED", "timeframe": "1h"}
SHOWN_CHARACTERS = 700
NETWORK = {
    "architecture": {"hidden_layers": [16], "dropout": 0.0},
    "training": {"epochs": 30, "batch_size": 128, "learning_rate": 0.003},
}
IDEAS: dict[str, dict[str, Any]] = {
    "hours": {
        "group": "calendar",
        "note": "The mean moves of some hours stand out from their errors.",
        "strategy": {
            "description": "Some hours of the day rise, others fall.",
            "indicators": [
                {"name": "hour"},
                {"name": "rsi_14", "type": "rsi", "params": {"period": 14}},
            ],
            "fuzzy_sets": {"hour": "cyclic", "rsi_14": "auto"},
            "model": NETWORK,
            "training": {"labels": {"method": "triple_barrier", "horizon": 2, "width": 0.6}},
        },
    },
    "reversal": {
        "group": "moves",
        "note": "Moves are taken back a little; the day before may decide when.",
        "strategy": {
            "description": "The last hour is taken back where the last whole day rose.",
            "indicators": [
                {"name": "hourly", "type": "returns"},
                {"name": "daily", "type": "returns", "timeframe": "1d"},
                {"name": "rsi_14", "type": "rsi", "params": {"period": 14}},
            ],
            "fuzzy_sets": {"hourly": "auto", "daily": "auto", "rsi_14": "auto"},
            "model": NETWORK,
            "training": {"labels": {"method": "triple_barrier", "horizon": 1, "width": 0.5}},
        },
    },
}


def write_series(folder: Path, effect: str) -> None:
    """Writes PLANTED_1h.csv into a workspace's data folder."""
    generator = np.random.default_rng(7)
    noise = 0.004 * generator.standard_normal(BARS)
    hour = np.arange(BARS) % 24
    moves = noise.copy()
    if effect == "hours":
        moves += 0.003 * (np.isin(hour, (9, 10)) * 1.0 - np.isin(hour, (16, 17)))
    else:
        for bar in range(48, BARS):
            day = bar // 24 * 24
            if moves[day - 24 : day].sum() > 0:  # of the last whole day
                moves[bar] -= 0.35 * moves[bar - 1]
    close = 100 * np.exp(np.cumsum(moves))
    opens = np.r_[100.0, close[:-1]]
    wicks = np.exp(np.abs(0.0008 * generator.standard_normal((2, BARS))))
    highs, lows = np.maximum(opens, close) * wicks[0], np.minimum(opens, close) / wicks[1]
    times = np.datetime64("2023-01-02T00:00:00") + np.arange(BARS) * 3600
    rows = zip(times, opens, highs, lows, close, strict=True)
    lines = [f"{str(t).replace('T', ' ')},{o},{h},{low},{c},1000" for t, o, h, low, c in rows]
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(["timestamp,open,high,low,close,volume", *lines])
    (folder / "PLANTED_1h.csv").write_text(text + "\n", encoding="utf-8")


class Transcript:
    """Calls tools and prints what was said.

    Args:
        client: connected.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self.calls = 0

    async def call(self, tool: str, *shown: str, **arguments: Any) -> dict[str, Any]:
        """Calls a tool and prints some of the reply's fields. Raises RuntimeError."""
        result = await self._client.call_tool(tool, arguments)
        reply: dict[str, Any] = result.structured_content or {}
        if result.is_error:
            raise RuntimeError(f"{reply['error']['message']} {reply['error']['hint']}")
        self.calls += 1
        print(f"**{self.calls}.** `{tool}` `{json.dumps(arguments)}`\n")
        parts = {name: reply[name] for name in shown or reply}
        text = json.dumps(parts, ensure_ascii=False)
        print(f"```json\n{text[:SHOWN_CHARACTERS]}{'...' * (len(text) > SHOWN_CHARACTERS)}\n```\n")
        return reply


async def research(workspace: Path, effect: str) -> dict[str, Any]:
    """Looks, supposes, writes down, tests and explains. Returns the verdict and the explanation."""
    write_series(workspace / "data", effect)
    idea = IDEAS[effect]
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "ktrdr_mcp", "--workspace", str(workspace)]
    )
    async with Client(server) as client:
        said = Transcript(client)
        await said.call("research_log", "trials", "notes", **SERIES)
        await said.call("get_market_data_summary", "description", **SERIES)
        await said.call("get_available_indicators", "indicators", group=idea["group"])
        strategy = {"name": effect, "strategy": idea["strategy"]}
        await said.call(
            "save_strategy", "on_series", "warnings", **strategy, dry_run=True, **SERIES
        )
        await said.call("save_strategy", "saved", "version", "path", **strategy)
        started = await said.call(
            "start_training",
            *("task_id", "status"),
            **SERIES,
            strategy=effect,
            note=idea["note"],
            wait_s=50,
        )
        while started["status"] in {"pending", "training"}:
            task = {"task_id": started["task_id"], "wait_s": 50}
            started |= await said.call("get_training_status", "status", **task)
        performance = await said.call(
            "get_model_performance", "verdict", "next", task_id=started["task_id"]
        )
        explained = await said.call(
            "explain_model", "summary", "groups", "rules", task_id=started["task_id"]
        )
        learned = f"{explained['summary']} {performance['verdict']['reason']}"[:500]
        await said.call("add_research_note", task_id=started["task_id"], note=learned)
        verdict = performance["verdict"]["prediction"]
        if verdict != "skill":
            raise RuntimeError(f"The planted effect was not found: {verdict}.")
        print(f"Verdict: {verdict}, in {said.calls} calls.\n")
    async with Client(server) as another:
        said = Transcript(another)
        print("Another client, which knows nothing, begins:\n")
        log = await said.call("research_log", "trials", "notes", **SERIES)
    return {"verdict": performance["verdict"], "explained": explained, "log": log}


def main() -> None:
    """Reads the command line."""
    effect = sys.argv[1] if len(sys.argv) > 1 else "hours"
    if len(sys.argv) > 2:
        asyncio.run(research(Path(sys.argv[2]), effect))
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        asyncio.run(research(Path(folder) / "workspace", effect))


if __name__ == "__main__":
    main()
