"""The known indicators: as a strategy names them, checked, and as lists show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from ktrdr_mcp.errors import InvalidStrategy, NotFound, did_you_mean, quote
from ktrdr_mcp.features import indicators, talib_functions
from ktrdr_mcp.features.fuzzy import AUTO_SET_NAMES, CYCLIC_NAMES
from ktrdr_mcp.features.indicator import INDICATORS, PRICE, Indicator, Parameter, Parameters
from ktrdr_mcp.strategy.form import FuzzyInput, IndicatorSpec, ParameterValue, Strategy

OWN: Final = indicators  # importing it fills INDICATORS


@dataclass(frozen=True)
class Resolved:
    """An indicator of a strategy with its parameters complete and checked."""

    spec: IndicatorSpec
    indicator: Indicator
    params: Parameters
    outputs: tuple[str, ...]  # as the strategy names them

    @property
    def warm_up_bars(self) -> int:
        """Bars before the first value."""
        return self.indicator.warm_up(self.params)


def resolve(spec: IndicatorSpec) -> Resolved:
    """The known indicator that an entry of a strategy means.

    Raises:
        InvalidStrategy: the type or a parameter is not known, or a value is not possible.
    """
    found = find(spec)
    unknown = [key for key in spec.params if key not in found.parameters]
    if unknown:
        known = ", ".join(found.parameters) or "none"
        raise invalid(
            spec,
            f"has the unknown parameter {quote(unknown[0])}."
            f"{did_you_mean(unknown[0], found.parameters)}",
            f"Parameters of {spec.type}: {known}.",
        )
    params = {
        key: check_value(spec, key, allowed, spec.params.get(key, allowed.default))
        for key, allowed in found.parameters.items()
    }
    problem = found.problem(params)
    if problem:
        raise invalid(spec, f"cannot be computed: {problem}.", "Change its parameters.")
    if spec.source != "close" and not found.takes_source:
        raise invalid(spec, f"has source {spec.source}, which has no effect.", "Leave source out.")
    return Resolved(spec, found, params, output_names(spec, found))


def find(spec: IndicatorSpec) -> Indicator:
    """The indicator of a type. Raises InvalidStrategy with the nearest one."""
    if spec.type in INDICATORS:
        return INDICATORS[spec.type]
    name = spec.type.removeprefix(talib_functions.PREFIX)
    if spec.type != name and name in talib_functions.function_names():
        return talib_functions.function(name)
    if spec.type != name and name in talib_functions.REFUSED:
        reason = talib_functions.REFUSED[name]
        raise invalid(spec, f"cannot be {spec.type}: {reason}.", "Choose another indicator.")
    raise invalid(
        spec,
        f"has the unknown type {quote(spec.type)}.{nearest_type(spec.type)}",
        f"Types: {', '.join(INDICATORS)}, and TA-Lib's functions as talib.NAME (talib.ATR); or"
        " leave it out, with its fuzzy sets.",
    )


def nearest_type(text: str) -> str:
    """The nearest known type of an unknown one, if there is one near."""
    words = {name: name for name in INDICATORS}
    functions = {
        name: f"{talib_functions.PREFIX}{name}" for name in talib_functions.function_names()
    }
    base = text.removeprefix(talib_functions.PREFIX)
    if base.split("_")[0] in words:  # rsi_14 without a type
        return f" Did you mean type '{base.split('_')[0]}' with a period?"
    if base.upper() in functions:
        return f" Did you mean '{functions[base.upper()]}'?"
    if base == text:
        return did_you_mean(text, words) or did_you_mean(f"talib.{text}", functions.values())
    return did_you_mean(text, functions.values())


def check_value(
    spec: IndicatorSpec, key: str, allowed: Parameter, value: ParameterValue
) -> int | float:
    """A parameter's value, of its type and within its bounds. Raises InvalidStrategy."""
    if isinstance(value, str):
        if value.upper() in allowed.words:
            return allowed.words[value.upper()]
        words = f" or one of {', '.join(allowed.words)}" if allowed.words else ""
        raise invalid(spec, f"has {key} {quote(value)}.", f"Write a number{words}.")
    whole = isinstance(allowed.default, int)
    if whole and not isinstance(value, int):
        raise invalid(spec, f"has {key} {value:g}.", "Write a whole number.")
    if not allowed.low <= value <= allowed.high:
        raise invalid(
            spec,
            f"has {key} {value:g}.",
            f"Write a number from {allowed.low:g} to {allowed.high:g}.",
        )
    return value if whole else float(value)


def output_names(spec: IndicatorSpec, found: Indicator) -> tuple[str, ...]:
    """What a strategy calls the outputs of one of its indicators."""
    if len(found.outputs) == 1:
        return (spec.name,)
    return tuple(f"{spec.name}_{output}" for output in found.outputs)


def invalid(spec: IndicatorSpec, problem: str, hint: str) -> InvalidStrategy:
    """The error for one indicator of a strategy."""
    return InvalidStrategy(
        f"Indicator '{spec.name}' {problem}", hint=hint, field=f"strategy.indicators.{spec.name}"
    )


def check(strategy: Strategy) -> tuple[Resolved, ...]:
    """Checks a strategy's names, parameters and features.

    Returns:
        its indicators, resolved, in order.
    Raises:
        InvalidStrategy: something is not known, is not possible, or two things share a name.
    """
    for problem in problems(strategy):
        raise problem
    return tuple(resolve(spec) for spec in strategy.indicators)


