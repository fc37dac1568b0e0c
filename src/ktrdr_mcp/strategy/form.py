"""A strategy as a value: what the file says, nothing computed yet."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self, cast, get_args

FuzzyKind = Literal["triangular", "trapezoidal", "gaussian"]
Scaling = Literal["standard", "minmax", "none"]
Source = Literal["open", "high", "low", "close"]
Whole = Literal["auto", "crisp", "cyclic"]  # what may stand in the place of explicit sets
ParameterValue = int | float | str

FUZZY_KINDS: Final[tuple[FuzzyKind, ...]] = get_args(FuzzyKind)
PARAMETER_COUNT: Final[Mapping[FuzzyKind, int]] = {"triangular": 3, "trapezoidal": 4, "gaussian": 2}
LARGEST_NUMBER: Final = 1e15  # beyond it, differences of memberships drown in rounding


@dataclass(frozen=True)
class IndicatorSpec:
    """One indicator of the file: its own name, what it is, and its parameters."""

    name: str
    type: str
    params: Mapping[str, ParameterValue] = field(default_factory=dict)
    raw: bool = False  # True: price units are not divided by close
    source: Source = "close"
    timeframe: str | None = None  # of wider bars; None is the series' own
    window: int = 1  # how many bars of it a network sees, this one included


@dataclass(frozen=True)
class FuzzySetSpec:
    """One fuzzy set.

    Args:
        name: of the set.
        kind: of the membership function.
        parameters: triangular (left foot, peak, right foot), trapezoidal (left foot, left
            shoulder, right shoulder, right foot), gaussian (mean, standard deviation).
    Raises:
        ValueError: the parameters do not make such a set; the text says why.
    """

    name: str
    kind: FuzzyKind
    parameters: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuses sets that could not be computed."""
        expected = PARAMETER_COUNT[self.kind]
        if len(self.parameters) != expected:
            raise ValueError(f"{self.kind} takes {expected} numbers, not {len(self.parameters)}")
        if not all(math.isfinite(x) and abs(x) <= LARGEST_NUMBER for x in self.parameters):
            raise ValueError(f"its numbers must be finite and at most {LARGEST_NUMBER:g}")
        if self.kind == "gaussian":
            if self.parameters[1] <= 0:
                raise ValueError("the standard deviation of a gaussian must be above 0")
        elif list(self.parameters) != sorted(self.parameters):
            raise ValueError("its numbers must not decrease")
        elif self.parameters[0] == self.parameters[-1]:
            raise ValueError("it has no width")


@dataclass(frozen=True)
class FuzzyInput:
    """What is made of one indicator output.

    Args:
        indicator_output: its name.
        sets: memberships of these, or of three at quantiles ("auto"); the value itself ("crisp");
            or sine and cosine of its cycle ("cyclic").
    """

    indicator_output: str
    sets: tuple[FuzzySetSpec, ...] | Whole


@dataclass(frozen=True)
class FeatureSettings:
    """How features are scaled before they reach the network."""

    scaling: Scaling = "standard"


# Memberships of p(buy) - p(sell), which lies in [-1, 1]; they sum to 1 there.
OUTPUT_SETS: Final = (
    FuzzySetSpec("bearish", "triangular", (-2.0, -1.0, 0.0)),
    FuzzySetSpec("neutral", "triangular", (-1.0, 0.0, 1.0)),
    FuzzySetSpec("bullish", "triangular", (0.0, 1.0, 2.0)),
)


@dataclass(frozen=True)
class Strategy:
    """A strategy file that is well formed; its names are checked by the registries."""

    name: str
    description: str
    indicators: tuple[IndicatorSpec, ...]
    fuzzy_inputs: tuple[FuzzyInput, ...]
    features: FeatureSettings = FeatureSettings()
    training: Mapping[str, Any] = field(default_factory=dict)  # the part of TrainingConfig it sets
    decisions: Mapping[str, Any] = field(default_factory=dict)  # for KTRDR's decision engine
    orchestrator: Mapping[str, Any] = field(default_factory=dict)  # likewise
    output_sets: tuple[FuzzySetSpec, ...] = OUTPUT_SETS  # of p(buy) - p(sell)
    ignored: tuple[str, ...] = ()  # dotted places that were read and have no effect
    # sentences for whoever uses the file, no part of what it says
    notes: tuple[str, ...] = field(default=(), compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The strategy in JSON's types, without notes; `from_dict` gives an equal one back."""
        values = cast(dict[str, Any], plain(self))
        del values["notes"]
        for spec in values["indicators"]:  # left out where they say nothing: older ones have none
            for name, nothing in (("timeframe", None), ("window", 1)):
                if spec[name] == nothing:
                    del spec[name]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The strategy that `to_dict` wrote.

        Args:
            values: what `to_dict` returned, also after a way through JSON.
        Raises:
            ValueError: something else wrote it.
        """
        try:
            return cls(
                name=values["name"],
                description=values["description"],
                indicators=tuple(IndicatorSpec(**spec) for spec in values["indicators"]),
                fuzzy_inputs=tuple(fuzzy_input(entry) for entry in values["fuzzy_inputs"]),
                features=FeatureSettings(**values["features"]),
                training=dict(values["training"]),
                decisions=dict(values["decisions"]),
                orchestrator=dict(values["orchestrator"]),
                output_sets=tuple(fuzzy_set(entry) for entry in values["output_sets"]),
                ignored=tuple(values["ignored"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("this is not a stored strategy") from error


def plain(value: object) -> object:
    """Dataclasses, tuples and mappings as JSON's objects and arrays."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (entry.name for entry in dataclasses.fields(value))
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [plain(entry) for entry in value]
    return value


def fuzzy_set(values: Mapping[str, Any]) -> FuzzySetSpec:
    """A fuzzy set from its stored form."""
    return FuzzySetSpec(values["name"], values["kind"], tuple(values["parameters"]))


def fuzzy_input(values: Mapping[str, Any]) -> FuzzyInput:
    """A fuzzy input from its stored form."""
    sets = values["sets"]
    if isinstance(sets, str):
        return FuzzyInput(values["indicator_output"], cast(Whole, sets))
    return FuzzyInput(values["indicator_output"], tuple(fuzzy_set(entry) for entry in sets))
