"""The registry of labelers: their parameters, the check of a caller's choice, and their use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ktrdr_mcp.data.bars import Bars, Integers
from ktrdr_mcp.errors import InvalidRequest, LimitExceeded, did_you_mean, quote

BUY: Final = 0
HOLD: Final = 1
SELL: Final = 2
UNDEFINED: Final = -1
CLASS_NAMES: Final = ("buy", "hold", "sell")
DEFAULT_METHOD: Final = "triple_barrier"
FIELD: Final = "config.labels"
Classes = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Labels:
    """The class of each bar and how far ahead it looks.

    Args:
        label: int8[n], BUY, HOLD or SELL; UNDEFINED where the data end too early, or begin there.
        end: int64[n], index of the last bar that the label depends on; -1 where undefined.
    """

    label: Classes
    end: Integers


@dataclass(frozen=True)
class Parameter:
    """One parameter of a labeler.

    Args:
        name: as callers write it.
        default: taken if it is left out; its type, int or float, is the parameter's.
        minimum: the smallest value.
        maximum: the largest value.
        unit: what it counts, for messages.
        exclude_minimum: whether the minimum itself is refused.
        exclude_maximum: whether the maximum itself is refused.
    """

    name: str
    default: int | float
    minimum: float
    maximum: float
    unit: str
    exclude_minimum: bool = False
    exclude_maximum: bool = False

    def bounds(self) -> str:
        """The bounds in words."""
        low = "above" if self.exclude_minimum else "at least"
        high = "below" if self.exclude_maximum else "at most"
        return f"{low} {self.minimum:,} and {high} {self.maximum:,} {self.unit}".rstrip()

    def check(self, value: object) -> int | float:
        """A caller's value in the parameter's own type.

        Raises:
            InvalidRequest: it is not a number of that type.
            LimitExceeded: it is out of bounds.
        """
        field = f"{FIELD}.{self.name}"
        whole = isinstance(self.default, int)
        accepted = (int,) if whole else (int, float)
        if type(value) not in accepted or not isinstance(value, int | float) or value != value:
            kind = "a whole number" if whole else "a number"
            raise InvalidRequest(
                f"{field} is {quote(value)}, but it must be {kind}.",
                hint=f"Send {kind} {self.bounds()}.",
                field=field,
            )
        if not self.contains(value):
            raise LimitExceeded(
                f"{field} is {quote(value)}, but it must be {self.bounds()}.",
                hint=f"Send a value {self.bounds()}, for example {self.default}.",
                field=field,
            )
        return int(value) if whole else float(value)

    def contains(self, value: float) -> bool:
        """Whether a number is within the bounds."""
        above = value > self.minimum if self.exclude_minimum else value >= self.minimum
        below = value < self.maximum if self.exclude_maximum else value <= self.maximum
        return above and below


HORIZON: Final = Parameter("horizon", 8, 1, 10_000, "bars")

Make = Callable[..., Labels]


@dataclass(frozen=True)
class Labeler:
    """A registered labeler.

    Args:
        method: its name.
        parameters: its parameter table.
        make: from bars and the parameters, by name, to labels.
        tells_past: whether a label also says what has happened by its own bar, so that a model
            can be right without foreseeing anything.
    """

    method: str
    parameters: tuple[Parameter, ...]
    make: Make
    tells_past: bool = False


LABELERS: Final[dict[str, Labeler]] = {}


def labeler(
    method: str, *parameters: Parameter, tells_past: bool = False
) -> Callable[[Make], Make]:
    """Registers the decorated function as a labeler.

    Args:
        method: the name that callers choose it by.
        parameters: in the order in which they are shown.
        tells_past: see `Labeler`.
    """

    def register(make: Make) -> Make:
        LABELERS[method] = Labeler(method, parameters, make, tells_past)
        return make

    return register


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """A caller's labels configuration with every parameter, checked.

    Args:
        config: "method" and some of its parameters; without a method, triple_barrier.
    Returns:
        "method" and all of its parameters, JSON-able; completing it again changes nothing.
    Raises:
        InvalidRequest: an unknown method or parameter, or a value of the wrong type.
        LimitExceeded: a value out of bounds.
    """
    if not isinstance(config, Mapping):
        raise InvalidRequest(
            f"{FIELD} is {quote(config)}, but it must be an object.",
            hint='Send for example {"method": "triple_barrier", "horizon": 8, "width": 0.85}.',
            field=FIELD,
        )
    chosen = find(config.get("method", DEFAULT_METHOD))
    known = [parameter.name for parameter in chosen.parameters]
    for key in config:
        if key != "method" and key not in known:
            raise unknown_parameter(key, chosen.method, known)
    values = {
        parameter.name: parameter.check(config.get(parameter.name, parameter.default))
        for parameter in chosen.parameters
    }
    return {"method": chosen.method, **values}


def find(method: object) -> Labeler:
    """The labeler of a name. Raises InvalidRequest."""
    if isinstance(method, str) and method in LABELERS:
        return LABELERS[method]
    suggestion = did_you_mean(method[:64], LABELERS) if isinstance(method, str) else ""
    raise InvalidRequest(
        f"{FIELD}.method is {quote(method)}, which is not known.{suggestion}",
        hint=f"Use one of {', '.join(sorted(LABELERS))}.",
        field=f"{FIELD}.method",
    )


def unknown_parameter(key: object, method: str, known: list[str]) -> InvalidRequest:
    """The error for a parameter that the method does not have."""
    text = key[:64] if isinstance(key, str) else quote(key)
    return InvalidRequest(
        f"{quote(key)} is not a parameter of {method}.{did_you_mean(text, known)}",
        hint=f"{method} takes {', '.join(known)}.",
        field=f"{FIELD}.{quote(text).strip(chr(39))}",
    )


def make_labels(bars: Bars, config: Mapping[str, Any]) -> Labels:
    """The labels of all bars.

    Args:
        bars: n bars.
        config: as `complete` takes it.
    Returns:
        n labels and the last bar each depends on.
    Raises:
        InvalidRequest: as `complete`.
    """
    effective = complete(config)
    method = effective.pop("method")
    return LABELERS[method].make(bars, **effective)


def horizon_bars(config: Mapping[str, Any]) -> int:
    """The most bars ahead that a label looks; 1 for a method without a fixed horizon.

    How far a label really looks is `Labels.end`; purging must go by that.

    Args:
        config: as `complete` takes it.
    """
    return int(complete(config).get("horizon", 1))


def tells_past(config: Mapping[str, Any]) -> bool:
    """Whether labels also say what has happened by their own bar (see `Labeler`).

    Args:
        config: as `complete` takes it.
    """
    return find(config.get("method", DEFAULT_METHOD)).tells_past


def undefined_labels(count: int) -> Labels:
    """Labels of which none is defined, to be filled in.

    Args:
        count: how many bars there are.
    """
    label = np.full(count, UNDEFINED, dtype=np.int8)
    return Labels(label, np.full(count, -1, dtype=np.int64))
