"""What a search tries: points of its space, as settings, from three samplers.

Whatever proposes knows only rows before every test window. The quasi-random and the random sampler
are told nothing; TPE is told the validation score of the first fold and nothing later.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, Final, Protocol

import numpy as np

from ktrdr_mcp.errors import InvalidRequest
from ktrdr_mcp.limits import MAX_SWEEP_TRIALS
from ktrdr_mcp.schemas.config import Sweep
from ktrdr_mcp.schemas.space import STRATEGY
from ktrdr_mcp.training.candidates import Settings, value_in, with_settings
from ktrdr_mcp.training.spec import TrainingSpec

BATCH: Final = 16  # asked of TPE at once, however many workers there are
DIGITS: Final = 6  # of a proposed number: what is shown is what is trained
TRIES: Final = 4  # draws for each proposal, where a space repeats itself
SMALL: Final = 8 * MAX_SWEEP_TRIALS  # points of a space that are put in order at once

Point = Sequence[float]  # one number in [0, 1) for each setting that varies


@dataclass(frozen=True)
class Dimension:
    """One setting that varies.

    Args:
        name: of the setting.
        values: to choose from; empty for a range.
        low, high: of a range, both inside it.
        log: whether the range is even in logarithms.
    """

    name: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether a range has whole numbers alone."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def size(self) -> int | None:
        """How many values there are; None where they are uncounted."""
        if self.values:
            return len(self.values)
        return int(self.high - self.low) + 1 if self.whole else None

    def value(self, share: float) -> Any:
        """The value at a share of the way through, from 0 to below 1."""
        if self.values:
            return self.values[min(int(share * len(self.values)), len(self.values) - 1)]
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        if self.log:
            found = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            found = low + share * (high - low)
        if self.whole:
            return int(min(max(round(found), self.low), self.high))
        return min(max(float(f"{found:.{DIGITS}g}"), self.low), self.high)

    def share(self, value: Any) -> float | None:
        """The share at which a value lies; None where it lies outside."""
        if self.values:
            keys = [key_of(each) for each in self.values]
            return (keys.index(key_of(value)) + 0.5) / len(keys) if key_of(value) in keys else None
        if not isinstance(value, int | float) or not self.low <= value <= self.high:
            return None
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        if self.log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    def every_value(self) -> list[Any]:
        """All values of a counted dimension."""
        return list(self.values) or list(range(int(self.low), int(self.high) + 1))


def key_of(settings: Any) -> str:
    """Text that is the same for equal values."""
    return json.dumps(settings, sort_keys=True)


def dimensions_of(sweep: Sweep) -> list[Dimension]:
    """The settings that vary, in the order of their names."""
    return [
        Dimension(name, low=over["low"], high=over["high"], log=over["log"])
        if isinstance(over, Mapping)
        else Dimension(name, tuple(over))
        for name, over in sorted(sweep.vary.items())
    ]


def space_size(dimensions: Sequence[Dimension]) -> int | None:
    """How many different sets of settings a space has; None if they are uncounted."""
    sizes = [each.size for each in dimensions]
    return None if None in sizes else math.prod(size for size in sizes if size is not None)


def settings_at(dimensions: Sequence[Dimension], point: Point) -> dict[str, Any]:
    """The settings at a point of the space."""
    return {each.name: each.value(share) for each, share in zip(dimensions, point, strict=True)}


def fixed_settings(sweep: Sweep) -> list[Settings]:
    """What is tried in any case: the task's own settings, then those to include."""
    return different([{}, *sweep.include])


def named_settings(sweep: Sweep) -> list[Settings]:
    """What no sampler draws: fixed settings, and all of a space that its trials could hold."""
    dimensions, fixed = dimensions_of(sweep), fixed_settings(sweep)
    size = space_size(dimensions)
    whole = size is not None and size <= sweep.trials
    return different([*fixed, *(every_settings(dimensions) if whole else [])])


