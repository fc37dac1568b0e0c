"""The candidates of a training: sets of settings times seeds, of which validation rows choose."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from ktrdr_mcp.errors import KtrdrError
from ktrdr_mcp.labels import registry as labels
from ktrdr_mcp.schemas.config import EffectiveConfig, Sweep
from ktrdr_mcp.schemas.space import SHARED, STRATEGY
from ktrdr_mcp.strategy.form import Strategy
from ktrdr_mcp.training.config import complete, merge
from ktrdr_mcp.training.spec import TrainingSpec

Settings = Mapping[str, Any]  # by dotted name; empty for the task's own

METHOD: Final = "labels.method"
HORIZON: Final = "labels.horizon"
PER_NETWORK: Final = ("learning_rate", "weight_decay", "dropout_rate", "seed")


@dataclass(frozen=True, eq=False)
class Candidate:
    """One set of settings with one seed.

    Args:
        number: from 1, in the order in which they were proposed; the first has the task's own
            settings and seed.
        settings: those that differ from the task's own.
        strategy: its strategy.
        config: its own configuration, complete, with its seed.
    """

    number: int
    settings: Settings
    strategy: Strategy
    config: EffectiveConfig

    @property
    def seed(self) -> int:
        """Decides initial weights, order of rows and dropout."""
        return self.config.seed

    @cached_property
    def group(self) -> str:
        """The same for candidates that can train as one batch of networks."""
        rest = {
            name: value
            for name, value in self.config.model_dump().items()
            if name not in PER_NETWORK and name != "sweep"
        }
        return json.dumps([self.strategy.name, rest], sort_keys=True)


def own_candidates(spec: TrainingSpec) -> list[Candidate]:
    """The task's own settings, with each of its seeds."""
    return candidates_of(spec, [{}])


def candidates_of(
    spec: TrainingSpec, proposed: Sequence[Settings], earlier: int = 0
) -> list[Candidate]:
    """Sets of settings times the task's seeds.

    Args:
        spec: what to train.
        proposed: the sets, in order.
        earlier: how many candidates there are before these.
    Raises:
        InvalidRequest: settings contradict each other.
    """
    found: list[Candidate] = []
    for settings in proposed:
        strategy, config = with_settings(spec, settings)
        for seed in range(spec.config.seeds):
            own = config.model_copy(update={"seed": spec.config.seed + seed})
            found.append(Candidate(earlier + len(found) + 1, settings, strategy, own))
    return found


def candidate_of(spec: TrainingSpec, number: int, settings: Settings) -> Candidate:
    """One candidate by its number and settings; see `candidates_of`."""
    place, seed = divmod(number - 1, spec.config.seeds)
    return candidates_of(spec, [settings], place * spec.config.seeds)[seed]


def with_settings(spec: TrainingSpec, settings: Settings) -> tuple[Strategy, EffectiveConfig]:
    """A task's strategy and configuration, changed by some settings.

    Args:
        spec: the task; where another of its strategies is chosen, that one's configuration.
        settings: by dotted name.
    Raises:
        InvalidRequest: they contradict each other.
    """
    strategy, base = spec.strategy, spec.config
    if (name := settings.get(STRATEGY, strategy.name)) != strategy.name:
        other = spec.alternatives[name]
        strategy, base = other.strategy, other.config
    if settings.keys() <= {STRATEGY} and base is spec.config:
        return strategy, base
    shared = {name: value for name, value in spec.config.model_dump().items() if name in SHARED}
    return strategy, complete({**merge(base.model_dump(), nest(settings)), **shared})


def nest(settings: Settings) -> dict[str, Any]:
    """Settings by dotted name as objects within objects; the strategy is none of them."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        top, _, inner = name.partition(".")
        if name == STRATEGY:
            continue
        if inner:
            found.setdefault(top, {})[inner] = value
        else:
            found[top] = value
    return found


def candidates_count(spec: TrainingSpec) -> int:
    """How many candidates a task tries at most."""
    asked = spec.config.sweep.trials if spec.config.sweep else 1
    return (spec.trials or asked) * spec.config.seeds


def longest_horizon(spec: TrainingSpec) -> int:
    """How many bars ahead any label of a task may look, by its settings."""
    if spec.horizon is not None:
        return spec.horizon
    own = [spec.config, *(each.config for each in spec.alternatives.values())]
    horizons = [labels.horizon_bars(each.labels) for each in own]
    sweep = spec.config.sweep
    if sweep is not None:  # of a version that looked at horizons alone; its rows stay as they were
        over = sweep.vary.get(HORIZON, [])
        horizons += [over["high"]] if isinstance(over, Mapping) else over
        horizons += [each[HORIZON] for each in sweep.include if HORIZON in each]
    return max(horizons)


def horizon_of_space(spec: TrainingSpec, sweep: Sweep) -> int:
    """How many bars ahead any label that a search may try looks.

    A strategy has labels of its own, and a method that is named without a horizon has its own
    default, so only complete configurations tell.

    Args:
        spec: the task, with its alternatives.
        sweep: its search.
    """
    horizons = [labels.horizon_bars(spec.config.labels)]
    for settings in [*label_settings(sweep), *sweep.include]:
        with contextlib.suppress(KtrdrError):  # such a candidate cannot be
            horizons.append(labels.horizon_bars(with_settings(spec, settings)[1].labels))
    return max(horizons)


def label_settings(sweep: Sweep) -> Iterator[Settings]:
    """Every combination of a space's strategies and methods with its longest horizon."""
    over = sweep.vary.get(HORIZON, [])
    longest = {HORIZON: over["high"] if isinstance(over, Mapping) else max(over)} if over else {}
    named = {name: sweep.vary[name] for name in (STRATEGY, METHOD) if name in sweep.vary}
    for values in itertools.product(*named.values()):
        yield {**longest, **dict(zip(named, values, strict=True))}


def labels_vary(spec: TrainingSpec) -> bool:
    """Whether a task's candidates may have different labels."""
    sweep = spec.config.sweep
    if sweep is None:
        return False
    named = [*sweep.vary, *(name for each in sweep.include for name in each)]
    others = (each.config.labels != spec.config.labels for each in spec.alternatives.values())
    return any(name.startswith("labels.") for name in named) or any(others)


def value_in(config: Mapping[str, object], name: str) -> object:
    """The value of a setting by its dotted name; None where a part of it is off."""
    value: object = config
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
