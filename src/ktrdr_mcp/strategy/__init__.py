"""The strategy file: indicators, fuzzy sets and the settings of a training."""

from ktrdr_mcp.strategy.catalog import DEFAULT_STRATEGY, StrategyCatalog
from ktrdr_mcp.strategy.form import (
    FeatureSettings,
    FuzzyInput,
    FuzzySetSpec,
    IndicatorSpec,
    Strategy,
)
from ktrdr_mcp.strategy.parsing import parse_strategy

__all__ = [
    "DEFAULT_STRATEGY",
    "FeatureSettings",
    "FuzzyInput",
    "FuzzySetSpec",
    "IndicatorSpec",
    "Strategy",
    "StrategyCatalog",
    "parse_strategy",
]
