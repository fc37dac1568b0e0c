"""KTRDR's strategy files, v1 and v3, in this program's form; every difference is reported.

What KTRDR ignores, or what changes nothing here, is the closed list IGNORED. What would change the
result and cannot be honoured stays a problem: another network, another output, several symbols, an
unknown indicator whose sets are used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final, NamedTuple

from ktrdr_mcp.errors import InvalidStrategy, edit_distance, quote
from ktrdr_mcp.features.registry import find, resolve
from ktrdr_mcp.interop.ktrdr.indicator_names import find_output, rename
from ktrdr_mcp.limits import MAX_INDICATORS
from ktrdr_mcp.paths import TIMEFRAME_MINUTES
from ktrdr_mcp.strategy.form import IndicatorSpec
from ktrdr_mcp.strategy.parsing import MODEL_TRAINING
from ktrdr_mcp.strategy.sections import LEFT_OUT, Report, StrategyDialect, Values, join_place, wrong

IGNORED: Final = (  # with all that stands below; * is any part of one key
    "version",
    "scope",
    "deployment",
    "data",
    "context_data",
    "training_data",
    "fitness_metrics",
    "walk_forward",
    "risk_management",
    "backtesting",
    "training.method",
    "training.fitness_metrics",
    "training.walk_forward",
    "model.input_size",
    "model.hidden_layers",
    "model.output_size",
    "model.architecture.dropout_rate",
    "model.training.dropout_rate",
    "model.training.min_delta",
    "model.training.early_stopping_patience",
    "model.training.early_stopping.min_delta",
    "model.training.early_stopping.mode",
    "model.training.lr_scheduler.T_max",
    "model.training.lr_scheduler.max_lr",
    "model.training.lr_scheduler.pct_start",
    "model.features.lookback_*",
    "model.features.include_*_features",
    "model.features.include_volatility_history",
    "model.features.include_seasonality",
    "model.features.include_microstructure",
    "model.features.include_order_book",
    "model.features.include_intermarket",
    "decisions.latency_requirements",
    "decisions.timeframe_weights",
    "decisions.num_classes",
    "decisions.cost_model",
    "decisions.filters.volume_filter",
    "decisions.filters.min_volume_ratio",
    "decisions.filters.min_volume_surge",
    "decisions.filters.spread_filter",
    "decisions.filters.regime_filter",
    "decisions.filters.correlation_filter",
    "orchestrator.*",
    "orchestrator.modes.*.*",
)
# Keys that count at a place where IGNORED has a pattern: a key within two edits of one of them is
# a misspelling, not something to ignore.
KNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "model.features": (
        "include_price_context",
        "include_volume_context",
        "include_raw_indicators",
        "scale_features",
        "scaling_method",
    ),
    "orchestrator": ("max_position_size", "modes"),
    "orchestrator.modes.*": ("confidence_threshold", "require_confirmation"),
}
MISSPELT_EDITS: Final = 2
CONTEXT: Final = {  # in model.features, true where left out, with what makes such features here
    "include_price_context": "talib.ROC and talib.STDDEV",
    "include_volume_context": "talib.CMF and talib.MFI",
}
CLASSIFICATION: Final = "classification"
LOSSES: Final = ("cross_entropy", "crossentropy", "categorical_crossentropy")
V3_TRAINING: Final = (  # KTRDR's v3 takes these under training too
    *MODEL_TRAINING,
    "loss",
    "loss_function",
)
UNSCALED: Final = (None, "none", "zscore", "z_score", "standard")
INPUT_KINDS: Final = ("fuzzy_set", "raw_indicator")
HEEDED_TYPES: Final = ("rsi", "sma", "ema", "macd")  # that KTRDR computes itself


class NetworkInput(NamedTuple):
    """One entry of nn_inputs in one timeframe."""

    kind: str  # of INPUT_KINDS
    name: str
    timeframe: str | None  # a wider one; None is the file's own


class KtrdrDialect:
    """Implements StrategyDialect."""

    def translate(self, values: Mapping[str, Any], report: Report) -> Values:
        """The file in this program's form; `StrategyDialect.translate` describes the arguments."""
        made = deepcopy(dict(values))
        v1 = is_for_ktrdr(made) and not is_v3(made)
        refuse_other_kinds(made, report)
        if is_v3(made):
            convert_v3(made, report)
        loss(made, report)
        labels(made, report)
        threshold(made, report)
        context_features(made, report, v1)
        indicators(made, report)
        take_out(made, report)
        return made