def problems(strategy: Strategy, unread: frozenset[str] = frozenset()) -> list[InvalidStrategy]:
    """Everything that is wrong with a strategy's names, parameters and features.

    Args:
        strategy: as far as it could be read.
        unread: names of further indicators, whose outputs are not known.
    """
    found: list[InvalidStrategy] = []
    outputs: list[str] = []
    cycles: dict[str, float | None] = {}
    unresolved = set(unread)
    for spec in strategy.indicators:
        try:
            resolved = resolve(spec)
        except InvalidStrategy as error:
            found.append(error)
            unresolved.add(spec.name)
        else:
            outputs += resolved.outputs
            cycles |= dict.fromkeys(resolved.outputs, resolved.indicator.cycle)
    found += find_repeated(outputs, "indicator output")
    for each in strategy.fuzzy_inputs:
        of_unresolved = any(f"{each.indicator_output}_".startswith(f"{n}_") for n in unresolved)
        if each.indicator_output not in outputs and not of_unresolved:
            found.append(unknown_output(strategy, each, outputs))
        if each.sets == "cyclic" and cycles.get(each.indicator_output, 0) is None:
            found.append(without_cycle(each))
    features = [name for each in strategy.fuzzy_inputs for name in features_of(each)]
    return [*found, *find_repeated(features, "feature")]


def find_used_indicators(strategy: Strategy) -> list[Resolved]:
    """The indicators that features are made of."""
    named = {each.indicator_output for each in strategy.fuzzy_inputs}
    return [each for each in check(strategy) if named.intersection(each.outputs)]


def features_of(each: FuzzyInput) -> tuple[str, ...]:
    """The names of the features that one fuzzy input makes."""
    if each.sets == "crisp":
        return (each.indicator_output,)
    fixed = {"auto": AUTO_SET_NAMES, "cyclic": CYCLIC_NAMES}
    names = fixed[each.sets] if isinstance(each.sets, str) else tuple(one.name for one in each.sets)
    return tuple(f"{each.indicator_output}_{name}" for name in names)


def find_repeated(names: list[str], what: str) -> list[InvalidStrategy]:
    """An error for each name that stands twice."""
    twice = dict.fromkeys(name for index, name in enumerate(names) if name in names[:index])
    return [
        InvalidStrategy(
            f"Two of the strategy's {what}s are called {quote(name)}.",
            hint="Rename an indicator.",
            field="strategy.indicators",
        )
        for name in twice
    ]


def cycle_of(strategy: Strategy, output: str) -> float:
    """After how many units the values of a cyclic output begin anew."""
    found = next(each for each in check(strategy) if output in each.outputs)
    return found.indicator.cycle or 1


def without_cycle(each: FuzzyInput) -> InvalidStrategy:
    """The error for a cyclic input that does not come round."""
    cyclic = ", ".join(name for name, known in INDICATORS.items() if known.cycle is not None)
    return InvalidStrategy(
        f"fuzzy_sets.{each.indicator_output} is cyclic, but its values do not come round.",
        hint=f"Write auto, crisp or sets; cyclic is for {cyclic}.",
        field=f"strategy.fuzzy_sets.{each.indicator_output}",
    )


def unknown_output(strategy: Strategy, each: FuzzyInput, outputs: list[str]) -> InvalidStrategy:
    """The error for fuzzy sets of something that no indicator puts out."""
    name = each.indicator_output
    of_it = [output for output in outputs if output.startswith(f"{name}_")]
    nearest = f" Did you mean '{of_it[0]}'?" if of_it else did_you_mean(name, outputs)
    return InvalidStrategy(
        f"fuzzy_sets names {quote(name)}, which no indicator of strategy '{strategy.name}' "
        f"puts out.{nearest}",
        hint=f"Outputs: {', '.join(outputs[:40])}.",
        field="strategy.fuzzy_sets",
    )


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
def list_indicators() -> tuple[ListedIndicator, ...]:
    """Every indicator, this program's own first."""
    functions = (talib_functions.function(name) for name in talib_functions.function_names())
    return tuple(describe_indicator(each) for each in (*INDICATORS.values(), *functions))


def describe_indicator(one: Indicator) -> ListedIndicator:
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
    for each in list_indicators():
        found.setdefault(each.group, []).append(each.type)
    return found


def matching(group: str | None, name: str | None) -> list[ListedIndicator]:
    """The indicators of a group whose type has a text in it; None stands for any.

    Raises:
        NotFound: there is none; the hint says what there is.
    """
    found = [
        each
        for each in list_indicators()
        if (group is None or group.lower() in each.group)
        and (name is None or name.lower() in each.type.lower())
    ]
    if found:
        exact = [each for each in found if name is not None and each.type.lower() == name.lower()]
        return exact or found
    asked = name if name is not None else group or ""
    known = [each.type for each in list_indicators()] if name is not None else list(groups())
    raise NotFound(
        f"No indicator has '{asked}' in its {'name' if name is not None else 'group'}."
        f"{did_you_mean(asked, known)}",
        hint=f"Groups: {', '.join(groups())}.",
        field="name" if name is not None else "group",
    )
