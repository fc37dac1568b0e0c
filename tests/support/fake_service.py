"""A server without a training: it remembers what it was asked and gives canned replies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ktrdr_mcp import __version__, errors
from ktrdr_mcp.api.operations import OPERATIONS
from ktrdr_mcp.errors import KtrdrError, ModelNotFound, StrategyNotFound, TaskNotFound
from ktrdr_mcp.schemas import CONTRACT_VERSION, requests, responses
from ktrdr_mcp.schemas.service import OnProgress, ServiceProtocol
from tests.support import sample_replies

# Of an operation that is not here, the example in the table.
CANNED: dict[str, Any] = {
    "start_training": sample_replies.STARTED,
    "get_training_status": sample_replies.status(),
    "get_model_performance": sample_replies.PERFORMANCE,
    "save_trained_model": sample_replies.SAVED,
    "load_trained_model": sample_replies.LOADED,
    "test_model_prediction": sample_replies.PREDICTION,
    "list_trained_models": sample_replies.MODELS,
    "list_training_tasks": sample_replies.TASKS,
    "cancel_training": sample_replies.CANCELLED,
    "get_market_data_summary": sample_replies.ALL_SERIES,
    "backtest_model": sample_replies.BACKTEST,
    "compare_trainings": sample_replies.COMPARISON,
    "reproduce_training": sample_replies.REPRODUCTION,
    "explain_model": responses.Explanation(
        task_id=sample_replies.UUID,
        summary="None is distinguishable from zero at 2 % over all (1 indicator, 8 blocks).",
        groups=[responses.GroupImportance(group="rsi", importance=0.001, error=0.002, p=0.4)],
        response=None,
        rules=[],
        rows=180,
        blocks=8,
        test_readings=1,
        details=f"explanation://{sample_replies.UUID}",
    ),
    "research_log": responses.ResearchPage(trials=[], notes=[], returned=0, has_more=False),
    "get_available_indicators": responses.IndicatorList(
        indicators=[], groups={"calendar": 4}, returned=0, has_more=False
    ),
    "ready": responses.Ready(running=0, waiting=0),
    "list_stored_data": responses.StoredManifests(series=[]),
    "training_report": responses.Report(html="<!doctype html>"),
    "model_report": responses.Report(html="<!doctype html>"),
    "comparison_report": responses.Report(html="<!doctype html>"),
    "training_curve": responses.Drawing(svg="<svg/>"),
    "show_training": sample_replies.SHOWN,
    "training_view": responses.Report(html="<!doctype html>"),
    "live_page": responses.Report(html="<!doctype html>", policy="default-src 'none'"),
    "create_task_handle": sample_replies.HANDLE,
    "read_task_handle": sample_replies.FOLLOWED,
    "equity_curve": responses.EquityCurve(
        model_name="alpha",
        equity={"out_of_sample": [{"time": sample_replies.TIMESTAMP, "equity": 1.01}]},
        trades={"out_of_sample": []},
        figures={"out_of_sample": sample_replies.TRADED},
    ),
}


class FakeService:
    """Answers every operation.

    Attributes:
        calls: what was asked: the method's name and its argument.
        replies: what each method answers.
        failure: raised by every method, if set.
        progress: statuses that a waiting caller is told of.
        finished: if set, waiting lasts until the event.
        waiting: set while a caller waits.
        wait_was_cancelled: whether a wait was cut short.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets everything that a test did."""
        self.calls: list[tuple[str, Any]] = []
        self.replies = dict(CANNED)
        self.failure: BaseException | None = None
        self.progress: list[responses.TrainingStatus] = []
        self.finished: asyncio.Event | None = None
        self.waiting = asyncio.Event()
        self.wait_was_cancelled = asyncio.Event()
        self.resources = responses.ResourceStates(states={}, lists="1", mark="1")
        self.names = {
            "task_id": [sample_replies.UUID, "task-2"],
            "model_name": ["alpha", "alpine", "beta"],
            "symbol": ["AAPL", "EURUSD=X"],
            "timeframe": ["1h", "1d"],
            "strategy": ["default", "trend"],
        }

    def answer(self, method: str, argument: object) -> Any:
        """Remembers the call; fails or replies as told."""
        self.calls.append((method, argument))
        if self.failure is not None:
            raise self.failure
        if method in self.replies:
            return self.replies[method]
        operation = OPERATIONS[method]
        if operation.reply_example is None:
            raise LookupError(f"{method} has neither a reply_example nor a reply in CANNED")
        return operation.reply.model_validate(operation.reply_example)

    def __getattr__(self, name: str) -> Callable[[Any], Awaitable[Any]]:
        """The operation of this name, with a canned reply."""
        if name not in OPERATIONS:
            raise AttributeError(name)

        async def operation(request: Any) -> Any:
            return self.answer(name, request)

        return operation

    async def get_training_status(
        self, request: requests.GetTrainingStatus, on_progress: OnProgress | None = None
    ) -> responses.TrainingStatus:
        reply: responses.TrainingStatus = self.answer("get_training_status", request)
        for status in self.progress:
            if on_progress is not None:
                await on_progress(status)
        if self.finished is not None:
            self.waiting.set()
            try:
                await self.finished.wait()
            except asyncio.CancelledError:
                self.wait_was_cancelled.set()
                raise
        return reply

    async def sweep_candidates(self, request: requests.TaskOnly) -> responses.SweepCandidates:
        self.calls.append(("sweep_candidates", request))
        if self.failure is not None:
            raise self.failure
        if request.task_id != sample_replies.UUID:
            raise TaskNotFound(
                f"No task has the id '{request.task_id}'.", hint="Call list_training_tasks."
            )
        return responses.SweepCandidates(task_id=request.task_id, sweep={"candidates": []})

    async def candidate_test(self, request: requests.ReadCandidate) -> responses.CandidateFigures:
        self.calls.append(("candidate_test", request))
        if self.failure is not None:
            raise self.failure
        if request.task_id != sample_replies.UUID:
            raise TaskNotFound(
                f"No task has the id '{request.task_id}'.", hint="Call list_training_tasks."
            )
        return sample_replies.CANDIDATE

    async def training_history(self, request: requests.TaskOnly) -> responses.TrainingHistory:
        self.calls.append(("training_history", request))
        if self.failure is not None:
            raise self.failure
        task_id = request.task_id
        if task_id != sample_replies.UUID:
            raise TaskNotFound(f"No task has the id '{task_id}'.", hint="Call list_training_tasks.")
        history = {"task_id": task_id, "epochs": [{"epoch": 1, "val_loss": 1.1}]}
        return responses.TrainingHistory(task_id=task_id, history=history)

    async def model_card(self, request: requests.LoadModel) -> responses.ModelCard:
        self.calls.append(("model_card", request))
        name = request.model_name
        if name != "alpha":
            raise ModelNotFound(f"No model is named '{name}'.", hint="Saved: alpha.")
        card = {"model_name": name, "description": "from Zürich"}
        return responses.ModelCard(model_name=name, card=card)

    async def get_available_strategies(
        self, request: requests.ListStrategies
    ) -> responses.StrategyList:
        self.calls.append(("get_available_strategies", request))
        if self.failure is not None:
            raise self.failure
        listed = [
            responses.ListedStrategy(name=name, description="", indicators=["rsi"], defects=None)
            for name in self.names["strategy"]
        ]
        return responses.StrategyList(strategies=listed)

    async def strategy_text(self, request: requests.ReadStrategy) -> responses.StrategyText:
        self.calls.append(("strategy_text", request))
        if request.name != "default":
            raise StrategyNotFound(
                f"No strategy is named '{request.name}'.", hint="There is: default."
            )
        return responses.StrategyText(name=request.name, text="name: default\n")

    async def complete(self, request: requests.CompleteName) -> responses.Names:
        self.calls.append(("complete", request))
        if self.failure is not None:
            raise self.failure
        known = self.names[request.kind]
        names = [name for name in known if name.startswith(request.prefix)]
        return responses.Names(kind=request.kind, names=names)

    async def resource_states(
        self, request: requests.ReadResourceStates
    ) -> responses.ResourceStates:
        """What clients follow by themselves, and so it is no call."""
        if self.failure is not None:
            raise self.failure
        if request.mark == self.resources.mark:
            await asyncio.sleep(request.wait_s)
        return self.resources

    async def health(self, request: requests.Empty) -> responses.Health:
        return responses.Health(version=__version__, contract_version=CONTRACT_VERSION)


def as_service(service: FakeService) -> ServiceProtocol:
    """The fake as the protocol; a type checker proves that it fits."""
    return service


def every_error_class() -> list[type[KtrdrError]]:
    """What a service may fail with."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    return sorted(
        (kind for kind in kinds if issubclass(kind, KtrdrError)), key=lambda kind: kind.__name__
    )
