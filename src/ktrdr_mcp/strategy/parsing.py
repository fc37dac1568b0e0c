"""Parses a strategy file, in this program's form, KTRDR's v1 form and its shorthand."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final, cast, get_args

import yaml
from pydantic import ValidationError

from ktrdr_mcp.errors import InvalidStrategy, did_you_mean, shown
from ktrdr_mcp.limits import (
    MAX_DESCRIPTION_CHARACTERS,
    MAX_FUZZY_SETS_PER_INDICATOR,
    MAX_INDICATOR_PERIOD_BARS,
    MAX_INDICATORS,
    MAX_SPLIT_SHARE,
    MAX_STRATEGY_BYTES,
)
from ktrdr_mcp.paths import strategy_name
from ktrdr_mcp.schemas.config import TrainingConfig
from ktrdr_mcp.schemas.parsing import explained
from ktrdr_mcp.strategy.form import (
    FUZZY_KINDS,
    LARGEST_NUMBER,
    OUTPUT_SETS,
    FeatureSettings,
    FuzzyInput,
    FuzzyKind,
    FuzzySetSpec,
    IndicatorSpec,
    ParameterValue,
    Source,
    Strategy,
)

MAX_DEPTH: Final = 12
MAX_NODES: Final = 30_000  # keys, values and lists; read in about a second
INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,29})\Z")
NUMBER: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")


class CoreLoader(yaml.SafeLoader):
    """PyYAML's safe loader, narrowed to what a strategy needs."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def __init__(self, text: str) -> None:
        """Args: text: the whole file."""
        super().__init__(text)
        self.depth = 0
        self.nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """One node, if it is plain and not too deep."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise refused(f"Line {line} has an anchor or alias (& or *)", "Write the value out.")
        if event.tag is not None:
            raise refused(f"Line {line} has the tag {shown(event.tag)}", "Leave tags out.")
        if self.depth >= MAX_DEPTH:
            raise refused(f"Line {line} is nested too deep", f"Nest at most {MAX_DEPTH} levels.")
        if self.nodes >= MAX_NODES:
            raise refused("The file has too many values", f"Keep to {MAX_NODES:,} values.")
        self.nodes += 1
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are text and stand once."""
        seen: set[str] = set()
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.tag != "tag:yaml.org,2002:str":
                raise refused(f"Line {line} has a key that is not text", "Put quotes around it.")
            if key.value in seen:
                raise refused(
                    f"Line {line} repeats the key {shown(key.value)}", "Keep one of the two."
                )
            seen.add(key.value)
        return yaml.constructor.BaseConstructor.construct_mapping(self, node, deep)


for tag, pattern, first_characters in (
    ("null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")),
    ("int", INTEGER, list("-+0123456789")),
    ("float", NUMBER, list("-+.0123456789")),
):
    CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", pattern, first_characters)


def refused(what: str, hint: str) -> InvalidStrategy:
    """The error for text that this program does not read."""
    return InvalidStrategy(f"{what}.", hint=hint)


def load(text: str) -> object:
    """The values of a YAML text.

    Args:
        text: at most MAX_STRATEGY_BYTES in UTF-8.
    Returns:
        nested dicts (text keys), lists, text, numbers, booleans and None.
    Raises:
        InvalidStrategy: it is too large, not YAML, or uses more than plain values.
    """
    size_bytes = len(text.encode(errors="replace"))
    if size_bytes > MAX_STRATEGY_BYTES:
        raise refused(
            f"The file has {size_bytes:,} bytes", f"Keep it within {MAX_STRATEGY_BYTES:,} bytes."
        )
    try:
        return CoreLoader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise refused(
            f"It is not YAML: {error.problem or error.context}{where}",
            "Correct that line; indent with spaces, never with tabs.",
        ) from None
    except yaml.YAMLError as error:
        reason = getattr(error, "reason", type(error).__name__)
        raise refused(f"It is not YAML: {reason}", "Save the file as plain UTF-8 text.") from None


WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}", re.ASCII)


def joined(*parts: str | int) -> str:
    """The dotted place of a nested value."""
    return ".".join(str(part) for part in parts if part != "")


def wrong(place: str, problem: str, hint: str) -> InvalidStrategy:
    """The error for one place of the file."""
    return InvalidStrategy(f"{place or 'the file'} {problem}.", hint=hint, field=place or None)


