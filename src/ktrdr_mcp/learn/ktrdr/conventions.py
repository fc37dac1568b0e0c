"""What KTRDR's files are called and what its indicators accept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MODEL: Final = "model.pt"
CONFIG: Final = "config.json"
METRICS: Final = "metrics.json"
FEATURES: Final = "features.json"
METADATA: Final = "metadata.json"
FILES: Final = (MODEL, CONFIG, METRICS, FEATURES, METADATA)

# The indicators that both programs compute alike, with KTRDR's largest periods in bars. Its
# releases differ in some of them; these are the smallest.
LARGEST_PERIODS: Final[Mapping[str, Mapping[str, int]]] = {
    "rsi": {"period": 100},
    "sma": {"period": 200},
    "ema": {"period": 200},
    "macd": {"fast_period": 50, "slow_period": 100, "signal_period": 50},
}
RATIOS: Final = ("sma", "ema")  # fuzzified as close / average, if they are called exactly so

# Linear, activation and dropout are one place each in KTRDR's sequence of layers.
PLACES_PER_LAYER: Final = 3


def state_key(layer: int, kind: str) -> str:
    """What KTRDR calls a layer's "weight" or "bias"."""
    return f"{PLACES_PER_LAYER * layer}.{kind}"
