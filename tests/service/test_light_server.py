"""A server whose trainings run in worker processes imports neither torch nor scikit-learn."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from ktrdr_mcp.daemon.server import serve_workspace
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse

async def main(folder):
    async with serve_workspace(Workspace(folder), kind="serve", stop=lambda: None) as opened:
        lab = opened.service
        config = {"epochs": 2, "hidden_layers": [8]}
        raw = {"task_id": "t1", "symbol": "AAPL", "timeframe": "1h", "config": config}
        await lab.start_training(parse(requests.StartTraining, raw))
        wait = parse(requests.GetTrainingStatus, {"task_id": "t1", "wait_s": 50})
        status = await lab.get_training_status(wait)
        await lab.get_model_performance(parse(requests.TaskOnly, {"task_id": "t1"}))
        await lab.save_trained_model(
            parse(requests.SaveModel, {"task_id": "t1", "model_name": "m", "description": ""}))
        model = {"model_name": "m"}
        loaded = await lab.load_trained_model(parse(requests.LoadModel, model))
        predicted = await lab.test_model_prediction(
            parse(requests.Predict, {**model, "symbol": "AAPL", "timeframe": "1h"}))
        backtest = await lab.backtest_model(parse(requests.BacktestModel, model))
        await lab.list_trained_models(parse(requests.ListModels, {}))
        workers = [worker.task for worker in opened.workers()]
    print(json.dumps({
        "heavy": [name for name in ("torch", "sklearn") if name in sys.modules],
        "status": status.status,
        "version": loaded.model_info.version,
        "signal": predicted.prediction.signal,
        "bars": backtest.choosing.bars,
        "workers": workers,
    }))

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_whole_day_of_a_client_needs_no_torch_in_the_server(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["heavy"] == []
    assert (found["status"], found["version"]) == ("completed", 1)
    assert found["signal"] in {"buy", "hold", "sell"}
    assert found["bars"] > 0
    assert found["workers"] == [None, None]  # one that trained and one that answers calls
