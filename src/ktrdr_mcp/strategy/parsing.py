"""From a strategy file's text to a Strategy: KTRDR's v1 form and its shorthand."""

from __future__ import annotations

from typing import Any, Final, cast, get_args

from ktrdr_mcp.errors import InvalidStrategy, shown
from ktrdr_mcp.limits import (
    MAX_DESCRIPTION_CHARACTERS,
    MAX_FUZZY_SETS_PER_INDICATOR,
    MAX_INDICATORS,
)
from ktrdr_mcp.paths import strategy_name
from ktrdr_mcp.strategy import ktrdr_files, settings, yaml_text
from ktrdr_mcp.strategy.form import (
    FUZZY_KINDS,
    OUTPUT_SETS,
    FuzzyInput,
    FuzzyKind,
    FuzzySetSpec,
    IndicatorSpec,
    ParameterValue,
    Source,
    Strategy,
)
from ktrdr_mcp.strategy.section import WORD, Section, joined, number, wrong

SHORTHAND: Final[dict[int, FuzzyKind]] = {3: "triangular", 4: "trapezoidal"}
SECTIONS: Final = (
    "name",
    "description",
    "indicators",
    "fuzzy_sets",
    "model",
    "training",
    "decisions",
    "orchestrator",
)


def parse_strategy(text: str, name: str) -> Strategy:
    """Reads a strategy file.

    Args:
        text: the file's YAML.
        name: the file's stem, which is the strategy's name.
    Returns:
        the strategy; names of indicators and labels are not checked yet.
    Raises:
        InvalidName: the name is not well formed.
        InvalidStrategy: the first thing wrong, its dotted place and what to write instead.
    """
    strategy_name(name)
    try:
        return parsed(yaml_text.load(text), name)
    except InvalidStrategy as error:
        raise InvalidStrategy(
            f"Strategy '{name}': {error.message}",
            hint=error.hint,
            field=joined("strategy", error.field or ""),
        ) from None


def parsed(values: object, name: str) -> Strategy:
    """The strategy from the file's plain values."""
    ignored: list[str] = []
    root = Section(values, "", ignored)
    refuse_other_forms(root)
    notes = ktrdr_files.notes(root.left)
    root.ignore(*ktrdr_files.ROOT_WORDS)
    root.only(*SECTIONS)
    declared = root.text("name", name)
    if declared != name:
        raise wrong("name", f"is {shown(declared)}", f"Write {name}, as the file is called.")
    description = root.text("description")
    if len(description) > MAX_DESCRIPTION_CHARACTERS:
        raise wrong(
            "description",
            f"has {len(description)} characters",
            f"Keep it within {MAX_DESCRIPTION_CHARACTERS}.",
        )
    indicators = all_indicators(root.take("indicators"), ignored)
    inputs = all_fuzzy_inputs(root.section("fuzzy_sets"))
    ignored += unused_places(indicators, inputs)
    model, features = settings.model_settings(root.section("model"))
    settings.check_fields(model)
    training = settings.training_settings(root.section("training"))
    settings.check_fields(training)
    decisions = root.section("decisions")
    output_sets = all_output_sets(decisions)
    return Strategy(
        name=name,
        description=description.strip(),
        indicators=indicators,
        fuzzy_inputs=inputs,
        features=features,
        training=model | training,
        decisions=settings.decision_settings(decisions),
        orchestrator=settings.orchestrator_settings(root.section("orchestrator")),
        output_sets=output_sets,
        ignored=tuple(ignored),
        notes=notes,
    )


def refuse_other_forms(root: Section) -> None:
    """Names KTRDR's later form, instead of complaining about its keys one by one."""
    if root.has("nn_inputs") or isinstance(root.left.get("indicators"), dict):
        raise wrong(
            "indicators",
            "is a mapping, as in KTRDR's v3 files",
            "Use the v1 form: a list of {name, type, params}, and fuzzy_sets by indicator name.",
        )


def all_indicators(values: object, ignored: list[str]) -> tuple[IndicatorSpec, ...]:
    """The section indicators."""
    if not isinstance(values, list) or not 1 <= len(values) <= MAX_INDICATORS:
        raise wrong(
            "indicators",
            f"has {len(values)} entries" if isinstance(values, list) else "is missing or no list",
            f"List 1 to {MAX_INDICATORS}, such as - {{name: rsi, params: {{period: 14}}}}.",
        )
    specs = [
        indicator(Section(value, joined("indicators", index), ignored))
        for index, value in enumerate(values)
    ]
    seen: set[str] = set()
    for index, spec in enumerate(specs):
        if spec.name in seen:
            raise wrong(
                joined("indicators", index, "name"),
                f"is {shown(spec.name)}, as that of another indicator",
                "Give each indicator a name of its own and say its type.",
            )
        seen.add(spec.name)
    return tuple(specs)