DIALECT: Final[StrategyDialect] = KtrdrDialect()


def is_v3(values: Mapping[str, Any]) -> bool:
    """Whether a file has inputs of its own, or sets that name their indicator."""
    sets = part(values, "fuzzy_sets").values()
    return "nn_inputs" in values or any("indicator" in part_of(each) for each in sets)


def is_for_ktrdr(values: Mapping[str, Any]) -> bool:
    """Whether a file has words that only KTRDR heeds."""
    training = part(values, "training")
    words = ("nn_inputs", *(path for path in IGNORED if "." not in path))
    return (
        any(key in values for key in words)
        or any(f"training.{key}" in IGNORED for key in training)
        or any(key in part(training, "labels") for key in ("zigzag_threshold", "label_lookahead"))
    )


def part(values: Mapping[str, Any], *keys: str) -> Values:
    """The mapping under nested keys; an empty one if there is none."""
    found: Any = values
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, dict) else {}


def part_of(value: object) -> Values:
    """A value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def problem(report: Report, place: str, what: str, hint: str) -> None:
    """Reports what cannot be honoured at a place."""
    report.problems.append(wrong(place, what, hint))


# What is refused as a whole


def refuse_other_kinds(values: Values, report: Report) -> None:
    """Refuses another network, another output or several symbols, before all other problems.

    The parts that belong to them are taken out, so that they are not complained about as well.
    """
    model, decisions = part(values, "model"), part(values, "decisions")
    kind = model.get("type")
    if isinstance(kind, str):
        if kind.lower() == "mlp":
            model["type"] = "mlp"
        else:
            problem(
                report,
                "model.type",
                f"is {quote(kind)}, which is not known",
                "Use mlp: only multilayer perceptrons are trained here.",
            )
            values["model"] = {"features": model["features"]} if "features" in model else {}
    said = "output_format" in decisions
    output = decisions.pop("output_format", CLASSIFICATION)
    if output != CLASSIFICATION:
        problem(
            report,
            "decisions.output_format",
            f"is {quote(output)}",
            "Only classification into buy, hold and sell is trained here; leave it out.",
        )
        values["decisions"] = {}
    elif said:
        report.ignored.append("decisions.output_format")
    symbols = part(values, "training_data", "symbols")
    listed = symbols.get("list", symbols.get("symbols"))
    if isinstance(listed, list) and len(listed) > 1:
        problem(
            report,
            "training_data.symbols",
            f"names {len(listed)} symbols",
            "A training takes one symbol, which the request says; name one at most.",
        )


# KTRDR's v3 form


def convert_v3(values: Values, report: Report) -> None:
    """Turns nn_inputs and sets that name their indicator into fuzzy sets by output."""
    declared = part(values, "indicators")
    sets = part(values, "fuzzy_sets")
    base = base_timeframe(values, report)
    types = {
        name: str(entry.get("type", name)).lower()
        for name, entry in declared.items()
        if isinstance(entry, Mapping)
    }
    wanted = inputs(values, base, report)
    made: Values = {}
    groups: dict[str, list[str]] = {}
    for kind, name, timeframe in wanted:
        if kind == "raw_indicator":
            wider = declare_wider(declared, name, timeframe, types, report)
            made[find_output(wider, types)] = "crisp"
            continue
        group = sets.get(name)
        if not isinstance(group, Mapping) or not isinstance(group.get("indicator"), str):
            problem(
                report,
                join_place("fuzzy_sets", name),
                "is missing or names no indicator" if group is None else "names no indicator",
                "Write indicator: NAME beside its sets.",
            )
            continue
        wider = declare_wider(declared, group["indicator"], timeframe, types, report)
        groups.setdefault(find_output(wider, types), []).append(name)
    for output, names in groups.items():
        if output in made:
            problem(
                report,
                "nn_inputs",
                f"has {quote(output)} both raw and in sets",
                "Name a second indicator for one of them.",
            )
        made[output] = {
            (set_name if len(names) == 1 else f"{name}_{set_name}"): parameters
            for name in names
            for set_name, parameters in sets[name].items()
            if set_name != "indicator"
        }
    used = {each.name for each in wanted if each.kind == "fuzzy_set"}
    report.ignored += [f"fuzzy_sets.{name}" for name in sets if name not in used]
    values.pop("nn_inputs", None)
    values["fuzzy_sets"] = made
    flatten_training(values, report)


def declare_wider(
    declared: Values,
    reference: str,
    timeframe: str | None,
    types: dict[str, str],
    report: Report,
) -> str:
    """Declares the same indicator in a wider timeframe, and says how it is referred to.

    Args:
        declared: the file's indicators by name; gets another one.
        reference: an indicator's name, or name.output.
        timeframe: the wider one; None for the file's own.
        types: of the indicators; gets that of the other one.
        report: of the file.
    """
    name, dot, output = reference.partition(".")
    if timeframe is None or not isinstance(declared.get(name), Mapping):
        return reference
    wider = f"{name}_{timeframe}"
    entry = {**declared[name], "timeframe": timeframe}
    if declared.setdefault(wider, entry) != entry:
        problem(
            report,
            join_place("indicators", wider),
            f"has the name that {name} gets in {timeframe}",
            "Rename it.",
        )
    types[wider] = types.get(name, name)
    return f"{wider}{dot}{output}"


def base_timeframe(values: Mapping[str, Any], report: Report) -> str | None:
    """The timeframe that a v3 file is made for, if it says one."""
    timeframes = part(values, "training_data", "timeframes")
    listed = timeframes.get("timeframes", timeframes.get("list"))
    first = listed[0] if isinstance(listed, list) and listed else None
    base = timeframes.get("base_timeframe", timeframes.get("timeframe", first))
    if isinstance(base, str):
        report.notes.append(f"The file is made for {base}; the request says the timeframe here.")
        return base
    return None


def inputs(values: Mapping[str, Any], base: str | None, report: Report) -> list[NetworkInput]:
    """What nn_inputs lists, once for each of its timeframes."""
    listed = values.get("nn_inputs")
    if listed is None:
        return [NetworkInput("fuzzy_set", name, None) for name in part(values, "fuzzy_sets")]
    if not isinstance(listed, list):
        problem(report, "nn_inputs", "is no list", "List - {fuzzy_set: NAME, timeframes: [1h]}.")
        return []
    timeframes = part(values, "training_data", "timeframes")
    every = timeframes.get("timeframes", timeframes.get("list"))
    found: list[NetworkInput] = []
    for index, entry in enumerate(listed):
        place = f"nn_inputs.{index}"
        kinds = [key for key in INPUT_KINDS if isinstance(part_of(entry).get(key), str)]
        if len(kinds) != 1:
            problem(report, place, "names no fuzzy_set", "Write {fuzzy_set: NAME}.")
            continue
        unknown = set(entry) - {kinds[0], "timeframes", "normalization"}
        for key in sorted(map(str, unknown)):
            problem(report, join_place(place, key), "is not known", "Leave it out.")
        asked = entry.get("timeframes", "all")
        asked = every if asked == "all" else [asked] if isinstance(asked, str) else asked
        asked = [one for one in asked if isinstance(one, str)] if isinstance(asked, list) else []
        own = base or narrowest(asked)
        unknown_ones = [one for one in asked if one not in TIMEFRAME_MINUTES]
        narrower = [one for one in asked if one not in unknown_ones and is_narrower(one, own)]
        if unknown_ones or narrower:
            problem(
                report,
                join_place(place, "timeframes"),
                f"has {', '.join(map(quote, unknown_ones or narrower))}",
                f"Write timeframes of {', '.join(TIMEFRAME_MINUTES)}, none narrower than the"
                f" file's own{f', {own}' if own else ''}.",
            )
        if kinds[0] == "raw_indicator" and entry.get("normalization") not in UNSCALED:
            problem(
                report,
                join_place(place, "normalization"),
                f"is {quote(entry.get('normalization'))}",
                "Leave it out: features are scaled by model.features.scaling_method.",
            )
        wider = [None if one == own else one for one in asked if one not in unknown_ones]
        found += [NetworkInput(kinds[0], entry[kinds[0]], one) for one in wider or [None]]
    return found


def narrowest(timeframes: list[str]) -> str | None:
    """The narrowest of some timeframes; None if none is known."""
    known = [one for one in timeframes if one in TIMEFRAME_MINUTES]
    return min(known, key=TIMEFRAME_MINUTES.__getitem__, default=None)


def is_narrower(one: str, other: str | None) -> bool:
    """Whether a timeframe is narrower than another, if that is known."""
    return TIMEFRAME_MINUTES[one] < TIMEFRAME_MINUTES.get(other or "", 0)


def flatten_training(values: Values, report: Report) -> None:
    """Moves what a v3 file says of the training flat to where v1 has it."""
    training = part(values, "training")
    values.setdefault("model", {})
    part(values, "model").setdefault("training", {})
    own = part(values, "model", "training")
    for key in V3_TRAINING:
        if key in training:
            own.setdefault(key, training.pop(key))
    for key in ("focal_gamma", "huber_delta"):
        if key in training:
            del training[key]
            report.ignored.append(f"training.{key}")
    share = training.pop("validation_split", None)
    if share is not None:
        training.setdefault("data_split", {})
        part(training, "data_split").setdefault("validation", share)
    stopping = part(own, "early_stopping")
    if isinstance(stopping.get("enabled"), bool) and not stopping.pop("enabled"):
        own["early_stopping"] = None


# Settings that mean something else here


def loss(values: Mapping[str, Any], report: Report) -> None:
    """Takes out the loss if it is the one that is used."""
    training = part(values, "model", "training")
    for key in ("loss", "loss_function"):
        if key in training:
            said = training.pop(key)
            if isinstance(said, str) and said.lower() in LOSSES:
                report.ignored.append(f"model.training.{key}")
            else:
                problem(
                    report,
                    f"model.training.{key}",
                    f"is {quote(said)}",
                    "Networks are trained with cross_entropy here; leave it out.",
                )


def labels(values: Values, report: Report) -> None:
    """KTRDR's labels, which are zigzag segments whatever else a v1 section says."""
    section = part(values, "training", "labels")
    source = section.get("source")
    if "method" in section and section["method"] not in ("zigzag", "zigzag_segments"):
        if "zigzag_threshold" in section:
            problem(
                report,
                "training.labels.method",
                f"is {quote(section['method'])} beside zigzag_threshold",
                "Leave out zigzag_threshold, or the method.",
            )
            part(values, "training")["labels"] = {}
        return
    if source not in (None, "zigzag") and "zigzag_threshold" not in section:
        problem(
            report,
            "training.labels.source",
            f"is {quote(source)}, whose labels are not computed alike",
            "Write method: triple_barrier (horizon, width), forward_return (horizon, threshold) or"
            " zigzag_segments (threshold).",
        )
        part(values, "training")["labels"] = {}
        return
    if "zigzag_threshold" not in section:
        return
    for key in ("label_lookahead", "source", "method"):
        if key in section and (key != "method" or "threshold" not in section):
            report.ignored.append(f"training.labels.{key}")
            section.pop(key)
    if "threshold" in section:  # this program's own words beside KTRDR's, in a saved file
        del section["zigzag_threshold"]
        return
    size = section.pop("zigzag_threshold")
    if type(size) not in {int, float} or not 0 <= size <= 1:
        problem(
            report,
            "training.labels.zigzag_threshold",
            f"is {quote(size)}",
            "Write a number from 0 to 1.",
        )
        return
    section |= {"method": "zigzag_segments", "threshold": float(size)}