class Section:
    """A mapping at a dotted place.

    Args:
        values: what stands there; None is an empty mapping.
        place: where, for messages.
        ignored: collects the places of keys that are read and have no effect.
    Raises:
        InvalidStrategy: it is not a mapping.
    """

    def __init__(self, values: object, place: str, ignored: list[str]) -> None:
        if values is None:
            values = {}
        if not isinstance(values, Mapping):
            raise wrong(
                place, f"is {shown(values)}, not a mapping", "Write it as key: value lines."
            )
        self.place = place
        self.ignored = ignored
        self.left = dict(values)
        self.known: list[str] = []

    def at(self, key: str) -> str:
        """The dotted place of a key."""
        return joined(self.place, key)

    def has(self, key: str) -> bool:
        """Whether the key stands there and has not been taken."""
        return key in self.left

    def take(self, key: str, default: Any = None) -> Any:
        """The value of a known key, whatever it is."""
        self.known.append(key)
        return self.left.pop(key, default)

    def section(self, key: str) -> Section:
        """The mapping under a key; empty if the key is absent."""
        return Section(self.take(key), self.at(key), self.ignored)

    def text(self, key: str, default: str = "") -> str:
        """The text under a key. Raises InvalidStrategy."""
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise wrong(self.at(key), f"is {shown(value)}, not text", "Put quotes around it.")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """The boolean under a key. Raises InvalidStrategy."""
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise wrong(self.at(key), f"is {shown(value)}", "Write true or false.")
        return value

    def number(self, key: str, low: float, high: float) -> float | None:
        """The number under a key, within bounds; None if it is absent. Raises InvalidStrategy."""
        if not self.has(key):
            self.known.append(key)
            return None
        value = number(self.take(key), self.at(key))
        if not low <= value <= high:
            raise wrong(self.at(key), f"is {value:g}", f"Write a number from {low:g} to {high:g}.")
        return value

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        """One of a few words. Raises InvalidStrategy."""
        value = self.text(key, default)
        if value not in choices:
            raise InvalidStrategy(
                f"{self.at(key)} is {shown(value)}, which is not known."
                f"{did_you_mean(value, choices)}",
                hint=f"Use one of {', '.join(choices)}.",
                field=self.at(key),
            )
        return value

    def ignore(self, *keys: str) -> None:
        """Takes keys that KTRDR's files carry and that change nothing here."""
        for key in keys:
            if self.has(key):
                self.take(key)
                self.ignored.append(self.at(key))

    def rest(self) -> dict[str, Any]:
        """Everything that has not been taken."""
        left, self.left = self.left, {}
        return left

    def only(self, *known: str) -> None:
        """Refuses other keys. Raises InvalidStrategy with the nearest known key."""
        self.known += known
        unknown = [key for key in self.left if key not in known]
        if unknown:
            raise self.unknown(unknown[0])

    def words(self) -> list[str]:
        """The keys, which the file's author chose. Raises InvalidStrategy if one is no word."""
        for key in self.left:
            if not WORD.fullmatch(key):
                raise wrong(
                    self.place,
                    f"has the name {shown(key)}",
                    "Write a word of at most 64 letters, digits and _.",
                )
        return list(self.left)

    def end(self) -> None:
        """Refuses keys that nobody took. Raises InvalidStrategy with the nearest known key."""
        if self.left:
            raise self.unknown(next(iter(self.left)))

    def unknown(self, key: str) -> InvalidStrategy:
        """The error for a key that does not belong here."""
        where = f"{self.place} has" if self.place else "The file has"
        return InvalidStrategy(
            f"{where} the unknown key {shown(key)}.{did_you_mean(key, self.known)}",
            hint=f"Known keys here: {', '.join(dict.fromkeys(self.known))}.",
            field=shown(self.at(key), 200).strip("'"),
        )


