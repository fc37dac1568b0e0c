"""Starting trainings: checks before acknowledgement, reproduction, and whether results are kept."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain, combinations
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ktrdr_mcp import files
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.data.content import Sketch, sketch_of
from ktrdr_mcp.data.notes import require_fresh
from ktrdr_mcp.data.timestamps import parse_timestamp
from ktrdr_mcp.errors import ResultRemoved, StorageError
from ktrdr_mcp.nn.network import Network, network_of
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas import responses
from ktrdr_mcp.schemas.config import EffectiveConfig, TrainingConfig
from ktrdr_mcp.schemas.requests import StartTraining
from ktrdr_mcp.schemas.results import SubmittedRequest, TaskResult
from ktrdr_mcp.service.replies import echo_config
from ktrdr_mcp.service.sweeps import search_warnings, with_search
from ktrdr_mcp.store.research import StoredLook
from ktrdr_mcp.store.task_row import NewTask, TaskRow, TaskSketches
from ktrdr_mcp.strategy.catalog import DEFAULT_STRATEGY, StrategyCatalog
from ktrdr_mcp.strategy.form import Strategy
from ktrdr_mcp.training import bundle, estimate, handover
from ktrdr_mcp.training.candidates import candidates_count
from ktrdr_mcp.training.config import effective
from ktrdr_mcp.training.duration import Speed, Workload
from ktrdr_mcp.training.judgement import tested_window
from ktrdr_mcp.training.learners import (
    SURROGATE_SPLIT,
    SURROGATES,
    Splits,
    cut,
    splits_of_task,
    surrogates_fit,
)
from ktrdr_mcp.training.look import rows_looked_at
from ktrdr_mcp.training.prepare import Prepared, prepare, require_rows
from ktrdr_mcp.training.spec import SPEC_VERSION, SeriesSpec, TrainingSpec
from ktrdr_mcp.training.strategies import read_strategy
from ktrdr_mcp.training.strategies import warnings as strategy_warnings

MAY_BE_NULL: Final = ("strategy", "start_date", "end_date")  # fields of a start
NOTE: Final = "note"  # in a stored specification: why the task was started
NOT_TRAINED: Final = {"task_id", "idempotency_key", "note", "wait_s"}  # change no result
BY_NAME_ALONE: Final = (
    "The tested bars have too few different moves to be known by content: trials on them are told"
    " apart by symbol and time only."
)
REQUEST: Final = "task.json"  # beside a task's bundle

log = logging.getLogger(__name__)


def keep_request(workspace: Workspace, task: TaskRow, sketches: TaskSketches) -> None:
    """Writes beside a task's bundle what a database that is made anew must know of its start.

    The row is the truth as long as there is one, so a disk that takes nothing stops no training.
    """
    kept = SubmittedRequest(
        task_id=task.task_id,
        request_hash=task.request_hash,
        idempotency_key=task.idempotency_key,
        created_at=task.created_at,
        tested_sketch=None if sketches.tested is None else sketches.tested.to_text(),
        trained_sketch=None if sketches.trained is None else sketches.trained.to_text(),
    )
    path = workspace.task_directory(task.task_id) / REQUEST
    try:
        files.replace(path, files.json_bytes(kept.to_json()))
    except StorageError as error:
        log.warning("task %s: its request is not kept: %s", task.task_id, error.message)


def read_request(workspace: Workspace, task_id: str) -> SubmittedRequest | None:
    """What `keep_request` wrote; None if it is not there or not what was written."""
    path = workspace.task_directory(task_id) / REQUEST
    if path.is_symlink():
        return None
    try:
        kept = SubmittedRequest.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return None
    return kept if kept.task_id == task_id else None


def kept_sketches(kept: SubmittedRequest | None) -> TaskSketches:
    """The sketches that a task's folder has; whatever is none is left out."""

    def read(text: str | None) -> Sketch | None:
        try:
            return None if text is None else Sketch.from_text(text)
        except ValueError:
            return None

    return (
        TaskSketches()
        if kept is None
        else TaskSketches(read(kept.tested_sketch), read(kept.trained_sketch))
    )