def threshold(values: Values, report: Report) -> None:
    """Makes the threshold of KTRDR's backtest count: a signal must reach both."""
    mode = part(values, "orchestrator", "modes", "backtest")
    second = mode.get("confidence_threshold")
    first = part(values, "decisions").get("confidence_threshold", 0)
    if not (is_share(first) and is_share(second)) or not first < second:
        return
    if not isinstance(values.get("decisions", {}), dict):
        return
    values.setdefault("decisions", {})["confidence_threshold"] = second
    report.notes.append(
        f"orchestrator.modes.backtest.confidence_threshold {second:g} counts, as in KTRDR's"
        f" backtest, since it is above decisions.confidence_threshold ({first:g})."
    )


def is_share(value: Any) -> bool:
    """Whether a value is a number from 0 to 1."""
    return type(value) in {int, float} and 0 <= value <= 1


def context_features(values: Values, report: Report, v1: bool) -> None:
    """Leaves out features that KTRDR's own prediction sees as constants.

    Args:
        values: the file's.
        report: of it.
        v1: whether KTRDR's v1 made it, where these features are the default.
    """
    features = part(values, "model", "features")
    true = [key for key in CONTEXT if features.get(key) is True]
    absent = [key for key in CONTEXT if key not in features] if v1 else []
    for key in true:
        del features[key]
    for key in CONTEXT:
        if features.get(key) is False:
            del features[key]
    if not true and not absent:
        return
    said = [f"{' and '.join(true)} true"] if true else []
    said += [f"{' and '.join(absent)} left out, which KTRDR takes as true"] if absent else []
    instead = ", ".join(CONTEXT[key] for key in (*true, *absent))
    report.notes.append(
        f"model.features has {', and '.join(said)}: the network gets no such features here, only"
        " those of the fuzzy sets, and a saved file says false. KTRDR trains with them and predicts"
        " from frames of one row, where they are constants. For features of this kind list"
        f" indicators such as {instead}, and write false."
    )


