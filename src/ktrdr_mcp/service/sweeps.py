"""What a start makes of a search: its strategies, what is wrong with it, and warnings."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from anyio import to_thread

from ktrdr_mcp.errors import InvalidRequest, KtrdrError, NotFound
from ktrdr_mcp.evaluation.backtest import trading_rule
from ktrdr_mcp.evaluation.blocks import block_starts, block_width
from ktrdr_mcp.labels import registry as labels
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.schemas.config import Sweep, TrainingConfig
from ktrdr_mcp.schemas.results import CandidateResult
from ktrdr_mcp.schemas.space import STRATEGY
from ktrdr_mcp.service.families import Families
from ktrdr_mcp.store.task_row import TaskRow
from ktrdr_mcp.store.trials import TrialLog
from ktrdr_mcp.strategy.catalog import StrategyCatalog
from ktrdr_mcp.strategy.form import Strategy
from ktrdr_mcp.training import bundle
from ktrdr_mcp.training.candidates import (
    METHOD,
    Candidate,
    Settings,
    candidates_count,
    candidates_of,
    horizon_of_space,
    labels_vary,
    longest_horizon,
    with_settings,
)
from ktrdr_mcp.training.choice import HORIZONS_PER_BLOCK, MIN_BLOCKS
from ktrdr_mcp.training.config import effective
from ktrdr_mcp.training.learners import MAIN, Splits
from ktrdr_mcp.training.proposals import (
    count_settings,
    dimensions_of,
    fixed_settings,
    key_of,
    named_settings,
    require_sampler,
)
from ktrdr_mcp.training.spec import Alternative, TrainingSpec
from ktrdr_mcp.training.strategies import read_strategy

# settings that may contradict each other, by the beginning of their names
TOGETHER: Final = (("optimizer", "momentum"), ("labels.", STRATEGY), ("lr_scheduler",))
MOST_COMBINATIONS: Final = 256  # of each such family that are looked at
MOST_SENTENCES: Final = 8


def with_search(
    spec: TrainingSpec, request: TrainingConfig, strategies: StrategyCatalog
) -> TrainingSpec:
    """A task's specification with all that its candidates need.

    Args:
        spec: of its own settings.
        request: the configuration that was sent, which goes before that of any strategy.
        strategies: where strategies come from.
    Raises:
        InvalidRequest: with everything that is wrong with the search.
    """
    if candidates_count(spec) == 1:
        return spec
    sweep = spec.config.sweep
    if sweep is None:
        return with_choice(spec, {})
    problems: list[str] = []
    try:
        require_sampler(sweep.sampler)
    except InvalidRequest as error:
        problems.append(f"{error.message} {error.hint}")
    alternatives = read_alternatives(spec, request, strategies, problems)
    spec = with_choice(spec, alternatives)
    problems += contradictions(spec, sweep)
    problems += incomparable(spec)
    if problems:
        told = list(dict.fromkeys(problems))
        left = len(told) - MOST_SENTENCES
        more = [f"There are {left} more problems."] if left > 0 else []
        raise InvalidRequest(
            " ".join([*told[:MOST_SENTENCES], *more]),
            hint="Change config.sweep; nothing was started.",
            field="config.sweep",
        )
    return replace(
        spec,
        horizon=horizon_of_space(spec, sweep),
        trials=min(count_settings(spec) or sweep.trials, sweep.trials),
    )


def read_candidates(workspace: Workspace, task: TaskRow, counts_as: int) -> dict[str, Any]:
    """A search and every candidate of it, without test figures. Blocks.

    Args:
        workspace: where bundles lie.
        task: a completed task whose result is kept.
        counts_as: how many trials it is by now.
    Raises:
        NotFound: it was no search.
    """
    candidates = stored_candidates(workspace, task)
    figures = task.result.sweep if task.result else None
    sweep = {} if figures is None else figures.model_dump(mode="json")
    shown = [each.model_dump(mode="json", exclude={"test"}) for each in candidates]
    return {
        **sweep,
        "counts_as": counts_as,
        "test_of_one": test_address(task, 0 if counts_as > 1 else len(candidates)),
        "candidates": shown,
    }


def stored_candidates(workspace: Workspace, task: TaskRow) -> list[CandidateResult]:
    """Every candidate of a search; arguments as of `read_candidates`. Blocks. Raises NotFound."""
    candidates = bundle.read_manifest(workspace.bundle_directory(task.task_id)).candidates
    if not candidates or task.result is None or task.result.sweep is None:
        raise NotFound(
            f"Task {task.task_id} was no search: it has one set of settings.",
            hint="Start one with config.sweep; get_model_performance has this task's figures.",
            field="task_id",
        )
    return candidates


def test_address(task: TaskRow, adds: int) -> str:
    """Where a candidate's test figures are, and how many trials reading one adds."""
    return f"sweep://{task.task_id}/NUMBER; reading one adds {adds} trials to these bars"


