"""How a file that was written for KTRDR is told, and what it means otherwise there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

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


def notes(values: Mapping[str, Any]) -> tuple[str, ...]:
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
