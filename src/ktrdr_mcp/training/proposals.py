"""What a search tries: points of its space, as settings, from three samplers.

Whatever proposes knows only rows before every test window. The quasi-random and the random sampler
are told nothing; TPE is told the validation score of the first fold and nothing later.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final, Protocol

import numpy as np

from ktrdr_mcp.errors import InvalidRequest
from ktrdr_mcp.schemas.config import Sweep
from ktrdr_mcp.training.candidates import Settings

BATCH: Final = 16  # asked of TPE at once, however many workers there are
DIGITS: Final = 6  # of a proposed number: what is shown is what is trained
TRIES: Final = 4  # draws for each proposal, where a space repeats itself

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
    """What no sampler draws: fixed settings, and all of a space that is tried whole."""
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


def random_points(dimensions: int, seed: int) -> Iterator[Point]:
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
    Source:
        J. Bergstra et al., Algorithms for Hyper-Parameter Optimization, 2011.
    """

    def __init__(self, dimensions: Sequence[Dimension], seed: int) -> None:
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
        self._asked: dict[str, Any] = {}  # trials by their point

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
            self._asked[key_of(point)] = trial
            points.append(point)
        return points

    def tell(self, points: Sequence[Point | None], scores: Sequence[float | None]) -> None:
        """What came of points."""
        failed = self._optuna.trial.TrialState.FAIL
        for point, score in zip(points, scores, strict=True):
            if point is None:
                continue
            trial = self._asked.pop(key_of(point), None)
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


def sampler_of(sweep: Sweep, dimensions: Sequence[Dimension]) -> Sampler:
    """The sampler that a search asks for. Raises InvalidRequest."""
    require_sampler(sweep.sampler)
    if sweep.sampler == "tpe":
        return TpeSampler(dimensions, sweep.seed)
    points = quasi_random_points if sweep.sampler == "qmc" else random_points
    return UntoldSampler(points(len(dimensions), sweep.seed))


@dataclass(frozen=True)
class Proposal:
    """Settings to try, and the point of the space that they were made of, if they were."""

    settings: Settings
    point: Point | None


class Proposals:
    """All that a search tries, batch by batch.

    Args:
        sweep: the search.
        own: the task's own values of the settings that vary, by dotted name.
    """

    def __init__(self, sweep: Sweep, own: Settings) -> None:
        self._dimensions = dimensions_of(sweep)
        self._sampler = sampler_of(sweep, self._dimensions)
        self._sweep, self._own = sweep, own
        self._seen: set[str] = set()
        self._left = sweep.trials
        self._learns = sweep.sampler == "tpe"

    def first(self) -> list[Proposal]:
        """What is tried in any case, and with it everything else if nothing is to be learnt."""
        fixed = [Proposal(each, self._point_of(each)) for each in fixed_settings(self._sweep)][
            : self._left
        ]
        self._seen |= {key_of(self._complete(each.settings)) for each in fixed}
        self._left -= len(fixed)
        size = space_size(self._dimensions)
        if size is not None and size <= self._left + len(fixed):
            return fixed + self._everything()
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
                if key_of(self._complete(settings)) in self._seen:
                    self._sampler.tell([point], [None])
                    continue
                self._seen.add(key_of(self._complete(settings)))
                found.append(Proposal(settings, point))
        self._left = self._left - len(found) if len(found) == count else 0
        return found

    def _everything(self) -> list[Proposal]:
        """Every point of a small space that is not tried yet."""
        self._left = 0
        return [
            Proposal(settings, None)
            for settings in every_settings(self._dimensions)
            if key_of(self._complete(settings)) not in self._seen
        ]

    def _complete(self, settings: Settings) -> dict[str, Any]:
        """Settings with the task's own values of those that vary and are left open."""
        return {**self._own, **settings}

    def _point_of(self, settings: Settings) -> Point | None:
        """Where settings lie in the space; None outside of it."""
        values = self._complete(settings)
        shares = [each.share(values.get(each.name)) for each in self._dimensions]
        return (
            None if any(share is None for share in shares) else [s for s in shares if s is not None]
        )
