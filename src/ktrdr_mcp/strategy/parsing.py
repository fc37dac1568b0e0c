"""Parses a strategy file: first every dialect of other programs, then this program's form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

from pydantic import ValidationError

from ktrdr_mcp.errors import InvalidStrategy, quote
from ktrdr_mcp.limits import (
    MAX_DESCRIPTION_CHARACTERS,
    MAX_FUZZY_SETS_PER_INDICATOR,
    MAX_INDICATOR_PERIOD_BARS,
    MAX_INDICATORS,
    MAX_SPLIT_SHARE,
    MAX_WINDOW_BARS,
)
from ktrdr_mcp.paths import TIMEFRAME_MINUTES, strategy_name
from ktrdr_mcp.schemas.config import TrainingConfig
from ktrdr_mcp.schemas.parsing import explain
from ktrdr_mcp.strategy.form import (
    FUZZY_KINDS,
    OUTPUT_SETS,
    FeatureSettings,
    FuzzyInput,
    FuzzyKind,
    FuzzySetSpec,
    IndicatorSpec,
    ParameterValue,
    Source,
    Strategy,
    Whole,
)
from ktrdr_mcp.strategy.sections import (
    LEFT_OUT,
    WORD,
    Report,
    Section,
    Values,
    dialects,
    join_place,
    number,
    wrong,
)
from ktrdr_mcp.strategy.yaml_text import load

MODEL_TYPES: Final = get_args(TrainingConfig.model_fields["model_type"].annotation)
ARCHITECTURE: Final = {
    "hidden_layers": "hidden_layers",
    "activation": "activation",
    "dropout": "dropout_rate",
}
MODEL_TRAINING: Final = (
    "learning_rate",
    "batch_size",
    "epochs",
    "optimizer",
    "weight_decay",
    "momentum",
    "gradient_clip",
    "lr_scheduler",
    "early_stopping",
    "class_weights",
)
PLACES: Final = {  # of the contract's names, where they are not in model.training
    "model_type": "model.type",
    "hidden_layers": "model.architecture.hidden_layers",
    "activation": "model.architecture.activation",
    "dropout_rate": "model.architecture.dropout",
    "labels": "training.labels",
    "validation_split": "training.data_split.validation",
    "test_split": "training.data_split.test",
}
SHARE_SUM_TOLERANCE: Final = 1e-6


def model_settings(model: Section) -> tuple[Values, FeatureSettings]:
    """The section model.

    Args:
        model: the section; emptied.
    Returns:
        the part of TrainingConfig that it sets, and how features are scaled.
    """
    config: Values = {}
    if model.has("type"):
        config["model_type"] = model.choice("type", MODEL_TYPES, MODEL_TYPES[0])
    architecture = model.section("architecture")
    architecture.choice("output_activation", ("softmax",), "softmax")
    take_into(config, architecture, ARCHITECTURE)
    training = model.section("training")
    take_into(config, training, dict(zip(MODEL_TRAINING, MODEL_TRAINING, strict=True)))
    features = feature_settings(model.section("features"))
    model.end()
    return config, features


def take_into(config: Values, section: Section, names: dict[str, str]) -> None:
    """Moves a section's keys into the configuration under the contract's names."""
    for key, name in names.items():
        present = section.has(key)
        value = section.take(key)
        if present:
            config[name] = value
    section.end()


def feature_settings(section: Section) -> FeatureSettings:
    """The section model.features."""
    if section.flag("include_raw_indicators", False):
        section.wrong(
            "include_raw_indicators",
            "is true, which is not available",
            "Leave it out; list the indicator under indicators, with 'crisp' under fuzzy_sets.",
        )
    scaled = section.flag("scale_features", True)
    method = section.choice("scaling_method", ("standard", "minmax"), "standard")
    section.end()
    if not scaled:
        return FeatureSettings("none")
    return FeatureSettings("minmax" if method == "minmax" else "standard")


def training_settings(training: Section) -> Values:
    """The section training: labels and shares.

    Args:
        training: the section; emptied.
    Returns:
        the part of TrainingConfig that it sets.
    """
    config: Values = {}
    labels = training.section("labels")
    if labels.left:
        config["labels"] = labels.rest()
    split = training.section("data_split")
    with training.report.collecting():
        config |= shares(split)
    training.end()
    return config


def shares(split: Section) -> dict[str, float]:
    """The section training.data_split: each share given, or left over by the others."""
    given = {
        key: number(split.take(key), split.at(key)) if split.has(key) else split.take(key)
        for key in ("train", "validation", "test")
    }
    split.end()
    train, validation, test = given.values()
    if train is not None and validation is not None:
        if test is not None and abs(1 - train - validation - test) > SHARE_SUM_TOLERANCE:
            raise wrong(split.place, "does not sum to 1", "Make the three shares sum to 1.")
        test = compute_rest(split.place, "test", train + validation)
    elif train is not None and test is not None:
        validation = compute_rest(split.place, "validation", train + test)
    elif train is not None:
        raise wrong(split.place, "has only train", "Say validation and test.")
    named = {"validation_split": validation, "test_split": test}
    return {name: share for name, share in named.items() if share is not None}


def compute_rest(place: str, name: str, others: float) -> float:
    """The share that two others leave. Raises InvalidStrategy if it is none."""
    share = round(1 - others, 9)
    if 0 < share < MAX_SPLIT_SHARE:
        return share
    amount = f"{share:g} of the rows" if share > 0 else "no rows"
    raise wrong(
        place,
        f"leaves {amount} for {name}",
        f"Make the shares sum to 1, with {name} above 0 and below {MAX_SPLIT_SHARE:g}.",
    )


def check_fields(config: Values, report: Report) -> None:
    """Reports single values that no training accepts, with their places, and takes them out.

    How values go together is judged later, when the request's own are in place.

    Args:
        config: the part of TrainingConfig that a file sets.
        report: of the file.
    """
    config_at_fault: set[str] = set()
    try:
        TrainingConfig.model_validate(config)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if not detail["loc"] or detail["loc"][0] not in config:
                continue
            found = explain(TrainingConfig, [detail])
            name, *inside = (found.field or "").split(".")
            if name == "labels":
                inside = inside[:1]  # what follows is which type was tried
            place = join_place(PLACES.get(name, f"model.training.{name}"), *inside)
            if not any(place == each.field for each in report.problems):
                message = f"{place}: {found.message}"
                report.problems.append(InvalidStrategy(message, hint=found.hint, field=place))
            config_at_fault.add(str(detail["loc"][0]))
    for name in config_at_fault:
        del config[name]


def decision_settings(section: Section) -> Values:
    """The section decisions: for KTRDR's decision engine, and how our own backtest trades."""
    settings: Values = trading_settings(section)
    confidence = section.number("confidence_threshold", 0, 1)
    if confidence is not None:
        settings["confidence_threshold"] = confidence
    if section.has("position_awareness"):
        settings["position_awareness"] = section.flag("position_awareness", True)
    filters = section.section("filters")
    hours = filters.number("min_signal_separation", 0, 1e6)
    filters.end()
    if hours is not None:
        settings["filters"] = {"min_signal_separation": hours}
    section.end()
    return settings


