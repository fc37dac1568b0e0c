"""Everything a start is checked for before it is acknowledged."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ktrdr_mcp import durable
from ktrdr_mcp.contract.config import EffectiveConfig
from ktrdr_mcp.contract.requests import StartTraining
from ktrdr_mcp.data.sources import BarSources
from ktrdr_mcp.features.remarks import remarks, without_effect
from ktrdr_mcp.learn import memory
from ktrdr_mcp.learn.devices import device_named
from ktrdr_mcp.learn.evaluate import CLASSES
from ktrdr_mcp.learn.speed import Speed
from ktrdr_mcp.research.cohort import TWINS, folds_of, twins_fit
from ktrdr_mcp.research.config import effective
from ktrdr_mcp.research.prepare import Prepared, prepare
from ktrdr_mcp.research.spec import SPEC_VERSION, SeriesSpec, TrainingSpec
from ktrdr_mcp.research.window import tested_window
from ktrdr_mcp.store.task_row import NewTask
from ktrdr_mcp.strategy import DEFAULT_STRATEGY, Strategy, StrategyLibrary


def admit(
    request: StartTraining, strategies: StrategyLibrary, sources: BarSources, speed: Speed
) -> NewTask:
    """Checks a request against strategies, data and machine, and makes a task of it.

    Args:
        request: what the caller asked for.
        strategies: where strategies come from.
        sources: where bars come from.
        speed: how fast this machine trains.
    Raises:
        KtrdrError: it cannot be trained; nothing has been changed.
    """
    strategy = strategies.read(request.strategy or DEFAULT_STRATEGY)
    config = effective(request.config, strategy)
    device_named(config.device)
    spec = TrainingSpec(
        task_id=request.task_id or new_task_id(),
        series=(
            SeriesSpec(request.symbol, request.timeframe, request.start_date, request.end_date),
        ),
        strategy=strategy,
        config=config,
    )
    prepared = prepare(spec, sources)
    folds = folds_of(prepared, config)
    splits = [prepared.split] * config.seeds + folds
    widths = (len(prepared.view.feature_names), *config.hidden_layers, len(CLASSES))
    networks = len(splits) + (TWINS if config.control else 0)
    memory.check(widths, config.batch_size, len(prepared.bars), networks)
    rows = [len(split.train) for split in splits]
    duration_s = config.epochs * speed.epoch_s(widths, config.batch_size, rows)
    test_start, test_end = tested_window(prepared.dataset, splits)
    return NewTask(
        task_id=spec.task_id,
        symbol=request.symbol,
        timeframe=request.timeframe,
        strategy=strategy.name,
        config=config.model_dump(),
        spec={
            **spec.to_dict(),
            "accepted": accepted(prepared, duration_s, too_short(prepared, config, len(folds))),
            # The bundle keeps it, so that a rebuilt task still knows its request.
            "request": {"hash": request_hash(request), "key": request.idempotency_key},
        },
        spec_version=SPEC_VERSION,
        test_start=test_start,
        test_end=test_end,
        request_hash=request_hash(request),
        similarity_hash=similarity_hash(spec),
        idempotency_key=request.idempotency_key,
        total_epochs=config.epochs,
    )


def accepted(prepared: Prepared, duration_s: float, warnings: Sequence[str]) -> dict[str, Any]:
    """What the acknowledgement says; stored, so that repeating a start repeats the answer."""
    return {
        "data": prepared.used.model_dump(),
        "warnings": [*prepared.warnings, *of_strategy(prepared.view.strategy), *warnings],
        "duration_s": duration_s,
    }


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
    if config.control and not twins_fit(prepared, config):
        warnings.append("The rows are too few for noise twins: control finds no leak here.")
    return warnings


def of_strategy(strategy: Strategy) -> list[str]:
    """A warning of the parts of a strategy without an effect, and what it computes."""
    places = ", ".join(without_effect(strategy))
    ignored = f"These parts of strategy '{strategy.name}' have no effect: {places}."
    return [*([ignored] if places else []), *remarks(strategy)]


def new_task_id() -> str:
    """An id that says when, and that nobody guesses."""
    return f"training_{datetime.now(UTC):%Y%m%d_%H%M%S}_{secrets.token_hex(4)}"


def request_hash(request: StartTraining) -> str:
    """The same for the same body, whatever its ids and whether its nulls are sent or left out."""
    return digest({name: value for name, value in sent(request).items() if value is not None})


def request_hashes(request: StartTraining) -> list[str]:
    """Each hash that this body may have been stored under: some tasks' hashes are of nulls too."""
    return [request_hash(request), digest(sent(request))]


def sent(request: StartTraining) -> dict[str, Any]:
    """A body as it was sent, without its ids."""
    return request.model_dump(
        mode="json", exclude={"task_id", "idempotency_key"}, exclude_unset=True
    )


def similarity_hash(spec: TrainingSpec) -> str:
    """The same for trainings that differ in seed and id alone."""
    raw = spec.to_dict()
    config = {name: value for name, value in raw["config"].items() if name != "seed"}
    return digest([raw["series"], raw["strategy"], config])


def digest(value: Any) -> str:
    """SHA-256 of a value as stable JSON."""
    return hashlib.sha256(durable.json_bytes(value)).hexdigest()