def number(value: object, place: str) -> float:
    """A finite number, as a float. Raises InvalidStrategy."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(place, f"is {shown(value)}, not a number", "Write a number.")
    if not math.isfinite(value) or abs(value) > LARGEST_NUMBER:
        raise wrong(place, f"is {shown(value)}", f"Write a number of at most {LARGEST_NUMBER:g}.")
    return float(value)


ROOT_WORDS: Final = (
    "version",
    "data",
    "fitness_metrics",
    "walk_forward",
    "risk_management",
    "backtesting",
)
TRAINING_WORDS: Final = ("method", "fitness_metrics", "walk_forward")
LABEL_WORDS: Final = ("zigzag_threshold", "label_lookahead")
TRUE_THERE: Final = {  # in model.features if left out, with what makes such features here
    "include_price_context": "talib.ROC and talib.STDDEV",
    "include_volume_context": "talib.CMF and talib.MFI",
}


def ktrdr_notes(values: Mapping[str, Any]) -> tuple[str, ...]:
    """What a strategy file leaves to KTRDR's defaults and does not get here.

    Args:
        values: the file's; only what is a mapping in it is looked into.
    Returns:
        at most one sentence; none for a file without KTRDR's own words.
    """
    features = part(part(values, "model"), "features")
    absent = [key for key in TRUE_THERE if key not in features]
    if not absent or not is_for_ktrdr(values):
        return ()
    instead = ", ".join(TRUE_THERE[key] for key in absent)
    are = "are" if len(absent) > 1 else "is"
    sentence = (
        f"KTRDR takes model.features.{' and '.join(absent)} as true where left out, which {are} not"
        f" available here; write false to say so, or list indicators such as {instead}."
    )
    return (sentence,)


def is_for_ktrdr(values: Mapping[str, Any]) -> bool:
    """Whether a file has words that only KTRDR heeds."""
    training = part(values, "training")
    labels = part(training, "labels")
    return (
        any(key in values for key in ROOT_WORDS)
        or any(key in training for key in TRAINING_WORDS)
        or any(key in labels for key in LABEL_WORDS)
    )


def part(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The mapping under a key; empty if there is none."""
    value = values.get(key)
    return value if isinstance(value, Mapping) else {}


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
NOT_BUILT: Final = {
    **{key: f"the indicators {instead}" for key, instead in TRUE_THERE.items()},
    "include_raw_indicators": "the indicator",
}
SHARE_SUM_TOLERANCE: Final = 1e-6


def model_settings(model: Section) -> tuple[dict[str, Any], FeatureSettings]:
    """The section model.

    Args:
        model: the section; emptied.
    Returns:
        the part of TrainingConfig that it sets, and how features are scaled.
    Raises:
        InvalidStrategy: a key or word is not known.
    """
    config: dict[str, Any] = {}
    model.ignore("input_size", "hidden_layers", "output_size")  # KTRDR reads them elsewhere
    if model.has("type"):
        config["model_type"] = model.choice("type", ("mlp",), "mlp")
    architecture = model.section("architecture")
    architecture.choice("output_activation", ("softmax",), "softmax")
    architecture.ignore("dropout_rate")
    take_into(config, architecture, ARCHITECTURE)
    training = model.section("training")
    training.ignore("dropout_rate", "min_delta")
    take_into(config, training, dict(zip(MODEL_TRAINING, MODEL_TRAINING, strict=True)))
    if isinstance(config.get("early_stopping"), dict):
        stopping = Section(config["early_stopping"], training.at("early_stopping"), model.ignored)
        stopping.ignore("min_delta")
        config["early_stopping"] = stopping.rest()
    features = feature_settings(model.section("features"))
    model.end()
    return config, features


def take_into(config: dict[str, Any], section: Section, names: dict[str, str]) -> None:
    """Moves a section's keys into the configuration under the contract's names."""
    for key, name in names.items():
        present = section.has(key)
        value = section.take(key)
        if present:
            config[name] = value
    section.end()


def feature_settings(section: Section) -> FeatureSettings:
    """The section model.features."""
    for key, instead in NOT_BUILT.items():
        if section.flag(key, False):
            raise wrong(
                section.at(key),
                "is true, which is not available",
                f"Leave it out; list {instead} under indicators, with 'crisp' under fuzzy_sets.",
            )
    section.ignore("lookback_periods")
    scaled = section.flag("scale_features", True)
    method = section.choice("scaling_method", ("standard", "minmax"), "standard")
    section.end()
    if not scaled:
        return FeatureSettings("none")
    return FeatureSettings("minmax" if method == "minmax" else "standard")


def training_settings(training: Section) -> dict[str, Any]:
    """The section training: labels and shares.

    Args:
        training: the section; emptied.
    Returns:
        the part of TrainingConfig that it sets.
    Raises:
        InvalidStrategy: a key is not known, or the shares do not fit together.
    """
    config: dict[str, Any] = {}
    training.ignore(*TRAINING_WORDS)
    labels = training.section("labels")
    if labels.has("zigzag_threshold"):
        config["labels"] = ktrdr_labels(labels)
    elif labels.left:
        config["labels"] = labels.rest()
    config |= shares(training.section("data_split"))
    training.end()
    return config


