"""The service in this process: one method for each use case."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from functools import partial
from typing import Any, TypeVar

import anyio.to_thread
from pydantic import BaseModel

from ktrdr_mcp import __version__
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.data.content import Sketch
from ktrdr_mcp.errors import KtrdrError
from ktrdr_mcp.jobs.live import Live
from ktrdr_mcp.jobs.model import TERMINAL
from ktrdr_mcp.jobs.queue import JobManager
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.report.comparison import comparison_page
from ktrdr_mcp.report.live import live_page, view_drawing, view_page
from ktrdr_mcp.report.model import model_page
from ktrdr_mcp.report.training import TrainingReport, loss_curve, training_page
from ktrdr_mcp.schemas import CONTRACT_VERSION, requests, responses
from ktrdr_mcp.schemas.responses import fit_page
from ktrdr_mcp.schemas.results import FreshBacktest, Json, TradingScores
from ktrdr_mcp.schemas.service import CALLER, OnProgress
from ktrdr_mcp.service import (
    backtesting,
    evaluation,
    fetching,
    importing,
    models,
    replies,
    reports,
    strategies,
    training,
)
from ktrdr_mcp.service.data import completions, data_summary, describe_series, read_bars
from ktrdr_mcp.service.evaluation import Judge, Judged
from ktrdr_mcp.service.families import Families
from ktrdr_mcp.service.model_work import ModelCalls
from ktrdr_mcp.service.models import ModelCatalog
from ktrdr_mcp.service.research import Research
from ktrdr_mcp.service.resources import Resources, read_epochs
from ktrdr_mcp.service.sweeps import (
    count_set,
    find_candidate,
    read_candidates,
    stored_candidates,
)
from ktrdr_mcp.service.training import admit, request_hashes
from ktrdr_mcp.store.backtests import TradedModel, read_scores
from ktrdr_mcp.store.models import ModelRow
from ktrdr_mcp.store.stores import Stores
from ktrdr_mcp.store.task_row import TaskRow, json_text
from ktrdr_mcp.strategy.catalog import StrategyCatalog
from ktrdr_mcp.training import bundle
from ktrdr_mcp.training.duration import Speed

Value = TypeVar("Value")

log = logging.getLogger(__name__)


async def in_thread(work: Callable[..., Value], *arguments: Any) -> Value:
    """Runs blocking work beside the event loop."""
    return await anyio.to_thread.run_sync(work, *arguments)


def sent_fields(request: BaseModel) -> Json:
    """A request as JSON, with what was sent alone."""
    return request.model_dump(mode="json", exclude_unset=True)


class Service:
    """Answers every operation over store, queue and evaluation: a method for each, of its name.

    Args:
        workspace: the folder that everything lies in.
        stores: of its database.
        manager: runs the tasks.
        calls: computes with saved models.
        speed: how fast this machine trains, as far as it is known.
    """

    def __init__(
        self,
        workspace: Workspace,
        stores: Stores,
        manager: JobManager,
        sources: BarCatalog,
        calls: ModelCalls,
        speed: Callable[[], Speed],
    ) -> None:
        self._workspace = workspace
        self._tasks = stores.tasks
        self._registry = stores.registry
        self._manager = manager
        self._speed = speed
        self._sources = sources
        self._strategies = StrategyCatalog(workspace)
        self._library = ModelCatalog(workspace, self._registry)
        self._calls = calls
        self._trial_log = stores.trial_log
        self._families = Families(workspace, stores.trial_log, stores.backtests)
        self._judge = Judge(stores.trial_log, self._families)
        self._trials_changed = asyncio.Event()
        self._looks = stores.research
        self._handles = stores.handles
        self._backtests = stores.backtests
        self._research = Research(stores.tasks, stores.research, self._judge)
        self._resources = Resources(workspace, stores, manager, self._library, self._strategies)
        self._saving = asyncio.Lock()
        self._saving_strategy = asyncio.Lock()
        self._importing = asyncio.Lock()
        self.fetches = fetching.Fetches(workspace, self._importing)

    async def start_training(self, request: requests.StartTraining) -> responses.TrainingStarted:
        """Validates, stores and queues a training; the id it returns is never lost."""
        row = await self._find_repeated(request)
        if row is None:
            promised = await self._manager.promised_bytes()
            new = await in_thread(
                admit,
                request,
                self._strategies,
                self._sources,
                self._speed(),
                promised,
                await self._looks.looks(),
            )
            if new.task.config["device"] == "cuda":
                await self._calls.call("require_device", {"name": "cuda"})
            keep = partial(new.keep, self._workspace)
            row, _ = await self._manager.submit(new.task, CALLER.get(), keep)
            self._trials_changed.set()
        reply = await self._acknowledge(row)
        similar = await self._tasks.similar(row.similarity_hash, row.task_id)
        reply = replies.starting(row, similar, max(1, self._manager.running))
        counted = await count_set(self._workspace, self._trial_log, self._families, row)
        if counted:
            self._trials_changed.set()
        reply = reply.model_copy(update={"warnings": [*reply.warnings, *counted]})
        if request.wait_s <= 0:
            return reply
        return await self._with_outcome(
            reply, await self._manager.wait(row.task_id, request.wait_s)
        )

    async def _acknowledge(self, row: TaskRow) -> responses.TrainingStarted:
        """What a start is answered with at once."""
        similar = await self._tasks.similar(row.similarity_hash, row.task_id)
        return replies.starting(row, similar, max(1, self._manager.running))

    async def _with_outcome(
        self, reply: responses.TrainingStarted, row: TaskRow
    ) -> responses.TrainingStarted:
        """The acknowledgement with what came of the task; of a completed one it is a reading."""
        status = replies.status(row, self._manager.live(row.task_id), None)
        done = row.status == "completed"
        performance = await self._judge.performance(row) if done else None
        return replies.describe_waited(reply, row, status, performance)

    async def create_task_handle(self, request: requests.TaskOnly) -> responses.TaskHandle:
        """Gives out a new handle for a task."""
        row = await self._training_of(request.task_id)
        return responses.TaskHandle(**asdict(await self._handles.create(row.task_id)))

    async def read_task_handle(self, request: requests.ReadTaskHandle) -> responses.FollowedTask:
        """Where the task of a handle stands, and what it came to once it has ended."""
        handle = await self._handles.get(request.handle)
        row = await self._training_of(handle.task_id)
        outcome = None
        if request.outcome and row.status in TERMINAL:
            outcome = await self._with_outcome(await self._acknowledge(row), row)
        now = await self._status_of(row)
        return replies.describe_followed(handle, row, now, outcome)

    async def _training_of(self, task_id: str) -> TaskRow:
        """The task of a training. Raises TaskNotFound, for a fetch too."""
        self.fetches.refuse(task_id)
        return await self._tasks.get(task_id)

    @asynccontextmanager
    async def recording(self) -> AsyncIterator[None]:
        """Meanwhile, fixes verdicts when trainings have ended, and tells the record of trials."""
        self._trials_changed.set()  # for what the last process could not do
        following = asyncio.create_task(self._record_trials(), name="trials")
        try:
            yield
        finally:
            following.cancel()
            await asyncio.wait([following])

    def note_end(self) -> None:
        """Says, on the event loop, that a task has ended."""
        self._trials_changed.set()

    async def _record_trials(self) -> None:
        """Does what a change of the trials asks for; nothing of it is needed for answering."""
        while True:
            await self._trials_changed.wait()
            self._trials_changed.clear()
            await self._try_to_record(self._families.send())
            for task_id in await self._find_unsettled():
                await self._try_to_record(self._settle(task_id))
            await self._try_to_record(self._families.send())

    async def _find_unsettled(self) -> list[str]:
        """The completed tasks whose standing is not stored; none where that cannot be read."""
        try:
            return await self._trial_log.find_unsettled()
        except KtrdrError as error:
            log.warning("trials are not recorded yet: %s", error.message)
        except Exception:
            log.exception("trials are not recorded yet")
        return []

    async def _settle(self, task_id: str) -> None:
        """Fixes a completed task's verdict. Raises KtrdrError."""
        await self._judge.settle(await self._tasks.get(task_id))

    async def _try_to_record(self, step: Coroutine[Any, Any, object]) -> None:
        """Takes a step; one that fails is said, and holds up no other."""
        try:
            await step
        except KtrdrError as error:
            log.warning("a trial is not recorded yet: %s", error.message)
        except Exception:
            log.exception("a trial is not recorded yet")

    async def _find_repeated(self, request: requests.StartTraining) -> TaskRow | None:
        """The task that this very request made before, whatever the data look like today."""
        return await self._tasks.find_repeated(
            request.task_id, request.idempotency_key, request_hashes(request)
        )

    async def get_training_status(
        self, request: requests.GetTrainingStatus, on_progress: OnProgress | None = None
    ) -> responses.TrainingStatus:
        """A task's state; waits up to `wait_s` for its end and reports progress meanwhile."""
        if self.fetches.knows(request.task_id):
            return fetching.as_training(await self.fetches.wait(request.task_id, request.wait_s))
        row = await self._training_of(request.task_id)
        if request.wait_s > 0:

            async def tell(live: Live) -> None:
                if on_progress is not None:
                    # A task with live progress runs, whatever its row said before the wait.
                    await on_progress(replies.status(replace(row, status="training"), live, None))

            row = await self._manager.wait(request.task_id, request.wait_s, tell)
        position = None
        if row.status == "pending":
            position = await self._manager.position(row.task_id)
        return replies.status(row, self._manager.live(row.task_id), position)

    async def get_model_performance(self, request: requests.TaskOnly) -> responses.ModelPerformance:
        """What a completed task measured."""
        return await self._judge.performance(await self._training_of(request.task_id))

    async def save_trained_model(self, request: requests.SaveModel) -> responses.ModelSaved:
        """Publishes a completed task's model under a name."""
        task = await self._training_of(request.task_id)
        if task.status != "completed":
            raise replies.not_completed(task)
        async with self._saving:
            known = await self._registry.find(request.model_name, task.task_id)
            if known is not None:
                return replies.saving(known, task, created=False)
            await in_thread(training.require, self._workspace, task)
            await models.require_owner(self._registry, request.model_name, task)
            version = await self._registry.next_version(request.model_name)
            wanted = {"request": sent_fields(request), "task": asdict(task), "version": version}
            published = ModelRow(**await self._calls.call("publish", wanted))
            row, created = await self._registry.insert(published)
        return replies.saving(row, task, created)

    async def load_trained_model(self, request: requests.LoadModel) -> responses.ModelLoaded:
        """Verifies the newest version of a model and keeps it in memory."""
        row = await self._library.newest(request.model_name)
        reply = await self._calls.call("load", {"row": asdict(row)})
        await self._trial_log.count_readings(row.task_id)
        return responses.ModelLoaded.model_validate(reply)

    async def test_model_prediction(self, request: requests.Predict) -> responses.ModelPrediction:
        """Predicts one bar, loading the model if needed."""
        row = await self._library.newest(request.model_name)
        wanted = {"row": asdict(row), "request": sent_fields(request)}
        return responses.ModelPrediction.model_validate(await self._calls.call("predict", wanted))

    async def list_trained_models(self, request: requests.ListModels) -> responses.ModelList:
        """A page of the registry."""
        rows, has_more = await self._library.page(request)
        page = replies.model_list(rows, has_more)
        if request.page_bytes is not None:  # what nobody sees is no reading
            page = fit_page(page, "models", request.page_bytes)
        await self._trial_log.count_readings(*(row.task_id for row in rows[: page.returned]))
        return page

    async def list_training_tasks(self, request: requests.ListTasks) -> responses.TaskList:
        """A page of the tasks, trainings and fetches together."""
        fetches = self.fetches.list_fetches(request.status, request.symbol)
        # Whatever lies before these trainings lies before the page, fetches between them or not.
        skipped = max(0, request.offset - len(fetches))
        page = await self._tasks.page(
            request.offset - skipped + request.limit, skipped, request.status, request.symbol
        )
        rows = [replies.task_summary(row, self._manager.live(row.task_id)) for row in page.rows]
        return replies.task_page(
            rows, [fetching.summary_of(one) for one in fetches], page.has_more, request
        )

    async def explain_model(self, request: requests.ExplainModel) -> responses.Explanation:
        """What a trained network learned; counts as a reading of its test results."""
        reports.require_one(request)
        task_id = request.task_id
        if request.model_name is not None:
            task_id = (await self._library.newest(request.model_name)).task_id
        row = await self._training_of(task_id or "")
        if row.status != "completed":
            raise replies.not_completed(row)
        found = await self._calls.call("explain", {"task": asdict(row)})
        readings = await self._trial_log.count_reading(row.task_id)
        explained = reports.reply(row.task_id, found, readings)
        await in_thread(reports.keep, self._workspace, explained)
        return explained

    async def research_log(self, request: requests.ReadResearch) -> responses.ResearchPage:
        """What was tried, newest first."""
        return await self._research.page(request)

    async def add_research_note(self, request: requests.AddNote) -> responses.NoteKept:
        """Keeps a note with a task or a series."""
        return await self._research.add_note(request)

    async def cancel_training(self, request: requests.TaskOnly) -> responses.TaskCancelled:
        """Asks a task to stop; of a finished one changes nothing."""
        if self.fetches.knows(request.task_id):
            return fetching.describe_cancelled(await self.fetches.cancel(request.task_id))
        row = await self._manager.cancel(request.task_id)
        return responses.TaskCancelled(
            task_id=row.task_id,
            status=row.status,
            message=replies.cancel_message(row, self._manager.kills),
        )

    async def get_market_data_summary(
        self, request: requests.SummarizeData
    ) -> responses.DataSummary:
        """Which bars there are, and what one series looks like before its test windows."""
        reply = await in_thread(data_summary, self._sources, request)
        if request.symbol is None or request.timeframe is None:
            return reply
        description, look = await in_thread(
            describe_series, self._sources, request.symbol, request.timeframe
        )
        await self._looks.add_look(look)
        return reply.model_copy(update={"description": description})

    async def import_bars(self, request: requests.ImportBars) -> responses.BarsImported:
        """Recognises files of bars that other tools wrote, and stores them."""
        async with self._importing:
            return await in_thread(importing.import_bars, self._workspace, request)

    async def fetch_market_data(self, request: requests.FetchData) -> responses.FetchReply:
        """Fetches bars as a task; the same that is under way, or has just ended, is that one."""
        one = await self.fetches.submit(request)
        return responses.FetchReply(fetch=fetching.status_of(one))

    async def list_stored_data(self, request: requests.Empty) -> responses.StoredManifests:
        """Every series that has versions."""
        return await in_thread(importing.list_stored, self._workspace)

    async def list_data_versions(self, request: requests.StoredSeries) -> responses.DatasetVersions:
        """Where a stored series comes from, and its versions."""
        return await in_thread(importing.list_versions, self._workspace, request)

    async def remove_data(self, request: requests.StoredSeries) -> responses.SeriesRemoved:
        """Removes a stored series with all its versions."""
        async with self._importing:
            return await in_thread(importing.remove_series, self._workspace, request)

    async def backtest_model(self, request: requests.BacktestModel) -> responses.ModelBacktest:
        """Trades a saved model's signals over any range, after costs."""
        reply, _ = await self._trade("backtest", request)
        return reply

    async def equity_curve(self, request: requests.ReadEquityCurve) -> responses.EquityCurve:
        """The equity curve, the trades and the figures of each part of a backtest."""
        reply, answer = await self._trade("equity", request)
        parts = {name: getattr(reply, name) for name in responses.SeenBars.model_fields}
        return responses.EquityCurve(
            model_name=request.model_name,
            equity=answer["equity"],
            trades=answer["trades"],
            figures={name: each for name, each in parts.items() if each is not None},
        )

    async def _trade(
        self, name: str, request: requests.BacktestModel
    ) -> tuple[responses.ModelBacktest, Json]:
        """What a backtest of a model comes to, beside those that were made before.

        Counts what it shows of the model's own series, and on fresh bars as a backtest there.
        """
        row = await self._library.newest(request.model_name)
        wanted = {"row": asdict(row), "request": sent_fields(request)}
        answer: Json = await self._calls.call(name, wanted)
        if answer["reads"]:
            await self._trial_log.count_readings(row.task_id)
        reply = responses.ModelBacktest.model_validate(answer["reply"])
        fresh = FreshBacktest.from_json(answer["fresh"])
        earlier, recorded = await self._backtests_before(fresh)
        return await in_thread(backtesting.judge_fresh, reply, fresh, earlier, recorded), answer

    async def _backtests_before(self, fresh: FreshBacktest) -> tuple[list[TradingScores], bool]:
        """What was made on the same fresh bars before; logs this one.

        Returns:
            the scores, and whether those of other workspaces are among them.
        """
        if fresh.scores is None or fresh.first_bar is None or fresh.last_bar is None:
            return [], True
        scores = json_text(fresh.scores.to_json())
        sketch = None if fresh.sketch is None else Sketch.from_text(fresh.sketch)
        one = TradedModel(fresh.what, fresh.symbol, fresh.first_bar, fresh.last_bar, scores, sketch)
        earlier = await self._backtests.add(one)
        elsewhere = await self._families.backtests_elsewhere(one.what)
        own = await in_thread(lambda: [read_scores(each) for each in earlier])
        return [*own, *(elsewhere or ())], elsewhere is not None

    async def compare_trainings(self, request: requests.CompareTrainings) -> responses.Comparison:
        """Sets completed tasks side by side."""
        return await in_thread(evaluation.comparison, await self._judge_together(request))

    async def _judge_together(self, request: requests.CompareTrainings) -> list[Judged]:
        """The tasks to compare, judged; each is a reading of its results."""
        rows = [await self._training_of(task_id) for task_id in request.task_ids]
        evaluation.require_comparable(rows)
        return [await self._judge.comparable(row) for row in rows]

    async def reproduce_training(
        self, request: requests.ReproduceTraining
    ) -> responses.Reproduction:
        """Trains a completed task again from what is stored, and compares."""
        original = await self._training_of(request.task_id)
        if original.status != "completed":
            raise replies.not_completed(original)
        await in_thread(training.require, self._workspace, original)
        again, _ = await self._manager.submit(training.new_task(original), CALLER.get())
        while await in_thread(training.came_to_nothing, self._workspace, again):
            new = training.new_task(original, after=again)
            again, _ = await self._manager.submit(new, CALLER.get())
        again = await self._manager.wait(again.task_id, request.wait_s)
        return await in_thread(training.reproduction, self._workspace, original, again)

    async def sweep_candidates(self, request: requests.TaskOnly) -> responses.SweepCandidates:
        """Every candidate of a completed search."""
        row = await self._training_of(request.task_id)
        if row.status != "completed":
            raise replies.not_completed(row)
        await in_thread(training.require, self._workspace, row)
        counts_as = await self._judge.counts_as(row)
        sweep = await in_thread(read_candidates, self._workspace, row, counts_as)
        return responses.SweepCandidates(task_id=row.task_id, sweep=sweep)

    async def candidate_test(self, request: requests.ReadCandidate) -> responses.CandidateFigures:
        """One candidate's own test figures, which makes a trial of every candidate."""
        row = await self._tasks.get(request.task_id)
        if row.status != "completed":
            raise replies.not_completed(row)
        await in_thread(training.require, self._workspace, row)
        candidates = await in_thread(stored_candidates, self._workspace, row)
        one = find_candidate(candidates, request.candidate)
        figures = await self._judge.candidate_test(row, one, len(candidates))
        self._trials_changed.set()
        return figures

    async def training_history(self, request: requests.TaskOnly) -> responses.TrainingHistory:
        """A task's whole story: specification, every epoch, metrics."""
        row = await self._training_of(request.task_id)
        position = await self._manager.position(row.task_id)
        status = replies.status(row, self._manager.live(row.task_id), position)
        epochs = await self._epochs_of(row)
        history = {
            "status": status.model_dump(),
            "strategy": row.strategy,
            "config": replies.echo_config(row.config),
            "created_at": row.created_at,
            "completed_at": row.completed_at,
            "attempt": row.attempt,
            "crashes": row.crashes,
            "resumed_from": row.resumed_from,
            "error_stage": row.error_stage if row.status == "failed" else None,
            "performance": row.stored_result,
            **(await self._judge.read_whole(row) if row.status == "completed" else {}),
            "epochs": epochs,
        }
        return responses.TrainingHistory(task_id=row.task_id, history=history)

    async def read_bars(self, request: requests.ReadBars) -> responses.BarRows:
        """The stored bars of a series."""
        return await in_thread(read_bars, self._sources, request)

    async def training_epochs(self, request: requests.TaskOnly) -> responses.TrainingEpochs:
        """Every epoch of a task so far; no test results, and so no reading of them."""
        row = await self._tasks.get(request.task_id)
        epochs = await self._epochs_of(row)
        return responses.TrainingEpochs(
            task_id=row.task_id, total_epochs=row.total_epochs, epochs=epochs
        )

    async def task_times(self, request: requests.TaskOnly) -> responses.TaskTimes:
        """How long a training has run, and how far it is."""
        row = await self._training_of(request.task_id)
        return replies.task_times(row, await self._status_of(row))

    async def _epochs_of(self, row: TaskRow) -> bundle.History:
        """Every epoch so far: of a task that trains from memory, of others from their files."""
        live = self._manager.live(row.task_id)
        if live is not None and row.status != "completed":
            return live.epochs.to_json()
        return await in_thread(self._epochs, row)

    def _epochs(self, row: TaskRow) -> bundle.History:
        """Every epoch of a completed task, unless its result was removed; of others, some."""
        if row.status != "completed":
            return read_epochs(self._workspace, row.task_id)
        if not training.is_kept(self._workspace, row.task_id):
            return []
        directory = self._workspace.bundle_directory(row.task_id)
        return bundle.read_history(directory, bundle.read_manifest(directory))

    async def training_report(self, request: requests.TaskOnly) -> responses.Report:
        """What a task came to, drawn: one HTML file. Counts as a reading of test results."""
        row = await self._training_of(request.task_id)
        report = await self._report_of(row, await self._status_of(row), await self._epochs_of(row))
        return responses.Report(html=await in_thread(training_page, report))

    async def show_training(self, request: requests.ShowTraining) -> responses.ShownTraining:
        """Where a task stands, in short; drawn when completed, it counts as a reading."""
        row = await self._training_of(request.task_id)
        status, epochs = await self._status_of(row), await self._epochs_of(row)
        drawing = None
        if request.draw:
            drawing = await in_thread(view_drawing, await self._report_of(row, status, epochs))
        return replies.summarise_training(status, epochs, drawing)

    async def training_view(self, request: requests.Empty) -> responses.Report:
        """The view that shows a training in a chat; it holds no data itself."""
        return responses.Report(html=view_page())

    async def _status_of(self, row: TaskRow) -> responses.TrainingStatus:
        """Where a task stands now."""
        position = await self._manager.position(row.task_id)
        return replies.status(row, self._manager.live(row.task_id), position)

    async def _report_of(
        self, row: TaskRow, status: responses.TrainingStatus, epochs: bundle.History
    ) -> TrainingReport:
        """What is drawn of a task; a reading of its test results where there are any."""
        if row.status != "completed":
            return reports.unfinished_report(row, status, epochs)
        reported = await self._judge.report(row)
        return await in_thread(
            reports.completed_report, reported, status, epochs, self._sources, self._workspace
        )

    async def model_report(self, request: requests.BacktestModel) -> responses.Report:
        """What a saved model's signals would have earned, drawn: one HTML file."""
        reply, answer = await self._trade("equity", request)
        html = await in_thread(model_page, reply, answer["equity"], answer["held"])
        return responses.Report(html=html)

    async def comparison_report(self, request: requests.CompareTrainings) -> responses.Report:
        """Completed tasks side by side, drawn: one HTML file."""
        judged = await self._judge_together(request)
        reply = await in_thread(evaluation.comparison, judged)
        epochs = {one.row.task_id: await in_thread(self._epochs, one.row) for one in judged}
        return responses.Report(html=await in_thread(comparison_page, reply, epochs))

    async def training_curve(self, request: requests.TaskOnly) -> responses.Drawing:
        """The losses of a task so far, drawn; no reading, as they are not of test rows."""
        row = await self._training_of(request.task_id)
        epochs = await self._epochs_of(row)
        best = row.result.training_metrics.best_epoch if row.result else None
        return responses.Drawing(svg=await in_thread(loss_curve, epochs, best))

    async def live_page(self, request: requests.Empty) -> responses.Report:
        """The page that shows everything in a browser; it holds no data itself."""
        html, policy = live_page()
        return responses.Report(html=html, policy=policy)

    async def model_card(self, request: requests.LoadModel) -> responses.ModelCard:
        """What the newest version of a model is, was trained on and measured."""
        row = await self._library.newest(request.model_name)
        card = await in_thread(models.card, self._workspace, row)
        await self._trial_log.count_readings(row.task_id)
        return responses.ModelCard(model_name=request.model_name, card=card)

    async def get_available_indicators(
        self, request: requests.ListIndicators
    ) -> responses.IndicatorList:
        """What a strategy can be made of."""
        return await in_thread(strategies.indicator_page, request)

    async def get_available_strategies(
        self, request: requests.ListStrategies
    ) -> responses.StrategyList:
        """The workspace's strategies and the built-in ones, with what is wrong with them."""
        task = None if request.task_id is None else await self._training_of(request.task_id)
        return await in_thread(strategies.strategy_page, self._strategies, request, task)

    async def save_strategy(self, request: requests.SaveStrategy) -> responses.StrategySaved:
        """Checks a strategy and writes it, unless it is a dry run."""
        async with self._saving_strategy:
            reply, look = await in_thread(
                strategies.save_strategy, self._strategies, self._sources, request
            )
        if look is not None:
            await self._looks.add_look(look)
        return reply

    async def strategy_text(self, request: requests.ReadStrategy) -> responses.StrategyText:
        """A strategy file as it stands; characters that could hide or mislead are escaped."""
        text = await in_thread(self._strategies.text, request.name, request.version)
        return responses.StrategyText(name=request.name, text=strategies.escape_text(text))

    async def resource_states(
        self, request: requests.ReadResourceStates
    ) -> responses.ResourceStates:
        """Whether what can be read has changed; waits until it does."""
        return await self._resources.states(request)

    async def complete(self, request: requests.CompleteName) -> responses.Names:
        """Known names that begin with a text."""
        kind, prefix = request.kind, request.prefix
        if kind == "task_id":
            names = [
                *self.fetches.ids_with_prefix(prefix, limit=20),
                *await self._tasks.ids_with_prefix(prefix, limit=20),
            ][:20]
        elif kind == "model_name":
            names = await self._library.names(prefix, limit=20)
        else:
            names = await in_thread(completions, kind, prefix, self._sources, self._strategies)
        return responses.Names(kind=kind, names=names)

    async def health(self, request: requests.Empty) -> responses.Health:
        """That the service answers, and its versions."""
        return responses.Health(version=__version__, contract_version=CONTRACT_VERSION)

    async def ready(self, request: requests.Empty) -> responses.Ready:
        """That the store can be read and a task would be taken. Raises NotReady, Draining."""
        waiting = await self._manager.require_ready()
        return responses.Ready(running=self._manager.running, waiting=waiting)