def find_candidate(candidates: Sequence[CandidateResult], number: int) -> CandidateResult:
    """The candidate of this number. Raises NotFound."""
    for each in candidates:
        if each.number == number:
            return each
    raise NotFound(
        f"There is no candidate {number}: the search has {len(candidates)}, from 1.",
        hint="sweep://TASK_ID lists them with settings and validation scores.",
        field="candidate",
    )


OF_TASKS: Final = {"seeds", "sweep", "walk_forward", "control", "device"}  # not of a candidate
# how long a candidate trains and which rows judge it: with others it is the same candidate still
OF_LENGTH: Final = {"epochs", "early_stopping", "validation_split", "test_split"}


async def count_set(
    workspace: Workspace, trial_log: TrialLog, families: Families, row: TaskRow
) -> list[str]:
    """Counts all candidates of an earlier task where a start repeats some of them.

    Which ones were worth repeating is known from what all of them came to.

    Args:
        workspace: where bundles lie.
        trial_log: where they are counted.
        families: which trials have bars in common.
        row: the task that starts, or was started.
    Returns:
        sentences for the reply.
    """
    if row.test_start is None:
        return []
    related = await families.before_here(row.task_id)
    sets = await trial_log.sets_before(row.task_id, related)
    if not sets:
        return []
    own = TrainingSpec.from_dict(row.spec)
    left = await to_thread.run_sync(named_candidates, own)
    told = []
    for earlier in sets:
        found = await to_thread.run_sync(repeat, workspace, earlier, own, left)
        if found is None:
            continue
        left = [each for each in left if each.number not in found.own]
        await trial_log.add_trials(earlier.task_id, found.of - 1, row.task_id)
        mine = any(
            each.set_id == earlier.task_id and each.started == row.task_id
            for each in await trial_log.added_trials(row.task_id)
        )
        told.append(found.sentence(earlier.task_id, mine, alone=candidates_count(own) == 1))
        if not left:
            break
    return told


@dataclass(frozen=True)
class Repeated:
    """Candidates of an earlier task that another one tries again.

    Args:
        numbers: of the earlier ones.
        of: how many candidates the earlier task had.
        own: numbers of the same in the other task.
    """

    numbers: Sequence[int]
    of: int
    own: Collection[int]

    def sentence(self, task_id: str, counts: bool, alone: bool) -> str:
        """What a reply says of it.

        Args:
            task_id: of the earlier task.
            counts: whether the start that is answered made trials of them.
            alone: whether it has one candidate.
        """
        if alone:
            counted = f"so this start counts as {self.of} trials"
            what = f"This is candidate {self.numbers[0]} of {self.of}"
        else:
            counted = f"which adds {self.of - 1} trial{'s' if self.of > 2 else ''}"
            what = f"This repeats {len(self.numbers)} of {self.of} candidates"
        return (
            f"{what} in task {task_id}, {counted if counts else 'which count as trials already'}."
        )


def named_candidates(spec: TrainingSpec) -> list[Candidate]:
    """The candidates that a start names: all but what a sampler draws, which nobody picks."""
    sweep = spec.config.sweep
    found: list[Candidate] = []
    for settings in [{}] if sweep is None else named_settings(sweep):
        with contextlib.suppress(KtrdrError):  # such a candidate cannot be
            found += candidates_of(spec, [settings], len(found))
    return found


