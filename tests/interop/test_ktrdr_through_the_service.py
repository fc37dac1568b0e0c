"""A training's own model, saved through the server, and KTRDR's beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ktrdr_mcp.daemon.server import open_workspace
from ktrdr_mcp.errors import ModelCorrupted
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.parsing import parse
from tests.support import ktrdr_writer
from tests.support.ktrdr_reader import backtest_probabilities
from tests.support.saved_models import hourly_bars, table_of
from tests.support.service_calls import card_of, names_of

pytestmark = pytest.mark.asyncio

START = {
    "task_id": "trained",
    "symbol": "AAPL",
    "timeframe": "1h",
    "config": {"epochs": 3, "hidden_layers": [8]},
}


async def test_the_trained_default_strategy_is_compatible_and_predicts_alike(tmp_path) -> None:
    async with open_workspace(Workspace(tmp_path)) as opened:
        service = opened.service
        await service.start_training(parse(requests.StartTraining, START))
        waiting = parse(requests.GetTrainingStatus, {"task_id": "trained", "wait_s": 50.0})
        assert (await service.get_training_status(waiting)).status == "completed"
        saving = parse(requests.SaveModel, {"task_id": "trained", "model_name": "model"})
        saved = await service.save_trained_model(saving)
        assert (saved.ktrdr_backtest_compatible, saved.ktrdr_incompatibilities) == (True, [])
        again = await service.save_trained_model(saving)
        assert (again.created, again.ktrdr_backtest_compatible) == (False, True)
        card = await card_of(service, "model")
        assert card["ktrdr_backtest_compatible"] is True
        assert "model.pt" in card["files"]
        theirs = backtest_probabilities(tmp_path, "model", "AAPL_1h", table_of(hourly_bars()))
        for index in np.linspace(1_000, len(hourly_bars()) - 1, 5).astype(int):
            asked = {
                "model_name": "model",
                "symbol": "AAPL",
                "timeframe": "1h",
                "test_date": hourly_bars().timestamp(index),
            }
            predicted = await service.test_model_prediction(parse(requests.Predict, asked))
            ours = list(predicted.prediction.probabilities.values())
            np.testing.assert_allclose(ours, theirs[index], rtol=0, atol=1e-5)


async def test_ktrdrs_model_is_listed_loaded_used_and_refused_once_damaged(tmp_path) -> None:
    directory = ktrdr_writer.write(tmp_path)
    name = {"model_name": "theirs"}
    asked: dict[str, Any] = {**name, "symbol": "AAPL", "timeframe": "1h"}
    async with open_workspace(Workspace(tmp_path)) as opened:
        service = opened.service
        listed = await service.list_trained_models(parse(requests.ListModels, {}))
        assert [(row.model_name, row.origin) for row in listed.models] == [("theirs", "ktrdr")]
        loaded = await service.load_trained_model(parse(requests.LoadModel, name))
        assert loaded.model_info.architecture == "mlp_12_6"
        assert loaded.model_info.trained_on == []
        predicted = await service.test_model_prediction(parse(requests.Predict, asked))
        assert set(predicted.input_features) == {"rsi", "sma", "ema", "macd"}
        assert (await card_of(service, "theirs"))["origin"] == "ktrdr"
        assert await names_of(service, "model_name", "th") == ["theirs"]
        (directory / "model.pt").write_bytes(b"nothing")
        with pytest.raises(ModelCorrupted, match=r"model\.pt"):
            await service.load_trained_model(parse(requests.LoadModel, name))
        assert not (tmp_path / "canary").exists()