# Indicators


def indicators(values: Values, report: Report) -> None:
    """Gives indicators with KTRDR's names those that are known here, and leaves out the unused."""
    declared, sets = values.get("indicators"), part(values, "fuzzy_sets")
    if isinstance(declared, list):
        entries = dict(enumerate(declared[: MAX_INDICATORS + 1]))
    elif isinstance(declared, dict):
        entries = dict(list(declared.items())[: MAX_INDICATORS + 1])
    else:
        return
    for key, entry in entries.items():
        if not isinstance(entry, dict):
            continue
        name = entry.get("name", key if isinstance(key, str) else None)
        if not isinstance(name, str) or not isinstance(entry.get("type", name), str):
            continue
        place = f"indicators.{key}"
        made = rename(entry, name)
        kind = made.get("type", name)
        used = [each for each in sets if f"{each}_".startswith(f"{name}_")]
        if not used and not is_known(kind):
            report.notes.append(
                f"{place}: the type {quote(kind)} of {quote(name)} is not known; as no fuzzy set"
                " uses it, it is left out."
            )
            declared[key] = LEFT_OUT
            continue
        if isinstance(key, int):
            note_flat(entry, kind, place, report)
        declared[key] = made
        if kind != entry.get("type", name) and name in sets:
            leave_out_unknown_output(made, name, sets, place, report)
    values["fuzzy_sets"] = sets or values.get("fuzzy_sets")