def is_kept(workspace: Workspace, task_id: str) -> bool:
    """Whether a task's bundle is there, damaged or not."""
    return workspace.bundle_directory(task_id).exists()


def require(workspace: Workspace, task: TaskRow) -> None:
    """Refuses a task whose result is gone.

    Args:
        workspace: where bundles lie.
        task: a completed task.
    Raises:
        ResultRemoved: says how to train the same again.
    """
    if is_kept(workspace, task.task_id):
        return
    again = json.dumps(same_training(task), separators=(",", ":"))
    raise ResultRemoved(
        f"The result of task {task.task_id} was removed to free space; its figures are kept.",
        hint=f"Train it again: start_training with {again}. The same config and seed on the same"
        " bars come out the same; then use the new task.",
        field="task_id",
    )


def same_training(task: TaskRow) -> dict[str, Any]:
    """A request that trains the same again, under an id of its own."""
    series = task.spec["series"][0]
    rest = effective(TrainingConfig(), Strategy.from_dict(task.spec["strategy"])).model_dump()
    config = {
        name: value
        for name, value in echo_config(task.config).items()
        if name == "seed" or value != rest.get(name)
    }
    own = {"days", "dataset"}  # of the specification, not of a request
    given = {name: value for name, value in series.items() if value is not None and name not in own}
    return {**given, "strategy": task.strategy, "config": config}


@dataclass(frozen=True)
class Submission:
    """A checked request: the task that it becomes, and what its run need not prepare again."""

    task: NewTask
    spec: TrainingSpec
    prepared: Prepared
    state: list[str] | None  # of the stored bars, before they were read

    def keep(self, workspace: Workspace) -> None:
        """Leaves the prepared data to the run, where that is possible. Blocks."""
        if self.state is not None:
            directory = workspace.checkpoints_directory(self.spec.task_id)
            handover.keep(directory, self.spec, self.state, self.prepared)


def admit(
    request: StartTraining,
    strategies: StrategyCatalog,
    sources: BarCatalog,
    speed: Speed,
    promised_bytes: int = 0,
    looks: Sequence[StoredLook] = (),
) -> Submission:
    """Checks a request against strategies, data and machine, and makes a task of it.

    Args:
        request: what the caller asked for.
        strategies: where strategies come from.
        sources: where bars come from.
        speed: how fast this machine trains.
        promised_bytes: of memory, that other tasks which run or wait may come to hold.
        looks: what was looked at before.
    Raises:
        KtrdrError: it cannot be trained; nothing has been changed.
    """
    spec = specify(request, strategies)
    state = handover.data_state(spec, sources)
    prepared = prepare(spec, sources)
    spec = with_bars(spec, prepared)
    splits = splits_of_task(prepared, spec)
    require_rows(prepared.dataset, splits.main, spec.config)
    tested = np.unique(np.concatenate([split.test for split in splits.all]))
    require_fresh(bars_of(prepared), tested)
    needs = memory_needs(spec, prepared, splits)
    estimate.check(needs, promised_bytes)
    window = tested_window(prepared.dataset, splits)
    sketches = sketches_of_task(prepared, window)
    warnings = [
        *too_short(prepared, spec.config, len(splits.folds)),
        *search_warnings(spec, splits),
        *warn_of_looks(prepared, tested, looks, sketches.tested),
        *([] if sketches.tested is not None else [BY_NAME_ALONE]),
    ]
    duration_s = workload(spec, prepared, splits, needs.shape).seconds(speed)
    task = NewTask(
        task_id=spec.task_id,
        symbol=request.symbol,
        timeframe=request.timeframe,
        strategy=spec.strategy.name,
        config=spec.config.model_dump(),
        spec={
            **spec.to_dict(),
            "accepted": acknowledge(prepared, duration_s, warnings),
            "memory_bytes": needs.bytes,
            **({NOTE: request.note} if request.note else {}),
        },
        spec_version=SPEC_VERSION,
        test_start=window[0],
        test_end=window[1],
        request_hash=request_hash(request),
        similarity_hash=similarity_hash(spec),
        idempotency_key=request.idempotency_key,
        total_epochs=spec.config.epochs,
        sketches=sketches,
    )
    return Submission(task, spec, prepared, state)


