"""Short computations with saved models, as JSON, so that a worker process can do them.

The server imports no torch: it asks for these with the rows of its registry, and keeps the
registry and the trial log to itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, Protocol

import anyio.to_thread

from ktrdr_mcp.context import Context
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import requests
from ktrdr_mcp.schemas.results import Json
from ktrdr_mcp.service import backtesting, models, replies
from ktrdr_mcp.service.model_cache import Loaded, ModelCache, predict_one
from ktrdr_mcp.store.models import ModelRow
from ktrdr_mcp.store.task_row import TaskRow


class ModelCalls(Protocol):
    """Where the calls of `ModelWork` are answered."""

    async def call(self, name: str, arguments: Json) -> Any:
        """The answer of the method with this name. Raises KtrdrError."""
        ...


class ModelWork:
    """Loads, predicts, trades and publishes; a jobs.process.Work that trains nothing.

    Args:
        workspace: where models lie.
        sources: where bars come from.
    """

    def __init__(self, workspace: Workspace, sources: BarCatalog) -> None:
        self._workspace = workspace
        self._sources = sources
        self._cache = ModelCache(workspace)

    def call(self, name: str, arguments: Json) -> Any:
        """Answers one call. Raises KtrdrError."""
        methods: dict[str, Callable[..., Any]] = {
            "load": self.load,
            "predict": self.predict,
            "backtest": self.backtest,
            "equity": self.equity,
            "explain": self.explain,
            "publish": self.publish,
            "require_device": self.require_device,
        }
        return methods[name](**arguments)

    def load(self, row: Json) -> Json:
        """The reply to load_trained_model, from the model's files."""
        loaded = self._cache.load(ModelRow(**row))
        return replies.loading(loaded.row, loaded.model.manifest).model_dump(mode="json")

    def predict(self, row: Json, request: Json) -> Json:
        """The reply to test_model_prediction."""
        loaded = self._cache.get(ModelRow(**row))
        asked = requests.Predict.model_validate(request)
        return predict_one(loaded, asked, self._sources).model_dump(mode="json")

    def backtest(self, row: Json, request: Json) -> Json:
        """A backtest; see `to_reply`."""
        loaded = self._cache.get(ModelRow(**row))
        asked = requests.BacktestModel.model_validate(request)
        traded = backtesting.trade(loaded, asked, self._sources)
        return to_reply(loaded, asked, traded)

    def equity(self, row: Json, request: Json) -> Json:
        """The same reply with the curves and the trades of the backtest by part."""
        loaded = self._cache.get(ModelRow(**row))
        asked = requests.ReadEquityCurve.model_validate(request)
        traded = backtesting.trade(loaded, asked, self._sources)
        equity, held = (
            {name: [point.to_json() for point in curve] for name, curve in curves.items()}
            for curves in (
                backtesting.equity(traded, asked.points),
                backtesting.compute_held_growth(traded, asked.points),
            )
        )
        trades = {
            name: [trade.model_dump(mode="json") for trade in part]
            for name, part in backtesting.trades(traded).items()
        }
        reply = to_reply(loaded, asked, traded)
        return {**reply, "equity": equity, "held": held, "trades": trades}

    def explain(self, task: Json) -> Json:
        """What the networks of a completed task learned."""
        from ktrdr_mcp.training import explain

        row = TaskRow(**task)
        folder = self._workspace.task_directory(row.task_id)
        return asdict(explain.explain(row.spec, folder, row.data_fingerprint, self._sources))

    def publish(self, request: Json, task: Json, version: int) -> Json:
        """The row of the version that a completed task's model is published as."""
        asked = requests.SaveModel.model_validate(request)
        return asdict(models.publish(self._workspace, asked, TaskRow(**task), version))

    def require_device(self, name: str) -> None:
        """Refuses a device that is not there. Raises InvalidRequest."""
        from ktrdr_mcp.nn.settings import device_named

        device_named(name)

    def run(self, spec: Json, workdir: Path, context: Context) -> NoReturn:
        """Nothing is trained here. Raises LookupError."""
        raise LookupError(workdir.name)

    def about(self) -> Json:
        """Nothing."""
        return {}


def to_reply(loaded: Loaded, asked: requests.BacktestModel, traded: backtesting.Traded) -> Json:
    """The reply but for its judgement, what that needs, and whether test results are shown."""
    return {
        "reply": backtesting.reply(loaded, asked, traded).model_dump(mode="json"),
        "fresh": backtesting.fresh_of(loaded, traded).to_json(),
        "reads": reads_own_series(traded, loaded.row),
    }


def reads_own_series(traded: backtesting.Traded, row: ModelRow) -> bool:
    """Whether a backtest shows bars that the model was not fitted on, of its own series."""
    shown = traded.parts.keys() & {"choosing", "out_of_sample"}
    return bool(shown) and traded.bars.symbol == row.symbol


def open_work(workspace: str) -> ModelWork:
    """The entry of a worker process. Imports torch, which takes seconds.

    Args:
        workspace: the path of its folder.
    """
    from ktrdr_mcp.jobs.executors.threads import load_torch

    load_torch()
    folder = Workspace(Path(workspace))
    return ModelWork(folder, BarCatalog(folder))


class LocalCalls:
    """Answers in threads of this process; a ModelCalls.

    Args:
        work: what answers.
    """

    def __init__(self, work: ModelWork) -> None:
        self._work = work

    async def call(self, name: str, arguments: Json) -> Any:
        """See ModelCalls."""
        return await anyio.to_thread.run_sync(self._work.call, name, arguments)