def every_settings(dimensions: Sequence[Dimension]) -> Iterator[dict[str, Any]]:
    """Every point of a counted space."""
    names = [each.name for each in dimensions]
    for values in itertools.product(*(each.every_value() for each in dimensions)):
        yield dict(zip(names, values, strict=True))


def different(settings: Sequence[Settings]) -> list[Settings]:
    """Sets of settings without repetitions, in their order."""
    return list({key_of(each): each for each in reversed(settings)}.values())[::-1]


def in_random_order(
    dimensions: Sequence[Dimension], size: int, seed: int
) -> Iterator[dict[str, Any]]:
    """The settings at the points of a counted space: at all of a small one, at many of another.

    Those of a large space may repeat themselves, but no search tries more than an eighth of it.

    Args:
        dimensions: of the space.
        size: of the space, in points.
        seed: of the order.
    """
    own = (seed, 1)  # other numbers than the random sampler's, whose points are known already
    if size <= SMALL:
        points = list(every_settings(dimensions))
        yield from (points[place] for place in np.random.default_rng(own).permutation(size))
    else:
        for point in itertools.islice(random_points(len(dimensions), own), SMALL):
            yield settings_at(dimensions, point)


def configuration_of(spec: TrainingSpec, settings: Settings) -> dict[str, Any]:
    """All that a candidate is trained with, its strategy by name.

    What settings leave open is the task's own, or that of another strategy which they name, so only
    this tells whether two sets are one candidate.

    Raises:
        InvalidRequest: settings contradict each other.
    """
    plain = spec.config.model_copy(update={"sweep": None})  # to check it again takes longest
    strategy, config = with_settings(replace(spec, config=plain), settings)
    return {STRATEGY: strategy.name, **config.model_dump()}


def count_settings(spec: TrainingSpec) -> int | None:
    """How many different sets of settings a search could try, those tried in any case among them.

    Args:
        spec: the task.
    Returns:
        None without a search, and where its space alone has more than it tries.
    Raises:
        InvalidRequest: settings contradict each other.
    """
    sweep = spec.config.sweep
    if sweep is None:
        return None
    dimensions = dimensions_of(sweep)
    size = space_size(dimensions)
    if size is None or size > sweep.trials:
        return None
    everything = [*fixed_settings(sweep), *every_settings(dimensions)]
    return len({key_of(configuration_of(spec, each)) for each in everything})


class Sampler(Protocol):
    """What proposes points of a space."""

    def ask(self, count: int) -> list[Point]:
        """The next points."""
        ...

    def tell(self, points: Sequence[Point | None], scores: Sequence[float | None]) -> None:
        """What came of points, of asked ones and of others; None for what cannot be said."""
        ...


class UntoldSampler:
    """A sampler that learns nothing: all of its points are known beforehand.

    Args:
        points: its points, without end.
    """

    def __init__(self, points: Iterator[Point]) -> None:
        self._points = points

    def ask(self, count: int) -> list[Point]:
        """The next points."""
        return list(itertools.islice(self._points, count))

    def tell(self, points: Sequence[Point | None], scores: Sequence[float | None]) -> None:
        """Does nothing."""


def random_points(dimensions: int, seed: int | Sequence[int]) -> Iterator[Point]:
    """Independent points, each coordinate even in [0, 1)."""
    generator = np.random.default_rng(seed)
    while True:
        yield generator.random(dimensions).tolist()


def quasi_random_points(dimensions: int, seed: int) -> Iterator[Point]:
    """A scrambled Sobol sequence, which fills a space more evenly than chance does.

    Source:
        I. Sobol, 1967; A. Owen, Randomly permuted (t,m,s)-nets, 1995; as in SciPy.
    """
    from scipy.stats import qmc

    exponent = 8
    sequence = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(seed))
    yield from sequence.random_base2(exponent).tolist()
    while True:  # as many again as there were, which keeps the balance of the whole
        yield from sequence.random_base2(exponent).tolist()
        exponent += 1


