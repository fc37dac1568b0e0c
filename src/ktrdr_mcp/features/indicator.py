"""What an indicator is, and the decorator that makes one known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.limits import MAX_INDICATOR_PERIOD_BARS

Floats = NDArray[np.float64]
Parameters = Mapping[str, Any]  # complete and checked: int, float or str


@dataclass(frozen=True)
class Output:
    """One output of an indicator, float64[n] each, NaN only before its first value."""

    value: Floats  # in the indicator's own units
    feature: Floats  # what becomes a feature unless the strategy says raw


@dataclass(frozen=True)
class Parameter:
    """What a parameter may be.

    Args:
        default: if the strategy does not say it; its type is the parameter's type.
        low: the smallest value.
        high: the largest value.
        words: words that stand for an integer.
    """

    default: int | float
    low: float
    high: float
    words: Mapping[str, int] = field(default_factory=dict)


def period_bars(default: int, low: int = 2) -> Parameter:
    """A parameter that counts bars."""
    return Parameter(default, low, MAX_INDICATOR_PERIOD_BARS)


@dataclass(frozen=True)
class Indicator:
    """A known indicator.

    Args:
        type: the word in a strategy.
        parameters: by name.
        outputs: names; a single one has the indicator's own name in a strategy.
        compute: (bars, source prices, parameters) to one Output per output name.
        warm_up: parameters to the number of bars before the first value.
        takes_source: whether it is computed from one price that the strategy may choose.
        problem: parameters to what is wrong with them together, or None.
        rescaled: whether a feature is something else than the value, so that raw means something.
        group: where a list shows it.
        about: one line on what it says.
        units: of its values.
        inputs: the columns of bars that it reads; "source" is the price that a strategy may choose.
        cycle: after how many units its values begin anew, as on a clock; None if they do not.
    """

    type: str
    parameters: Mapping[str, Parameter]
    outputs: tuple[str, ...]
    compute: Callable[[Bars, Floats, Parameters], tuple[Output, ...]]
    warm_up: Callable[[Parameters], int]
    takes_source: bool = True
    problem: Callable[[Parameters], str | None] = lambda _: None
    rescaled: bool = False
    group: str = ""
    about: str = ""
    units: str = ""
    inputs: tuple[str, ...] = ("source",)
    cycle: float | None = None


INDICATORS: Final[dict[str, Indicator]] = {}
PRICE: Final = "price"  # the units of what is in the symbol's currency
Computed = Output | tuple[Output, ...]
Compute = Callable[[Bars, Floats, Parameters], Computed]


def indicator(  # noqa: PLR0913  # keywords that read as a table
    name: str,
    *,
    group: str = "other",
    units: str = "",
    warm_up: Callable[[Parameters], int] = lambda _: 0,
    problem: Callable[[Parameters], str | None] = lambda _: None,
    rescaled: bool = False,
    outputs: tuple[str, ...] = (),
    inputs: tuple[str, ...] = ("source",),
    cycle: float | None = None,
    **parameters: Parameter,
) -> Callable[[Compute], Compute]:
    """Makes a function of (bars, source prices, parameters) known as an indicator.

    Its docstring's first line is what lists say of it.

    Args:
        name: the word in a strategy.
        group: as Indicator describes it, like what follows.
        units: of its values.
        warm_up: parameters to the number of bars before the first value.
        problem: parameters to what is wrong with them together, or None.
        rescaled: whether the feature is something else than the value.
        outputs: their names, if there are several; the function returns one Output for each.
        inputs: the columns that it reads.
        cycle: after how many units its values begin anew.
        parameters: what it takes.
    """

    def register(function: Compute) -> Compute:
        def compute(bars: Bars, source: Floats, params: Parameters) -> tuple[Output, ...]:
            found = function(bars, source, params)
            return found if isinstance(found, tuple) else (found,)

        INDICATORS[name] = Indicator(
            name,
            parameters,
            outputs or (name,),
            compute,
            warm_up=warm_up,
            takes_source="source" in inputs,
            problem=problem,
            rescaled=rescaled,
            group=group,
            about=(function.__doc__ or name).strip().splitlines()[0],
            units=units,
            inputs=inputs,
            cycle=cycle,
        )
        return function

    return register