def repeat(
    workspace: Workspace, earlier: TaskRow, own: TrainingSpec, named: Sequence[Candidate]
) -> Repeated | None:
    """What a task repeats of an earlier one, if it picks some of its candidates. Blocks.

    Args:
        workspace: where bundles lie; without the earlier one, only its own settings are known.
        earlier: a completed task with several candidates.
        own: the other task.
        named: its candidates that are looked for.
    """
    spec = TrainingSpec.from_dict(earlier.spec)
    tried: list[Settings] = [{}]
    if spec.config.sweep is not None:
        try:
            stored = bundle.read_manifest(workspace.bundle_directory(earlier.task_id)).candidates
        except KtrdrError:  # removed to free space, or damaged
            stored = None
        tried = list({key_of(each.settings): each.settings for each in stored or []}.values())
        tried = tried or [{}]
    figures = earlier.result.sweep if earlier.result else None
    of = (1 if figures is None else figures.trials) * spec.config.seeds
    pairs = pair_alike(named, candidates_of(spec, tried))
    if not pairs or len(pairs) == of or not picks(own, spec, pairs):
        return None
    numbers = sorted(old.number for _, old in pairs)
    return Repeated(numbers, of, {new.number for new, _ in pairs})


Pairs = Sequence[tuple[Candidate, Candidate]]


def pair_alike(named: Sequence[Candidate], tried: Sequence[Candidate]) -> Pairs:
    """Each named candidate with the tried one that it repeats, equal ones before similar ones."""
    found: dict[int, tuple[Candidate, Candidate]] = {}  # by number of the named one
    for aside in (OF_TASKS, OF_TASKS | OF_LENGTH):
        taken = {old.number for _, old in found.values()}
        known = {identity(each, aside): each for each in tried if each.number not in taken}
        for each in named:
            if each.number not in found and (old := known.pop(identity(each, aside), None)):
                found[each.number] = each, old
    return list(found.values())


def identity(candidate: Candidate, aside: Collection[str]) -> str:
    """Text that is the same for equal candidates, some settings left aside."""
    config = candidate.config.model_dump(exclude=set(aside))
    return key_of([candidate.strategy.to_dict(), config])


def picks(own: TrainingSpec, earlier: TrainingSpec, pairs: Pairs) -> bool:
    """Whether a task that repeats some of an earlier one's candidates has picked them.

    A search that begins where an earlier one began, or names all that it named beforehand, has not.

    Args:
        own: the task.
        earlier: the other.
        pairs: its candidates with those that they repeat.
    """
    if own.config.sweep is None:
        return True
    if not any(new.settings or old.settings for new, old in pairs):
        return own.config.seed != earlier.config.seed
    fixed = fixed_settings(earlier.config.sweep) if earlier.config.sweep else [{}]
    beforehand = {(key_of(each), seed) for each in fixed for seed in seeds_of(earlier)}
    return {(key_of(old.settings), old.seed) for _, old in pairs} != beforehand


def seeds_of(spec: TrainingSpec) -> range:
    """The seeds that each of a task's sets of settings is trained with."""
    return range(spec.config.seed, spec.config.seed + spec.config.seeds)


def with_choice(spec: TrainingSpec, alternatives: Mapping[str, Alternative]) -> TrainingSpec:
    """The specification of a task whose folds choose among candidates."""
    return replace(
        spec,
        choice="nested",
        alternatives=dict(alternatives),
        spread=spec.config.sweep is not None,
    )


def read_alternatives(
    spec: TrainingSpec, request: TrainingConfig, strategies: StrategyCatalog, problems: list[str]
) -> dict[str, Alternative]:
    """The other strategies of a search; adds what is wrong with them to the problems."""
    found: dict[str, Alternative] = {}
    for name in strategy_names(spec.config.sweep):
        if name == spec.strategy.name:
            continue
        try:
            strategy = read_strategy(strategies, name)
            if strategy.name != name:
                problems.append(f"Strategy '{name}' is called '{strategy.name}'.")
                continue
            found[name] = Alternative(strategy, effective(request, strategy))
        except KtrdrError as error:
            problems.append(f"config.sweep, strategy '{name}': {error.message} {error.hint}")
    return dict(sorted(found.items()))


def strategy_names(sweep: Sweep | None) -> list[str]:
    """The strategies that a search names."""
    if sweep is None:
        return []
    over = sweep.vary.get(STRATEGY, [])
    names = [*over, *(each[STRATEGY] for each in sweep.include if STRATEGY in each)]
    return list(dict.fromkeys(names))


def contradictions(spec: TrainingSpec, sweep: Sweep) -> Iterator[str]:
    """What settings of a search cannot be, alone or with those that they touch."""
    known = {spec.strategy.name, *spec.alternatives}
    for settings in corners(sweep):
        if settings.get(STRATEGY, spec.strategy.name) not in known:
            continue
        try:
            with_settings(spec, settings)
        except KtrdrError as error:
            shown = ", ".join(f"{name} {value}" for name, value in settings.items())
            yield f"config.sweep with {shown}: {error.message}"