def specify(request: StartTraining, strategies: StrategyCatalog) -> TrainingSpec:
    """What a request asks for, before its bars are known. Raises KtrdrError."""
    strategy = read_strategy(strategies, request.strategy or DEFAULT_STRATEGY)
    series = SeriesSpec(
        request.symbol, request.timeframe, request.start_date, request.end_date, days="file"
    )
    spec = TrainingSpec(
        task_id=request.task_id or new_task_id(),
        series=(series,),
        strategy=strategy,
        config=effective(request.config, strategy),
    )
    return with_search(spec, request.config, strategies)


def bars_of(prepared: Prepared) -> Bars:
    """The bars of the only series that there is."""
    return prepared.dataset.series[0].bars


def with_bars(spec: TrainingSpec, prepared: Prepared) -> TrainingSpec:
    """A specification that names the version of its bars, and a rule for days where one matters."""
    series = replace(spec.series[0], dataset=prepared.used.dataset)
    if bars_of(prepared).offset is None:  # days are UTC days
        series = replace(series, days=None)
    return replace(spec, series=(series,))


def workload(spec: TrainingSpec, prepared: Prepared, splits: Splits, largest: Network) -> Workload:
    """What a task has to do.

    Args:
        spec: of the task.
        prepared: its data.
        splits: its parts.
        largest: of its networks.
    """
    config = spec.config
    rows = [len(split.train) for split in splits.all] * candidates_count(spec)
    return Workload(
        largest,
        config.batch_size,
        config.epochs,
        rows + count_surrogate_rows(prepared, config),
        len(prepared.dataset.label),
        views=len(splits.all) + (SURROGATES if config.control else 0),
        dropout=config.dropout_rate > 0,
    )


def sketches_of_task(prepared: Prepared, tested: tuple[str, str]) -> TaskSketches:
    """The sketches of the stored bars that a task is tested on, and of its training range.

    Args:
        prepared: its data.
        tested: the window that its verdict rests on.
    """
    dataset, split = prepared.dataset, prepared.split
    start, stop = (parse_timestamp(moment, "moment", end_of_day=False) for moment in tested)
    first, after = (
        int(dataset.timestamps[dataset.at(rows[:1])][0]) for rows in (split.train, split.validation)
    )
    grams = prepared.grams
    return TaskSketches(
        sketch_of(grams.between(start, stop)), sketch_of(grams.between(first, after))
    )


def count_surrogate_rows(prepared: Prepared, config: EffectiveConfig) -> list[int]:
    """The training rows of each sign-flip surrogate, whose bars are about as many."""
    own = prepared.dataset
    surrogates = cut(own.usable, own.timeline, config, SURROGATE_SPLIT) if config.control else []
    return [len(surrogates[0].train)] * SURROGATES if surrogates else []


