"""A strategy and bars of one's own, on the command line: checked, trained, backtested.

    python examples/own_strategy.py WORKSPACE [EPOCHS]

Writes `strategies/short_swings.yaml` and `data/WAVE_1h.csv` into the workspace. The bars are a
sine with noise, so there is something to find in them; put your own in their place.
"""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

STRATEGY = """\
name: short_swings
description: A short RSI and the place between the Bollinger bands say when a swing is over.
indicators:
  - {name: rsi_5, type: rsi, params: {period: 5}}
  - {name: bands, type: talib.BBANDS, params: {timeperiod: 14}}
fuzzy_sets:
  rsi_5: {low: [-1, 15, 40], middle: [25, 50, 75], high: [60, 85, 101]}
  bands_upperband: auto
  bands_lowerband: auto
model:
  type: mlp
  architecture: {hidden_layers: [16, 8]}
training:
  labels: {method: triple_barrier, horizon: 6}
decisions: {long_only: true, cost_bps: 3}
"""
BARS = 2_000
PERIOD_BARS = 30


def bars() -> str:
    """The text of a file of bars: time, open, high, low, close, volume."""
    noise = random.Random(7)  # noqa: S311
    first = datetime(2024, 1, 1, tzinfo=UTC)
    lines = ["timestamp,open,high,low,close,volume"]
    price = 100.0
    for number in range(BARS):
        swing = 0.004 * math.cos(2 * math.pi * number / PERIOD_BARS)
        close = price * math.exp(swing + noise.gauss(0, 0.003))
        high, low = max(price, close) * 1.001, min(price, close) * 0.999
        timestamp = (first + timedelta(hours=number)).isoformat()
        lines.append(f"{timestamp},{price:.4f},{high:.4f},{low:.4f},{close:.4f},1000")
        price = close
    return "\n".join(lines) + "\n"


def ktrdr(workspace: Path, *line: str) -> dict[str, Any]:
    """Runs a command and returns its reply. Raises RuntimeError with the program's words."""
    command = [sys.executable, "-m", "ktrdr_mcp", "--workspace", str(workspace), *line, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    reply: dict[str, Any] = json.loads(done.stdout)
    if not reply["success"]:
        error = reply["error"]
        raise RuntimeError(f"{error['code']}: {error['message']} {error['hint']}")
    return reply


def main(workspace: Path, epochs: int) -> None:
    """Writes the files, then goes from the check to the backtest."""
    strategy = workspace / "strategies" / "short_swings.yaml"
    for folder in (strategy.parent, workspace / "data"):
        folder.mkdir(parents=True, exist_ok=True)
    strategy.write_text(STRATEGY, encoding="utf-8")
    (workspace / "data" / "WAVE_1h.csv").write_text(bars(), encoding="utf-8")

    checked = ktrdr(workspace, "strategies", "check", str(strategy))
    print(f"checked {checked['name']}: {', '.join(checked['indicators'])}")

    options = ("--strategy", "short_swings", "--epochs", str(epochs))
    trained = ktrdr(workspace, "train", "WAVE", "1h", *options)
    print(f"verdict {trained['verdict']['prediction']}: {trained['verdict']['reason']}")

    ktrdr(workspace, "models", "save", trained["task_id"], "short_swings")
    traded = ktrdr(workspace, "backtest", "short_swings")
    print(f"backtest: {traded['summary']}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20)
