"""Every TA-Lib function that can be computed bar by bar, as `talib.NAME`.

All run from the first stored bar, so those that accumulate (OBV, AD, CUMSUM, VWAP, SAR, ...) or
smooth without end depend on where the stored series begins, and on nothing that comes later.

A feature is the output divided by close where it is proportional to price, by close squared where
it is proportional to the square. Outputs that are neither proportional nor indifferent to price
(LN, SQRT, CEIL, ATAN, LINEARREG_ANGLE, ...) and units of volume stay as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any, Final

import numpy as np

from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.features.indicator import (
    PRICE,
    Floats,
    Indicator,
    Output,
    Parameter,
    Parameters,
)
from ktrdr_mcp.limits import MAX_INDICATOR_PERIOD_BARS

POLARS: Final = "polars"  # TA-Lib would load it for series that it is never given
_loaded: ModuleType | None = sys.modules.get(POLARS)
sys.modules[POLARS] = None  # type: ignore[assignment]
try:
    import talib
    from talib.abstract import Function  # type: ignore[attr-defined]
finally:
    if _loaded is None:
        del sys.modules[POLARS]
    else:
        sys.modules[POLARS] = _loaded

PREFIX: Final = "talib."
LARGEST_FACTOR: Final = 1e6
MOVING_AVERAGES: Final = {
    "SMA": 0, "EMA": 1, "WMA": 2, "DEMA": 3, "TEMA": 4, "TRIMA": 5, "KAMA": 6, "MAMA": 7, "T3": 8,
}  # fmt: skip
REFUSED: Final[Mapping[str, str]] = {
    "MAVP": "it needs a period for each bar, which bars do not carry",
    "MAXINDEX": "it counts from the first stored bar; talib.AROON says how long ago the high was",
    "MININDEX": "it counts from the first stored bar; talib.AROON says how long ago the low was",
    "MINMAXINDEX": "it counts from the first stored bar; talib.AROON says how long ago they were",
    "ACOS": "it is not defined for prices above 1",
    "ASIN": "it is not defined for prices above 1",
}
SAME_SCALE: Final = "Output scale same as input"  # TA-Lib's flag, which it does not set everywhere
PROPORTIONAL: Final = frozenset(
    {
        "HT_PHASOR", "ADD", "SUB", "SUM", "CUMSUM", "AC", "AO", "APO", "DPO", "ERI", "MACD",
        "MACDEXT", "MACDFIX", "MINUS_DM", "PLUS_DM", "MOM", "QSTICK", "WAD", "LINEARREG_SLOPE",
        "STDDEV", "ADR", "ATR", "TRANGE", "EFI", "MARKETFI",
    }
)  # fmt: skip
PROPORTIONAL_TO_SQUARE: Final = frozenset({"MULT", "VAR"})
WITHOUT_UNIT: Final = frozenset({("SUPERTREND", "trend")})


@cache
def function_names() -> tuple[str, ...]:
    """The functions of the installed TA-Lib that can be used, sorted."""
    names: list[str] = talib.get_functions()  # type: ignore[no-untyped-call]
    return tuple(sorted(set(names) - set(REFUSED)))


@cache
def function(name: str) -> Indicator:
    """A TA-Lib function as an indicator.

    Args:
        name: one of `function_names()`.
    """
    info = Function(name).info
    inputs = input_columns(info["input_names"])
    parameters = {key: parameter(key, default) for key, default in info["parameters"].items()}
    exponents = [price_exponent(name, output, info) for output in info["output_names"]]

    def compute(bars: Bars, source: Floats, params: Parameters) -> tuple[Output, ...]:
        arrays = [source if column == "price" else getattr(bars, column) for column in inputs]
        values = call(name, [make_contiguous(array) for array in arrays], params)
        return tuple(
            Output(value, value / bars.close**exponent if exponent else value)
            for value, exponent in zip(values, exponents, strict=True)
        )

    return Indicator(
        type=f"{PREFIX}{name}",
        parameters=parameters,
        outputs=tuple(info["output_names"]),
        compute=compute,
        warm_up=lambda params: lookback(name, params),
        takes_source="price" in inputs,
        problem=lambda params: find_refused_parameters(name, len(inputs), params),
        rescaled=any(exponents),
        group=f"{PREFIX}{info['group'].lower()}",
        about=info["display_name"],
        units=PRICE if 1 in exponents else f"{PRICE} squared" if 2 in exponents else "TA-Lib's own",
        inputs=tuple("source" if column == "price" else column for column in inputs),
    )


def input_columns(names: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns of bars that a function takes, in order; "price" is the strategy's source."""
    columns: list[str] = []
    for key, value in names.items():
        if key == "price" and value == "close":
            columns.append("price")
        else:
            columns += [value] if isinstance(value, str) else list(value)
    return tuple(columns)


def parameter(name: str, default: int | float) -> Parameter:
    """What a TA-Lib parameter may be; TA-Lib's own narrower bounds are asked when it is used."""
    if name.endswith("matype"):
        return Parameter(default, 0, 99, MOVING_AVERAGES)
    if isinstance(default, int):
        return Parameter(default, 1, MAX_INDICATOR_PERIOD_BARS)
    return Parameter(default, -LARGEST_FACTOR, LARGEST_FACTOR)


def call(name: str, arrays: list[Floats], params: Parameters) -> list[Floats]:
    """The outputs of a function as float64[n], NaN before the first value."""
    result = getattr(talib, name)(*arrays, **params)
    outputs = list(result) if isinstance(result, tuple | list) else [result]
    return [mark_warm_up(output, name, params) for output in outputs]


def mark_warm_up(output: Any, name: str, params: Parameters) -> Floats:
    """An output as float64; TA-Lib fills the warm-up of integer outputs with zeros."""
    if output.dtype == np.float64:
        return np.asarray(output)
    values: Floats = output.astype(np.float64)
    values[: lookback(name, params)] = np.nan
    return values


def make_contiguous(array: Floats) -> Floats:
    """An array as TA-Lib reads it."""
    return np.ascontiguousarray(array, dtype=np.float64)


def lookback(name: str, params: Parameters) -> int:
    """The bars before the first value, as TA-Lib counts them."""
    return int(Function(name, **params).lookback)


def price_exponent(name: str, output: str, info: Mapping[str, Any]) -> int:
    """The power of price that an output is proportional to; 0 if none."""
    if (name, output) in WITHOUT_UNIT:
        return 0
    if name in PROPORTIONAL_TO_SQUARE:
        return 2
    return 1 if name in PROPORTIONAL or SAME_SCALE in (info["function_flags"] or ()) else 0


def find_refused_parameters(name: str, inputs: int, params: Parameters) -> str | None:
    """Which parameter TA-Lib itself refuses, if any."""
    if accepts(name, inputs, params):
        return None
    alone = [key for key in params if not accepts(name, inputs, {key: params[key]})]
    values = ", ".join(f"{key} {params[key]}" for key in alone or params)
    return f"TA-Lib does not accept {values}"


def accepts(name: str, inputs: int, params: Parameters) -> bool:
    """Whether TA-Lib takes these parameters; it says so only when it is called."""
    two_bars = np.array([1.0, 2.0])
    try:
        getattr(talib, name)(*[two_bars] * inputs, **params)
    except Exception as error:  # TA-Lib raises nothing narrower
        if "BAD_PARAM" in str(error):
            return False
        raise
    return True