def trading_settings(section: Section) -> Values:
    """How signals are traded after costs."""
    settings: Values = {}
    if section.has("long_only"):
        settings["long_only"] = section.flag("long_only", False)
    cost_bps = section.number("cost_bps", 0, 1_000)
    if cost_bps is not None:
        settings["cost_bps"] = cost_bps
    bars = section.number("max_holding_bars", 1, MAX_INDICATOR_PERIOD_BARS)
    if bars is not None:
        if not bars.is_integer():
            section.wrong("max_holding_bars", f"is {bars:g}", "Write a whole number of bars.")
        settings["max_holding_bars"] = bars
    return settings


def orchestrator_settings(section: Section) -> Values:
    """The section orchestrator, which only KTRDR's decision engine reads."""
    settings: Values = {}
    position = section.number("max_position_size", 0, 1)
    if position is not None:
        settings["max_position_size"] = position
    modes = section.section("modes")
    for name in modes.words():
        mode = modes.section(name)
        values: Values = {}
        confidence = mode.number("confidence_threshold", 0, 1)
        if confidence is not None:
            values["confidence_threshold"] = confidence
        if mode.has("require_confirmation"):
            values["require_confirmation"] = mode.flag("require_confirmation", False)
        mode.end()
        settings.setdefault("modes", {})[name] = values
    section.end()
    return settings