def indicator(section: Section) -> IndicatorSpec:
    """One entry of the list: parameters flat, nested under params, or both alike."""
    name = section.text("name")
    kind = section.text("type", name)
    if not WORD.fullmatch(name):
        raise wrong(
            section.at("name"),
            f"is {shown(name)}",
            "Write a word of letters, digits and _; what it computes goes into type.",
        )
    nested = section.section("params")
    values = nested.rest()
    for key, value in section.rest().items():
        if key in values and (type(values[key]), values[key]) != (type(value), value):
            raise wrong(
                section.at(key),
                f"is {shown(value)}, but params says {shown(values[key])}",
                "Say it once.",
            )
        values[key] = value
    options = Section(values, section.place, section.ignored)
    options.words()
    raw = options.flag("raw", False)
    source = cast(Source, options.choice("source", get_args(Source), "close"))
    params = {key: parameter(value, options.at(key)) for key, value in options.rest().items()}
    return IndicatorSpec(name, kind, params, raw, source)


def parameter(value: Any, place: str) -> ParameterValue:
    """A parameter: a number, or a word."""
    if isinstance(value, str):
        return value
    number(value, place)
    return cast(int | float, value)


def all_fuzzy_inputs(section: Section) -> tuple[FuzzyInput, ...]:
    """The section fuzzy_sets."""
    inputs = []
    for name in section.words():
        sets = section.take(name)
        if sets in ("auto", "crisp"):
            inputs.append(FuzzyInput(name, sets))
        else:
            inputs.append(FuzzyInput(name, fuzzy_sets(Section(sets, section.at(name), []))))
    if not inputs:
        raise wrong(
            "fuzzy_sets",
            "is missing or empty",
            "Give each indicator auto, crisp, or sets such as low: [0, 20, 40].",
        )
    return tuple(inputs)


def fuzzy_sets(section: Section) -> tuple[FuzzySetSpec, ...]:
    """The sets of one indicator output."""
    names = section.words()
    if not 1 <= len(names) <= MAX_FUZZY_SETS_PER_INDICATOR:
        raise wrong(
            section.place,
            f"has {len(names)} sets",
            f"Name 1 to {MAX_FUZZY_SETS_PER_INDICATOR} sets, or write auto or crisp.",
        )
    return tuple(fuzzy_set(name, section.take(name), section) for name in names)


def fuzzy_set(name: str, value: object, section: Section) -> FuzzySetSpec:
    """One set: [a, b, c], [a, b, c, d] or {type, parameters}."""
    place = section.at(name)
    if isinstance(value, list):
        kind = SHORTHAND.get(len(value))
        if kind is None:
            raise wrong(
                place, f"has {len(value)} numbers", "Write 3 for a triangle, 4 for a trapezoid."
            )
        numbers = value
    else:
        form = Section(value, place, [])
        kind = cast(FuzzyKind, form.choice("type", FUZZY_KINDS, "triangular"))
        numbers = form.take("parameters")
        form.end()
        if not isinstance(numbers, list):
            raise wrong(joined(place, "parameters"), "is not a list", "Write it as [a, b, c].")
    parameters = tuple(number(entry, place) for entry in numbers)
    try:
        return FuzzySetSpec(name, kind, parameters)
    except ValueError as error:
        raise wrong(place, f"cannot be a set: {error}", "Correct its numbers.") from None


def all_output_sets(decisions: Section) -> tuple[FuzzySetSpec, ...]:
    """The sets of decisions.fuzzy_outputs, over p(buy) - p(sell)."""
    names = tuple(each.name for each in OUTPUT_SETS)
    section = decisions.section("fuzzy_outputs")
    if not section.left:
        return OUTPUT_SETS
    missing = [name for name in names if not section.has(name)]
    if missing:
        raise wrong(section.place, f"lacks {missing[0]}", f"Give all of {', '.join(names)}.")
    sets = tuple(fuzzy_set(name, section.take(name), section) for name in names)
    section.end()
    return sets


def unused_places(
    indicators: tuple[IndicatorSpec, ...], inputs: tuple[FuzzyInput, ...]
) -> list[str]:
    """The places of indicators that no fuzzy input means.

    An input means the indicator of its name, else that of the longest name which it continues
    with an underscore and an output.
    """
    names = sorted((each.name for each in indicators), key=len, reverse=True)
    meant = {
        next((name for name in names if f"{each.indicator_output}_".startswith(f"{name}_")), "")
        for each in inputs
    }
    return [f"indicators.{each.name}" for each in indicators if each.name not in meant]
