"""What a hypothesis can be made of: every indicator, as lists show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from ktrdr_mcp.errors import NotFound, did_you_mean
from ktrdr_mcp.features import talib_functions
from ktrdr_mcp.features.indicator import INDICATORS, PRICE, Indicator, Parameter, Parameters
from ktrdr_mcp.features.registry import OWN

LISTED: Final = OWN  # they fill INDICATORS


@dataclass(frozen=True)
class ListedIndicator:
    """An indicator, as a list shows it.

    Args:
        type: the word in a strategy.
        group: what it belongs to.
        about: one line.
        inputs: columns of bars; "source" is the price that a strategy may choose.
        parameters: defaults and bounds by name, "14 (2 to 10000)".
        outputs: of several, each is named NAME_output in a strategy.
        units: of its values.
        price_like: whether its values are prices, divided by the close unless raw.
        cyclic: whether its input may be cyclic.
        warm_up_bars: with its defaults.
    """

    type: str
    group: str
    about: str
    inputs: tuple[str, ...]
    parameters: Mapping[str, str]
    outputs: tuple[str, ...]
    units: str
    price_like: bool
    cyclic: bool
    warm_up_bars: int


@cache
def listed_indicators() -> tuple[ListedIndicator, ...]:
    """Every indicator, this program's own first."""
    functions = (talib_functions.function(name) for name in talib_functions.function_names())
    return tuple(listed(each) for each in (*INDICATORS.values(), *functions))


def listed(one: Indicator) -> ListedIndicator:
    """One indicator."""
    defaults: Parameters = {name: each.default for name, each in one.parameters.items()}
    return ListedIndicator(
        type=one.type,
        group=one.group,
        about=one.about,
        inputs=one.inputs,
        parameters={name: bounds(each) for name, each in one.parameters.items()},
        outputs=one.outputs if len(one.outputs) > 1 else (),
        units=one.units,
        price_like=one.units.startswith(PRICE),
        cyclic=one.cycle is not None,
        warm_up_bars=one.warm_up(defaults),
    )


def bounds(parameter: Parameter) -> str:
    """A parameter's default and what it may be."""
    if parameter.words:
        return f"{parameter.default} ({', '.join(parameter.words)})"
    return f"{parameter.default:g} ({parameter.low:g} to {parameter.high:g})"


def groups() -> dict[str, list[str]]:
    """The types of each group, in the order of the list."""
    found: dict[str, list[str]] = {}
    for each in listed_indicators():
        found.setdefault(each.group, []).append(each.type)
    return found


def matching(group: str | None, name: str | None) -> list[ListedIndicator]:
    """The indicators of a group whose type has a text in it; None stands for any.

    Raises:
        NotFound: there is none; the hint says what there is.
    """
    found = [
        each
        for each in listed_indicators()
        if (group is None or group.lower() in each.group)
        and (name is None or name.lower() in each.type.lower())
    ]
    if found:
        exact = [each for each in found if name is not None and each.type.lower() == name.lower()]
        return exact or found
    asked = name if name is not None else group or ""
    known = [each.type for each in listed_indicators()] if name is not None else list(groups())
    raise NotFound(
        f"No indicator has '{asked}' in its {'name' if name is not None else 'group'}."
        f"{did_you_mean(asked, known)}",
        hint=f"Groups: {', '.join(groups())}.",
        field="name" if name is not None else "group",
    )