def memory_needs(spec: TrainingSpec, prepared: Prepared, splits: Splits) -> estimate.Needs:
    """What the memory of a task's largest group depends on."""
    config, view = spec.config, prepared.view
    over = config.sweep.vary.get("hidden_layers") if config.sweep else None
    shapes = over or [config.hidden_layers]
    largest = max(
        (
            network_of(len(view.input_names), config.model_dump() | {"hidden_layers": hidden})
            for hidden in shapes
        ),
        key=lambda shape: shape.parameters_count,
    )
    candidates = -(-candidates_count(spec) // len(shapes))
    surrogates = SURROGATES if config.control else 0
    return estimate.Needs(
        largest,
        config.batch_size,
        len(prepared.dataset.label),
        networks=candidates * len(splits.all) + surrogates,
        columns=len(view.feature_names) if view.windows else None,
        views=len(splits.all) + surrogates,
        tables=1 + len(spec.alternatives) + surrogates,
    )


def acknowledge(prepared: Prepared, duration_s: float, warnings: Sequence[str]) -> dict[str, Any]:
    """What the acknowledgement says; stored, so that repeating a start repeats the answer."""
    return {
        "data": prepared.used.model_dump(),
        "warnings": [
            *prepared.warnings,
            *strategy_warnings(prepared.view.fits[0].strategy),
            *warnings,
        ],
        "duration_s": duration_s,
    }


def warn_of_looks(
    prepared: Prepared,
    tested: npt.NDArray[np.int64],
    looks: Sequence[StoredLook],
    sketch: Sketch | None,
) -> list[str]:
    """A warning if test rows were looked at before the training.

    Args:
        prepared: the data.
        tested: int64[n], the bars of the series that are tested.
        looks: everything that was looked at.
        sketch: of the tested bars, if they can be told from others.
    """
    seen = rows_looked_at(looks, bars_of(prepared), tested, prepared.grams, sketch)
    if not seen:
        return []
    sentence = (
        f"{seen:,} of {len(tested):,} test rows were looked at before, by get_market_data_summary"
        " or a dry run of save_strategy: an idea that came from them is not tested by them. Without"
        " start_date and end_date the test rows come after what is shown."
    )
    return [sentence]


def too_short(prepared: Prepared, config: EffectiveConfig, folds: int) -> list[str]:
    """A warning for each part of the judgement that the rows are too few for.

    Args:
        prepared: the data.
        config: what was asked for.
        folds: how many walk-forward folds have rows enough.
    """
    warnings, wanted = [], config.walk_forward
    if wanted is not None and folds < wanted.folds:
        rest = "the verdict rests on them" if folds else "the verdict rests on the final test part"
        warnings.append(
            f"Only {folds} of {wanted.folds} walk-forward folds have rows enough; {rest}. Use"
            " fewer folds, another span or a longer range."
        )
    if config.control and not surrogates_fit(prepared, config):
        warnings.append("The rows are too few for noise twins: control finds no leak here.")
    return warnings


def new_task_id() -> str:
    """An id that says when, and that nobody guesses."""
    return f"training_{datetime.now(UTC):%Y%m%d_%H%M%S}_{secrets.token_hex(4)}"


def request_hash(request: StartTraining) -> str:
    """The same for the same body, whatever its ids and whether its nulls are sent or left out."""
    return digest(
        {name: value for name, value in sent_fields(request).items() if value is not None}
    )


def request_hashes(request: StartTraining) -> list[str]:
    """Each hash that this body may have been stored under: some tasks' hashes are of nulls too."""
    body = sent_fields(request)
    absent = [name for name in MAY_BE_NULL if body.get(name) is None]
    chosen = chain.from_iterable(combinations(absent, n) for n in range(1, len(absent) + 1))
    with_nulls = [digest({**body, **dict.fromkeys(names)}) for names in chosen]
    return [request_hash(request), *with_nulls]


def sent_fields(request: StartTraining) -> dict[str, Any]:
    """A body as it was sent, without what changes no result."""
    return request.model_dump(mode="json", exclude=NOT_TRAINED, exclude_unset=True)


def similarity_hash(spec: TrainingSpec) -> str:
    """The same for trainings that differ in seed and id alone."""
    raw = spec.to_dict()
    config = {name: value for name, value in raw["config"].items() if name != "seed"}
    series = [
        {name: value for name, value in one.items() if name != "days"} for one in raw["series"]
    ]
    return digest([series, raw["strategy"], config])


def digest(value: Any) -> str:
    """SHA-256 of a value as stable JSON."""
    return hashlib.sha256(files.json_bytes(value)).hexdigest()


def new_task(original: TaskRow, after: TaskRow | None = None) -> NewTask:
    """A task with the stored specification of another, under an id of its own.

    Args:
        original: a completed task. Asking again names the same reproduction.
        after: an earlier reproduction that came to nothing.
    """
    earlier = f" after {after.task_id}" if after else ""
    identifier = new_task_id()
    return NewTask(
        task_id=identifier,
        symbol=original.symbol,
        timeframe=original.timeframe,
        strategy=original.strategy,
        config=original.config,
        spec={
            **{name: value for name, value in original.spec.items() if name != NOTE},
            "task_id": identifier,
        },
        spec_version=original.spec_version,
        test_start=original.test_start,
        test_end=original.test_end,
        request_hash=digest(["reproduce", original.task_id]),
        similarity_hash=original.similarity_hash,
        idempotency_key=f"reproduce {original.task_id}{earlier}",
        group_id=original.task_id,
        total_epochs=original.total_epochs,
    )


def came_to_nothing(workspace: Workspace, again: TaskRow) -> bool:
    """Whether a reproduction has no result, or not any more."""
    if again.status == "completed":
        return not is_kept(workspace, again.task_id)
    return again.status in {"failed", "cancelled"}


def reproduction(workspace: Workspace, original: TaskRow, again: TaskRow) -> responses.Reproduction:
    """The reply. Blocks while bundles are read.

    Args:
        workspace: where bundles lie.
        original: the completed task.
        again: its reproduction, completed or not.
    """
    done = again.status == "completed"
    found = differences(workspace, original, again) if done else []
    return responses.Reproduction(
        task_id=original.task_id,
        reproduction_task_id=again.task_id,
        status=again.status,
        result=("differs" if found else "match") if done else None,
        differences=found,
        message=message(again, found),
    )


def message(again: TaskRow, found: list[str]) -> str:
    """What the comparison means and what to do."""
    if again.status in {"pending", "training"}:
        return "The reproduction is still training; call reproduce_training again."
    if again.status != "completed":
        reason = again.error_message or "no result."
        return f"The reproduction {again.status}: {reason} Call reproduce_training to try again."
    if found:
        return "The training does not come out the same; the differences say where to look."
    return "Weights, history and figures are identical."


def differences(workspace: Workspace, original: TaskRow, again: TaskRow) -> list[str]:
    """What is not the same in two completed tasks."""
    folders = [workspace.bundle_directory(row.task_id) for row in (original, again)]
    one, other = (bundle.read_manifest(folder) for folder in folders)
    found = [
        f"{name}: {one.versions.get(name)} became {other.versions.get(name)}"
        for name in changed_names(one.versions, other.versions)
    ]
    if one.data_fingerprint != other.data_fingerprint:
        found.append("The stored bars have changed since the first training.")
    written = [
        {name: each.sha256[name] for name in one.sha256.keys() & other.sha256.keys()}
        for each in (one, other)  # older bundles have fewer files
    ]
    found += [f"{name} has other bytes." for name in changed_names(*written)]
    if comparable(one.metrics) != comparable(other.metrics):
        found.append("The figures differ.")
    return found


def changed_names(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Names whose values are not the same."""
    return [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]


def comparable(result: TaskResult) -> TaskResult:
    """A result without what need not be the same: duration, the task's name, the bars' place."""
    timeless = result.training_metrics.model_copy(update={"training_time_minutes": 0.0})
    sweep = result.sweep and result.sweep.model_copy(update={"all": ""})
    data = result.data.model_copy(update={"source": ""})  # a file, or its version
    changes = {"training_metrics": timeless, "details": "", "sweep": sweep, "data": data}
    return result.model_copy(update=changes)
