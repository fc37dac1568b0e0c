"""The effective configuration: the request's settings over the strategy's over the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ktrdr_mcp.errors import InvalidRequest, InvalidStrategy, KtrdrError
from ktrdr_mcp.labels import registry as labels
from ktrdr_mcp.schemas.config import EffectiveConfig, TrainingConfig, complete_scheduler
from ktrdr_mcp.schemas.parsing import parse
from ktrdr_mcp.strategy.form import Strategy


def effective(request: TrainingConfig, strategy: Strategy) -> EffectiveConfig:
    """Merges a request with its strategy, deeply, and completes it.

    Args:
        request: what the caller set; other fields don't count.
        strategy: its training settings fill what the caller left open.
    Raises:
        InvalidRequest: the merged settings contradict each other.
        InvalidStrategy: the strategy's own settings are not valid.
    """
    return complete(merge(check_settings(strategy), request.model_dump(exclude_unset=True)))


def complete(merged: dict[str, Any]) -> EffectiveConfig:
    """A configuration of merged settings, with what they leave open. Raises InvalidRequest."""
    merged["labels"] = labels.complete(merged.get("labels", {}))
    if merged.get("lr_scheduler"):
        merged["lr_scheduler"] = complete_scheduler(merged["lr_scheduler"])
    return EffectiveConfig.model_validate(merged)


def check_settings(strategy: Strategy) -> dict[str, Any]:
    """The strategy's own training settings. Raises InvalidStrategy."""
    try:
        own = parse(TrainingConfig, strategy.training).model_dump(exclude_unset=True)
        if "sweep" in own:
            raise InvalidRequest(
                "training.sweep is not a setting of a strategy.",
                hint="Send config.sweep with start_training.",
                field="strategy",
            )
        if "labels" in own:
            own["labels"] = labels.complete(own["labels"])
    except KtrdrError as error:
        raise InvalidStrategy(
            f"Strategy '{strategy.name}' does not train as written: {error.message}",
            hint=f"Correct the strategy file. {error.hint}",
            field="strategy",
        ) from None
    return own


def merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested settings as one; the upper wins, key by key.

    Labels and schedulers of another kind are replaced whole, since their settings differ.

    Args:
        lower: the settings that give way.
        upper: the settings that win.
    """
    merged = dict(lower)
    for key, value in upper.items():
        below = lower.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping) and is_same_kind(below, value):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def is_same_kind(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> bool:
    """Whether two settings speak of the same method or type."""
    return all(
        key not in upper or upper[key] == lower.get(key, upper[key]) for key in ("method", "type")
    )