SHORTHAND: Final[dict[int, FuzzyKind]] = {3: "triangular", 4: "trapezoidal"}
SECTIONS: Final = (
    "name",
    "description",
    "indicators",
    "fuzzy_sets",
    "window",
    "model",
    "training",
    "decisions",
    "orchestrator",
)


@dataclass(frozen=True)
class Draft:
    """What a file says, as far as it could be read.

    Args:
        strategy: without the parts at fault.
        report: what is wrong with them, what has no effect and what differs elsewhere.
        unread: names of indicators at fault, whose outputs are not known.
    """

    strategy: Strategy
    report: Report
    unread: frozenset[str] = frozenset()


def parse_strategy(text: str, name: str) -> Strategy:
    """Reads a strategy file.

    Args:
        text: the file's YAML.
        name: the file's stem, which is the strategy's name.
    Returns:
        the strategy; names of indicators and labels are not checked yet.
    Raises:
        InvalidName: the name is not well formed.
        InvalidStrategy: everything that is wrong, with dotted places and remedies.
    """
    draft = draft_strategy(text, name)
    if draft.report.problems:
        raise refusal(name, draft.report)
    return draft.strategy


def draft_strategy(text: str, name: str) -> Draft:
    """Reads a strategy file as far as possible.

    Args:
        text: the file's YAML.
        name: the file's stem, which is the strategy's name.
    Raises:
        InvalidName: the name is not well formed.
        InvalidStrategy: the text is no mapping in YAML.
    """
    strategy_name(name)
    report = Report()
    with report.collecting():
        values = load(text)
        if values is not None and not isinstance(values, Mapping):
            raise wrong("", f"is {quote(values)}, not a mapping", "Write it as key: value lines.")
        return draft(values or {}, name, report)
    raise refusal(name, report)


MAX_PROBLEMS: Final = 20  # named in one reply


def refusal(name: str, report: Report) -> InvalidStrategy:
    """The error that says everything that is wrong with a file, and what else was noticed.

    Args:
        name: of the strategy.
        report: with one problem or more.
    """
    first, *others = report.problems
    named = report.problems[:MAX_PROBLEMS]
    left = len(report.problems) - len(named)
    ignored = [f"No effect here: {', '.join(report.ignored)}."] if report.ignored else []
    also = [*ignored, *report.notes]
    ending = f" Noted besides: {' '.join(also)}" if also else ""
    if not others:
        message, hint = f"Strategy '{name}': {first.message}{ending}", first.hint
    else:
        listed = [f"({n}) {each.message} {each.hint}" for n, each in enumerate(named, start=1)]
        more = [f"There are {left} more."] if left else []
        problems = " ".join([*listed, *more])
        message = f"Strategy '{name}' has {len(report.problems)} problems. {problems}{ending}"
        hint = "Correct all of them; the file is read anew by every check and every start."
    place = (first.field or "").removeprefix("strategy.")
    return InvalidStrategy(
        message, hint=hint, field=join_place("strategy", place), problems=report.problems
    )