class TpeSampler:
    """Optuna's tree-structured Parzen estimator, in memory.

    Args:
        dimensions: of the space.
        seed: of its draws.
        forgets: whether a point that is asked again takes the place of its earlier trial, as it did
            in searches from before their trials were counted; that trial then counts as a poor one.
    Source:
        J. Bergstra et al., Algorithms for Hyper-Parameter Optimization, 2011.
    """

    def __init__(
        self, dimensions: Sequence[Dimension], seed: int, *, forgets: bool = False
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna = optuna
        self._distributions: dict[str, Any] = {
            each.name: (
                optuna.distributions.CategoricalDistribution(tuple(range(len(each.values))))
                if each.values
                else optuna.distributions.FloatDistribution(0.0, 1.0)
            )
            for each in dimensions
        }
        self._dimensions = list(dimensions)
        sampler = optuna.samplers.TPESampler(seed=seed % 2**32, constant_liar=True)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._asked: dict[str, list[Any]] = {}  # trials by their point, the newest last
        self._forgets = forgets

    def ask(self, count: int) -> list[Point]:
        """The next points."""
        points: list[Point] = []
        for _ in range(count):
            trial = self._study.ask(self._distributions)
            point = [
                (trial.params[each.name] + 0.5) / len(each.values)
                if each.values
                else trial.params[each.name]
                for each in self._dimensions
            ]
            trials = self._asked.setdefault(key_of(point), [])
            if self._forgets:
                trials.clear()
            trials.append(trial)
            points.append(point)
        return points

    def tell(self, points: Sequence[Point | None], scores: Sequence[float | None]) -> None:
        """What came of points."""
        failed = self._optuna.trial.TrialState.FAIL
        for point, score in zip(points, scores, strict=True):
            if point is None:
                continue
            trials = self._asked.get(key_of(point))
            trial = trials.pop() if trials else None
            if trial is None and score is not None:
                self._add(point, score)
            elif trial is not None and score is None:
                self._study.tell(trial, state=failed)
            elif trial is not None:
                self._study.tell(trial, score)

    def _add(self, point: Point, score: float) -> None:
        """Tells of a point that was not asked for."""
        params = {
            each.name: min(int(share * len(each.values)), len(each.values) - 1)
            if each.values
            else share
            for each, share in zip(self._dimensions, point, strict=True)
        }
        self._study.add_trial(
            self._optuna.trial.create_trial(
                params=params, distributions=self._distributions, value=score
            )
        )


def require_sampler(name: str) -> None:
    """Refuses TPE where Optuna is not installed; imports nothing. Raises InvalidRequest."""
    if name == "tpe" and find_spec("optuna") is None:
        raise InvalidRequest(
            "config.sweep.sampler tpe needs Optuna, which is not installed.",
            hint="Install it with pip install 'ktrdr-mcp[search]' where the server runs, or use"
            " sampler qmc, which needs nothing more.",
            field="config.sweep.sampler",
        )


def sampler_of(sweep: Sweep, dimensions: Sequence[Dimension], *, forgets: bool = False) -> Sampler:
    """The sampler that a search asks for.

    Args:
        sweep: the search.
        dimensions: of its space.
        forgets: see `TpeSampler`.
    Raises:
        InvalidRequest: it is not installed.
    """
    require_sampler(sweep.sampler)
    if sweep.sampler == "tpe":
        return TpeSampler(dimensions, sweep.seed, forgets=forgets)
    points = quasi_random_points if sweep.sampler == "qmc" else random_points
    return UntoldSampler(points(len(dimensions), sweep.seed))


@dataclass(frozen=True)
class Proposal:
    """Settings to try, and the point of the space that they were made of, if they were."""

    settings: Settings
    point: Point | None


class Proposals:
    """All that a search tries, batch by batch: no set of settings twice, at most as many as asked.

    Args:
        spec: the task, which has a search; without `trials` its proposals are those of the version
            that accepted it.
        own: the task's own values of the settings that vary, by dotted name.
    """

    def __init__(self, spec: TrainingSpec, own: Settings) -> None:
        assert spec.config.sweep is not None  # noqa: S101
        self._spec, self._sweep, self._own = spec, spec.config.sweep, own
        self._earlier = spec.trials is None
        self._dimensions = dimensions_of(self._sweep)
        self._size = space_size(self._dimensions)
        self._sampler = sampler_of(self._sweep, self._dimensions, forgets=self._earlier)
        self._seen: set[str] = set()
        self._left = self._sweep.trials if spec.trials is None else spec.trials
        self._learns = self._sweep.sampler == "tpe"
        self._others = self._points_beside()

    def first(self) -> list[Proposal]:
        """What is tried in any case, and with it everything else if nothing is to be learnt."""
        given = (
            Proposal(each, self._point_of(each))
            for each in fixed_settings(self._sweep)
            if self._is_new(each) or self._earlier
        )
        fixed = list(itertools.islice(given, self._left))
        self._left -= len(fixed)
        if self._size is not None and self._size <= self._sweep.trials:
            rest = self._everything()
            if self._earlier or len(rest) <= self._left:
                self._left = 0
                return fixed + rest
        return fixed if self._learns else fixed + self._draw(self._left)

    def following(self) -> list[Proposal]:
        """The next batch; empty when all has been tried."""
        return self._draw(min(BATCH, self._left))

    def tell(self, tried: Sequence[Proposal], scores: Sequence[float | None]) -> None:
        """What came of a batch, on validation rows before every test window."""
        self._sampler.tell([each.point for each in tried], scores)

    def _draw(self, count: int) -> list[Proposal]:
        """As many proposals that differ from all before; fewer where the space is spent."""
        found: list[Proposal] = []
        for _ in range(TRIES):
            if len(found) == count:
                break
            for point in self._sampler.ask(count - len(found)):
                settings = settings_at(self._dimensions, point)
                if self._is_new(settings):
                    found.append(Proposal(settings, point))
                else:
                    self._sampler.tell([point], [None])
        if not self._earlier:
            found += self._draw_others(count - len(found))
        goes_on = len(found) == count or (bool(found) and not self._earlier)
        self._left = self._left - len(found) if goes_on else 0
        return found

    def _draw_others(self, count: int) -> list[Proposal]:
        """Proposals in place of those that a sampler which repeats itself did not make."""
        new = (each for each in self._others if self._is_new(each))
        return [Proposal(each, self._point_of(each)) for each in itertools.islice(new, count)]

    def _points_beside(self) -> Iterator[Settings]:
        """What is tried where the sampler repeats itself; nothing if points are uncounted."""
        if self._size is not None:
            yield from in_random_order(self._dimensions, self._size, self._sweep.seed)

    def _everything(self) -> list[Proposal]:
        """Every point of a small space that is not tried yet."""
        points = {self._identity(each): each for each in every_settings(self._dimensions)}
        return [Proposal(each, None) for key, each in points.items() if key not in self._seen]

    def _is_new(self, settings: Settings) -> bool:
        """Whether settings are asked about for the first time."""
        key = self._identity(settings)
        known = key in self._seen
        self._seen.add(key)
        return not known

    def _identity(self, settings: Settings) -> str:
        """Text that is the same for settings that are not tried twice."""
        if self._earlier:
            return key_of(self._complete(settings))
        return key_of(configuration_of(self._spec, settings))

    def _complete(self, settings: Settings) -> dict[str, Any]:
        """Settings with the values of those that vary and are left open."""
        if self._earlier:
            return {**self._own, **settings}
        values = configuration_of(self._spec, settings)
        return {each.name: value_in(values, each.name) for each in self._dimensions} | {**settings}

    def _point_of(self, settings: Settings) -> Point | None:
        """Where settings lie in the space; None outside of it."""
        values = self._complete(settings)
        shares = [each.share(values.get(each.name)) for each in self._dimensions]
        return (
            None if any(share is None for share in shares) else [s for s in shares if s is not None]
        )
