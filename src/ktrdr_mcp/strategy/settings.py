"""The sections model, training, decisions and orchestrator, in the contract's words."""

from __future__ import annotations

from typing import Any, Final

from pydantic import ValidationError

from ktrdr_mcp.contract.config import TrainingConfig
from ktrdr_mcp.contract.parsing import explained
from ktrdr_mcp.errors import InvalidStrategy, shown
from ktrdr_mcp.limits import MAX_INDICATOR_PERIOD_BARS, MAX_SPLIT_SHARE
from ktrdr_mcp.strategy.form import FeatureSettings
from ktrdr_mcp.strategy.ktrdr_files import TRAINING_WORDS, TRUE_THERE
from ktrdr_mcp.strategy.section import Section, joined, number, wrong

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