def draft(values: Mapping[str, Any], name: str, report: Report) -> Draft:
    """The strategy of a file's plain values, as far as they can be read."""
    declared = values.get("name")
    for dialect in dialects():
        values = dialect.translate(values, report)
    root = Section(values, "", report)
    root.only(*SECTIONS)
    root.text("name")
    if isinstance(declared, str) and declared != name:
        report.notes.append(
            f"The file says name: {quote(declared)}; here a strategy is called as its file, {name}."
        )
    description = root.text("description")
    if len(description) > MAX_DESCRIPTION_CHARACTERS:
        root.wrong(
            "description",
            f"has {len(description)} characters",
            f"Keep it within {MAX_DESCRIPTION_CHARACTERS}.",
        )
    indicators, unread = all_indicators(root.take("indicators"), report, whole_window(root) or 1)
    inputs = all_fuzzy_inputs(root.section("fuzzy_sets"))
    report.ignored += unused_places(indicators, inputs)
    model, features = model_settings(root.section("model"))
    training = training_settings(root.section("training"))
    check_fields(model, report)
    check_fields(training, report)
    decisions = root.section("decisions")
    output_sets = all_output_sets(decisions)
    strategy = Strategy(
        name=name,
        description=description.strip(),
        indicators=indicators,
        fuzzy_inputs=inputs,
        features=features,
        training=model | training,
        decisions=decision_settings(decisions),
        orchestrator=orchestrator_settings(root.section("orchestrator")),
        output_sets=output_sets,
        ignored=tuple(report.ignored),
        notes=tuple(report.notes),
    )
    return Draft(strategy, report, unread)


def all_indicators(
    values: object, report: Report, every: int = 1
) -> tuple[tuple[IndicatorSpec, ...], frozenset[str]]:
    """The section indicators: a list, or a mapping by name.

    Args:
        values: the section.
        report: of the file.
        every: the window of indicators that name none.
    Returns:
        the indicators, and the names of those at fault.
    """
    entries: list[tuple[str | int, object]] = []
    if isinstance(values, list):
        entries = list(enumerate(values))
    elif isinstance(values, Mapping):
        entries = [(key, named_entry(key, value)) for key, value in values.items()]
    if not 1 <= len(entries) <= MAX_INDICATORS:
        listed = isinstance(values, list | Mapping)
        report.problems.append(
            wrong(
                "indicators",
                f"has {len(entries)} entries" if listed else "is missing or no list",
                f"List 1 to {MAX_INDICATORS}, such as - {{name: rsi, params: {{period: 14}}}}.",
            )
        )
        return (), frozenset()
    specs: dict[str, IndicatorSpec] = {}
    unread: set[str] = set()
    for key, value in entries:
        if value is LEFT_OUT:
            continue
        before = len(report.problems)
        with report.collecting():
            spec = indicator(Section(value, join_place("indicators", key), report), every)
            if spec.name in specs:
                raise wrong(
                    join_place("indicators", key, "name"),
                    f"is {quote(spec.name)}, as that of another indicator",
                    "Give each indicator a name of its own and say its type.",
                )
            specs[spec.name] = spec
        if len(report.problems) > before and isinstance(value, Mapping):
            unread.add(str(value.get("name")))
    return tuple(specs.values()), frozenset(unread)


def named_entry(name: str, value: object) -> object:
    """An entry of a mapping of indicators, with its name in it."""
    return {"name": name, **value} if isinstance(value, Mapping) else value


def whole_window(section: Section) -> int | None:
    """The key window: how many bars a network sees; None if it is absent or wrong."""
    bars = section.number("window", 1, MAX_WINDOW_BARS)
    if bars is None:
        return None
    if not bars.is_integer():
        section.wrong("window", f"is {bars:g}", "Write a whole number of bars.")
    return int(bars)