def ktrdr_labels(labels: Section) -> dict[str, Any]:
    """KTRDR's labels, which are zigzag segments whatever else the section says."""
    method = labels.left.get("method", "zigzag")
    if method not in ("zigzag", "zigzag_segments"):
        raise wrong(
            labels.at("method"),
            f"is {shown(method)} beside zigzag_threshold",
            "Leave out zigzag_threshold, or the method.",
        )
    labels.ignore("label_lookahead", "source", "method")
    threshold = labels.number("zigzag_threshold", 0, 1)
    labels.end()
    return {"method": "zigzag_segments", "threshold": threshold}


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
        test = left_over(split.place, "test", train + validation)
    elif train is not None and test is not None:
        validation = left_over(split.place, "validation", train + test)
    elif train is not None:
        raise wrong(split.place, "has only train", "Say validation and test.")
    named = {"validation_split": validation, "test_split": test}
    return {name: share for name, share in named.items() if share is not None}


def left_over(place: str, name: str, others: float) -> float:
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


def check_fields(config: dict[str, Any]) -> None:
    """Refuses single values that no training accepts.

    How values go together is judged later, when the request's own are in place.

    Raises:
        InvalidStrategy: the first such value and its place in the file.
    """
    try:
        TrainingConfig.model_validate(config)
    except ValidationError as error:
        details = [detail for detail in error.errors(include_url=False) if detail["loc"]]
        if details:
            found = explained(TrainingConfig, details)
            name, *inside = (found.field or "").split(".")
            if name == "labels":
                inside = inside[:1]  # what follows is which type was tried
            place = joined(PLACES.get(name, f"model.training.{name}"), *inside)
            message = f"{place}: {found.message}"
            raise InvalidStrategy(message, hint=found.hint, field=place) from None


def decision_settings(section: Section) -> dict[str, Any]:
    """The section decisions: for KTRDR's decision engine, and how our own backtest trades."""
    settings: dict[str, Any] = trading_settings(section)
    confidence = section.number("confidence_threshold", 0, 1)
    if confidence is not None:
        settings["confidence_threshold"] = confidence
    if section.has("position_awareness"):
        settings["position_awareness"] = section.flag("position_awareness", True)
    filters = section.section("filters")
    filters.ignore("volume_filter")
    hours = filters.number("min_signal_separation", 0, 1e6)
    filters.end()
    if hours is not None:
        settings["filters"] = {"min_signal_separation": hours}
    section.end()
    return settings


def trading_settings(section: Section) -> dict[str, Any]:
    """How signals are traded after costs."""
    settings: dict[str, Any] = {}
    if section.has("long_only"):
        settings["long_only"] = section.flag("long_only", False)
    cost_bps = section.number("cost_bps", 0, 1_000)
    if cost_bps is not None:
        settings["cost_bps"] = cost_bps
    bars = section.number("max_holding_bars", 1, MAX_INDICATOR_PERIOD_BARS)
    if bars is not None:
        if not bars.is_integer():
            raise wrong(
                section.at("max_holding_bars"), f"is {bars:g}", "Write a whole number of bars."
            )
        settings["max_holding_bars"] = bars
    return settings


def orchestrator_settings(section: Section) -> dict[str, Any]:
    """The section orchestrator, which only KTRDR's decision engine reads."""
    settings: dict[str, Any] = {}
    section.ignore("signal_cooldown", "entry_rules", "exit_rules")
    position = section.number("max_position_size", 0, 1)
    if position is not None:
        settings["max_position_size"] = position
    modes = section.section("modes")
    for name in modes.words():
        mode = modes.section(name)
        values: dict[str, Any] = {}
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
        return parsed(load(text), name)
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
    notes = ktrdr_notes(root.left)
    root.ignore(*ROOT_WORDS)
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
    model, features = model_settings(root.section("model"))
    check_fields(model)
    training = training_settings(root.section("training"))
    check_fields(training)
    decisions = root.section("decisions")
    output_sets = all_output_sets(decisions)
    return Strategy(
        name=name,
        description=description.strip(),
        indicators=indicators,
        fuzzy_inputs=inputs,
        features=features,
        training=model | training,
        decisions=decision_settings(decisions),
        orchestrator=orchestrator_settings(root.section("orchestrator")),
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
