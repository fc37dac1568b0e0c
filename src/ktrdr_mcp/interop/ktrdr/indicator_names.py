"""KTRDR's names of indicators, parameters and outputs, and what they are called here.

An indicator without the prefix `talib.` is one of KTRDR's own (rsi, sma, ema, macd) or the TA-Lib
function that KTRDR's name means. Its parameters may have KTRDR's names or TA-Lib's. One output has
the indicator's own name, several are `{name}_{output}` with TA-Lib's name of the output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ktrdr_mcp.features.indicator import INDICATORS
from ktrdr_mcp.features.registry import find
from ktrdr_mcp.features.talib_functions import PREFIX, function_names
from ktrdr_mcp.strategy.form import IndicatorSpec
from ktrdr_mcp.strategy.sections import Values

CLASS_NAMES: Final = {
    "rsiindicator": "rsi",
    "simplemovingaverage": "sma",
    "exponentialmovingaverage": "ema",
    "macdindicator": "macd",
}
FUNCTIONS: Final = {  # where TA-Lib's name is not KTRDR's in upper case
    "bollinger_bands": "BBANDS",
    "bollingerbands": "BBANDS",
    "bollinger": "BBANDS",
    "stochastic": "STOCH",
    "stochastic_rsi": "STOCHRSI",
    "stoch_rsi": "STOCHRSI",
    "williams_r": "WILLR",
    "williamsr": "WILLR",
    "rate_of_change": "ROC",
    "momentum": "MOM",
    "ad_line": "AD",
    "parabolic_sar": "SAR",
    "ultimate_oscillator": "ULTOSC",
}
# TA-Lib's parameters by KTRDR's names, and what KTRDR takes where a file says nothing.
Names = Mapping[str, tuple[str, ...]]
PERIOD: Final[Names] = {"period": ("timeperiod",), "periods": ("timeperiod",)}
LINES: Final[Names] = {
    "fast_period": ("fastperiod",),
    "slow_period": ("slowperiod",),
    "signal_period": ("signalperiod",),
    "fast": ("fastperiod",),
    "slow": ("slowperiod",),
    "signal": ("signalperiod",),
}
PARAMETERS: Final[Mapping[str, Names]] = {
    "BBANDS": {
        **PERIOD,
        **dict.fromkeys(("std_dev", "multiplier", "num_std", "std"), ("nbdevup", "nbdevdn")),
    },
    "STOCH": {
        **dict.fromkeys(("k_period", "period"), ("fastk_period",)),
        **dict.fromkeys(("smooth", "smooth_k"), ("slowk_period",)),
        "d_period": ("slowd_period",),
    },
    "STOCHRSI": {
        **dict.fromkeys(("period", "rsi_period"), ("timeperiod",)),
        **dict.fromkeys(("k_period", "stoch_period"), ("fastk_period",)),
        "d_period": ("fastd_period",),
    },
}
DEFAULTS: Final[Mapping[str, Mapping[str, int | float]]] = {
    "BBANDS": {"timeperiod": 20, "nbdevup": 2.0, "nbdevdn": 2.0},
    "STOCH": {"fastk_period": 14, "slowk_period": 3, "slowd_period": 3},
    "STOCHRSI": {"timeperiod": 14, "fastk_period": 14, "fastd_period": 3},
    "CCI": {"timeperiod": 20},
}
OWN_PARAMETERS: Final[Mapping[str, Mapping[str, str]]] = {  # of KTRDR's later releases
    "macd": {"fast": "fast_period", "slow": "slow_period", "signal": "signal_period"},
    **{name: {"periods": "period"} for name in ("rsi", "sma", "ema")},
}
OUTPUTS: Final = {  # KTRDR's v3 names of outputs
    "upper": "upperband",
    "middle": "middleband",
    "lower": "lowerband",
    "k": "slowk",
    "d": "slowd",
}
RESERVED: Final = ("name", "type", "params", "raw", "source")
WITHOUT_PERIOD: Final = ("OBV", "AD")  # KTRDR's files say one, and it changes nothing


def rename(entry: Mapping[str, Any], name: str) -> Values:
    """An entry of indicators with the type and parameters that are known here.

    Args:
        entry: of the file, parameters flat or under params.
        name: the indicator's.
    Returns:
        the entry; an unknown type stays as it is.
    """
    made = dict(entry)
    said = str(made.get("type", name))
    if said.startswith(PREFIX):
        return made
    kind = CLASS_NAMES.get(said.lower(), said.lower())
    if kind in INDICATORS:
        made["type"] = kind
        own = OWN_PARAMETERS.get(kind, {})
        rename_parameters(made, {old: (new,) for old, new in own.items()})
        return made
    function = FUNCTIONS.get(kind, kind.upper())
    if function not in function_names():
        return made
    made["type"] = f"{PREFIX}{function}"
    rename_parameters(made, PARAMETERS.get(function, {**PERIOD, **LINES}))
    complete_parameters(made, function)
    return made


def complete_parameters(made: Values, function: str) -> None:
    """Gives an entry the numbers that its TA-Lib function takes, with KTRDR's defaults.

    Args:
        made: the entry, with TA-Lib's names.
        function: TA-Lib's name of it.
    """
    allowed = find(IndicatorSpec("x", f"{PREFIX}{function}")).parameters
    params = made.get("params")
    for values in (made, params):
        if not isinstance(values, dict):
            continue
        if function in WITHOUT_PERIOD:
            values.pop("timeperiod", None)
        for one in [one for one in values if one in allowed]:
            values[one] = in_kind(values[one], allowed[one].default)
    if params is None or isinstance(params, dict):
        given = {*made, *(params or ())}
        defaults = DEFAULTS.get(function, {})
        missing = {key: value for key, value in defaults.items() if key not in given}
        made["params"] = {**(params or {}), **missing}


def in_kind(value: Any, default: int | float) -> Any:
    """A whole number that the file writes with a point, where a whole number belongs."""
    if isinstance(default, int) and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def rename_parameters(made: Values, names: Names) -> None:
    """Gives the parameters of an entry, flat and under params, the names that are known here."""
    names = {**names, "data_source": ("source",)}
    if isinstance(made.get("params"), Mapping):
        made["params"] = name_parameters(made["params"], names)
    flat = {key: value for key, value in made.items() if key not in RESERVED}
    for key in flat:
        del made[key]
    made.update(name_parameters(flat, names))


def name_parameters(values: Mapping[str, Any], names: Names) -> Values:
    """Parameters under the names that are known here."""
    return {new: value for key, value in values.items() for new in names.get(key, (key,))}


def find_output(reference: str, types: Mapping[str, str]) -> str:
    """What an output is called here that a v3 file names as `indicator` or `indicator.output`.

    Args:
        reference: in the file.
        types: of its indicators by name.
    """
    name, _, output = reference.partition(".")
    if not output or types.get(name) == "macd":
        return name
    return f"{name}_{OUTPUTS.get(output, output)}"