def indicator(section: Section, every: int = 1) -> IndicatorSpec:
    """One entry of the list: parameters flat, nested under params, or both alike.

    Args:
        section: the entry.
        every: the window of indicators that name none.
    """
    name = section.text("name")
    kind = section.text("type", name)
    if not WORD.fullmatch(name):
        raise wrong(
            section.at("name"),
            f"is {quote(name)}",
            "Write a word of letters, digits and _; what it computes goes into type.",
        )
    nested = section.section("params")
    values = nested.rest()
    for key, value in section.rest().items():
        if key in values and (type(values[key]), values[key]) != (type(value), value):
            raise wrong(
                section.at(key),
                f"is {quote(value)}, but params says {quote(values[key])}",
                "Say it once.",
            )
        values[key] = value
    options = Section(values, section.place, section.report)
    options.words()
    raw = options.flag("raw", False)
    source = cast(Source, options.choice("source", get_args(Source), "close"))
    timeframe = None
    if options.has("timeframe"):
        timeframe = options.choice("timeframe", tuple(TIMEFRAME_MINUTES), "") or None
    window = whole_window(options)
    params = {key: parameter(value, options.at(key)) for key, value in options.rest().items()}
    return IndicatorSpec(name, kind, params, raw, source, timeframe, window or every)


def parameter(value: Any, place: str) -> ParameterValue:
    """A parameter: a number, or a word."""
    if isinstance(value, str):
        return value
    number(value, place)
    return cast(int | float, value)


def all_fuzzy_inputs(section: Section) -> tuple[FuzzyInput, ...]:
    """The section fuzzy_sets."""
    inputs = []
    if not section.left:
        section.report.problems.append(
            wrong(
                "fuzzy_sets",
                "is missing or empty",
                "Give each indicator auto, crisp, cyclic, or sets such as low: [0, 20, 40].",
            )
        )
    for name in section.words():
        sets = section.take(name)
        if sets in get_args(Whole):
            inputs.append(FuzzyInput(name, cast(Whole, sets)))
        elif isinstance(sets, Mapping):
            found = fuzzy_sets(Section(sets, section.at(name), section.report))
            if found:
                inputs.append(FuzzyInput(name, found))
        else:
            section.wrong(
                name,
                f"is {quote(sets)}, not a mapping",
                "Write auto, crisp, cyclic, or a mapping of sets such as low: [0, 20, 40].",
            )
    return tuple(inputs)


def fuzzy_sets(section: Section) -> tuple[FuzzySetSpec, ...]:
    """The sets of one indicator output."""
    names = section.words()
    if not 1 <= len(names) <= MAX_FUZZY_SETS_PER_INDICATOR:
        section.report.problems.append(
            wrong(
                section.place,
                f"has {len(names)} sets",
                f"Name 1 to {MAX_FUZZY_SETS_PER_INDICATOR} sets, or write auto or crisp.",
            )
        )
        return ()
    found = []
    for name in names:
        with section.report.collecting():
            found.append(fuzzy_set(name, section.take(name), section))
    return tuple(found)


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
    elif not isinstance(value, Mapping):
        raise wrong(
            place,
            f"is {quote(value)}, not a set",
            "Write three ascending numbers, such as [0, 20, 40], or a mapping with type and"
            " parameters; auto and crisp stand in the place of all sets.",
        )
    else:
        form = Section(value, place, section.report)
        kind = cast(FuzzyKind, form.choice("type", FUZZY_KINDS, "triangular"))
        numbers = form.take("parameters")
        form.end()
        if not isinstance(numbers, list):
            raise wrong(join_place(place, "parameters"), "is not a list", "Write it as [a, b, c].")
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
        section.report.problems.append(
            wrong(section.place, f"lacks {missing[0]}", f"Give all of {', '.join(names)}.")
        )
        return OUTPUT_SETS
    found = []
    for name in names:
        with section.report.collecting():
            found.append(fuzzy_set(name, section.take(name), section))
    section.end()
    return tuple(found)


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