def corners(sweep: Sweep) -> list[Settings]:
    """Settings at the ends of a space, each by itself and those that touch each other together."""
    ends: dict[str, list[Any]] = {
        each.name: list(each.values) or [each.low, each.high] for each in dimensions_of(sweep)
    }
    found: list[Settings] = [{name: value} for name, values in ends.items() for value in values]
    for family in TOGETHER:
        names = [name for name in ends if name.startswith(family)]
        combined = itertools.product(*(ends[name] for name in names))
        if len(names) > 1:
            found += [
                dict(zip(names, values, strict=True))
                for values in itertools.islice(combined, MOST_COMBINATIONS)
            ]
    return list({key_of(each): each for each in [*found, *sweep.include]}.values())


def incomparable(spec: TrainingSpec) -> Iterator[str]:
    """Why candidates of a search cannot be set beside one another."""
    methods = {each.labels["method"] for each in configurations(spec)}
    if (sweep := spec.config.sweep) is not None:
        methods |= {*sweep.vary.get(METHOD, []), *(each.get(METHOD) for each in sweep.include)}
    endless = [
        name
        for name in sorted(methods & set(labels.LABELERS))
        if labels.tells_past({"method": name}) or "horizon" not in labels.complete({"method": name})
    ]
    if endless and labels_vary(spec):
        yield (
            f"Labels of {' and '.join(endless)} look ahead without a fixed horizon and tell the"
            " past, so they cannot compete with others: vary other settings than labels."
        )
    own = rule_of(spec.strategy)
    for name, other in spec.alternatives.items():
        if rule_of(other.strategy) != own:
            yield (
                f"Strategies '{spec.strategy.name}' and '{name}' trade by other costs, sides or"
                " filters (decisions), so their results cannot be pooled."
            )


def configurations(spec: TrainingSpec) -> list[Any]:
    """The configuration of every strategy of a search."""
    return [spec.config, *(each.config for each in spec.alternatives.values())]


def rule_of(strategy: Strategy) -> tuple[float, bool, float]:
    """What of a strategy's trading rule all folds must share."""
    rule = trading_rule(strategy, 1)
    return rule.cost_bps, rule.long_only, rule.min_separation_hours


def search_warnings(spec: TrainingSpec, splits: Splits) -> list[str]:
    """What a caller should know before a search begins.

    Args:
        spec: the task.
        splits: the rows that all candidates share.
    """
    found = [*space_warnings(spec)]
    if candidates_count(spec) > 1 and (undecided := undecided_choices(spec, splits)):
        found.append(
            f"{undecided} the first candidate, with your own settings and seed: there are fewer"
            f" than {MIN_BLOCKS} blocks of validation by then. A longer range or a shorter horizon"
            " gives more."
        )
    return found


def space_warnings(spec: TrainingSpec) -> Iterator[str]:
    """Where a search cannot try as many settings as were asked, or leaves some of a small space."""
    sweep, count = spec.config.sweep, count_settings(spec)
    if sweep is None or count is None or count == sweep.trials:
        return
    sets = f"{count} different sets of settings, with your own and include"
    if count < sweep.trials:
        yield f"Only {sets}, can be tried, not {sweep.trials}."
    else:
        yield f"Of {sets}, {sweep.trials} are tried; trials {count} tries all."


def undecided_choices(spec: TrainingSpec, splits: Splits) -> str:
    """The choices with too few blocks of validation, as subject and verb; empty without any."""
    width = HORIZONS_PER_BLOCK * longest_horizon(spec)
    blocks = [
        len(block_starts(np.unique(splits.timeline.at[rows]), block_width(len(rows), width)))
        for rows in (each.validation for each in (*splits.folds, splits.main))
    ]
    few = [
        sum(blocks[number] for number in splits.before(split)) < MIN_BLOCKS
        for split in (*range(len(splits.folds)), MAIN)
    ]
    folds, of, named = sum(few[:-1]), len(splits.folds), []
    if folds:
        first = f"the first {f'{folds} ' if folds > 1 else ''}of {of} folds"
        named.append(first if folds < of else f"all {of} folds")
    if few[-1]:
        named.append("the kept network")
    subject, verb = " and ".join(named), "takes" if len(named) == 1 and folds < 2 else "take"
    return f"{subject[0].upper()}{subject[1:]} {verb}" if named else ""