def is_known(kind: str) -> bool:
    """Whether there is an indicator of a type."""
    try:
        find(IndicatorSpec("x", kind))
    except InvalidStrategy:
        return False
    return True


def note_flat(entry: Mapping[str, Any], kind: str, place: str, report: Report) -> None:
    """Notes parameters that KTRDR's v1 would not heed, since they do not stand under params."""
    params = entry.get("params")
    under = params if isinstance(params, Mapping) else {}
    flat = [
        key
        for key, value in entry.items()
        if key not in {"name", "type", "params", "source", "raw", "timeframe", "window"}
        and key not in under
        and type(value) in {int, float}
    ]
    if flat and kind in HEEDED_TYPES:
        report.notes.append(
            f"{place}: KTRDR heeds parameters under params alone and would ignore"
            f" {' and '.join(flat)}; here they count."
        )


def leave_out_unknown_output(
    made: Mapping[str, Any], name: str, sets: Values, place: str, report: Report
) -> None:
    """Leaves out sets that have the name of an indicator with several outputs, as KTRDR does."""
    try:
        outputs = resolve(IndicatorSpec(name, made["type"])).outputs
    except InvalidStrategy:
        return
    if name not in outputs:
        del sets[name]
        report.notes.append(
            f"{place}: no output of it is called {quote(name)}, so the sets of fuzzy_sets.{name}"
            f" are left out, as in KTRDR; its outputs are {', '.join(outputs)}."
        )


# What is ignored


def take_out(values: Values, report: Report, place: str = "") -> None:
    """Takes the paths of IGNORED out of a mapping and everything below it, and reports them."""
    for key in list(values):
        if not isinstance(key, str):
            continue
        path = join_place(place, key)
        if is_ignored(place, key):
            del values[key]
            report.ignored.append(path)
        elif isinstance(values[key], dict) and any(is_on_the_way(path, one) for one in IGNORED):
            take_out(values[key], report, path)


def is_ignored(place: str, key: str) -> bool:
    """Whether a key at a place has no effect, and is no misspelling of one that has."""
    if not any(matches(join_place(place, key), pattern) for pattern in IGNORED):
        return False
    known = next((keys for each, keys in KNOWN.items() if matches(place, each)), ())
    return all(edit_distance(key, each) > MISSPELT_EDITS for each in known)


def matches(path: str, pattern: str) -> bool:
    """Whether a dotted path has the parts of a pattern."""
    parts, patterns = path.split("."), pattern.split(".")
    return len(parts) == len(patterns) and all(
        re.fullmatch(re.escape(each).replace(r"\*", ".*"), one) is not None
        for one, each in zip(parts, patterns, strict=True)
    )


def is_on_the_way(path: str, pattern: str) -> bool:
    """Whether a pattern's paths lie below a path."""
    depth = path.count(".") + 1
    patterns = pattern.split(".")
    return len(patterns) > depth and matches(path, ".".join(patterns[:depth]))
