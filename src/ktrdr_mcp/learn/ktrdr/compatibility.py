"""Whether KTRDR's backtester can compute a strategy's features, and if not, why not."""

from __future__ import annotations

from typing import Final

from ktrdr_mcp.features.registry import Resolved, used_indicators
from ktrdr_mcp.learn.ktrdr.conventions import LARGEST_PERIODS, RATIOS
from ktrdr_mcp.strategy import FuzzyInput, Strategy

MAX_SENTENCES: Final = 6


def incompatibilities(strategy: Strategy) -> list[str]:
    """Why KTRDR cannot compute the features; empty if it can.

    Args:
        strategy: every fuzzy set explicit.
    Returns:
        sentences, at most MAX_SENTENCES.
    """
    used = used_indicators(strategy)
    found = [sentence for each in used for sentence in of_indicator(each)]
    found += repeated_types(used)
    found += [sentence for each in strategy.fuzzy_inputs for sentence in of_input(each)]
    if len(found) > MAX_SENTENCES:
        left = len(found) - MAX_SENTENCES + 1
        return [*found[: MAX_SENTENCES - 1], f"There are {left} more reasons of these kinds."]
    return found


def of_indicator(each: Resolved) -> list[str]:
    """What KTRDR cannot do about one indicator."""
    name, kind = each.spec.name, each.spec.type
    if kind not in LARGEST_PERIODS:
        return [f"Indicator '{name}' is {kind}, which KTRDR does not compute."]
    found = [
        f"Indicator '{name}' has {key} {each.params[key]}; KTRDR takes at most {largest}."
        for key, largest in LARGEST_PERIODS[kind].items()
        if each.params[key] > largest
    ]
    if each.spec.raw and kind in RATIOS:
        found.append(f"Indicator '{name}' is raw; KTRDR always divides close by a moving average.")
    return found


def repeated_types(used: list[Resolved]) -> list[str]:
    """Types that stand twice: KTRDR finds an indicator by a name that is its type."""
    names: dict[str, list[str]] = {}
    for each in used:
        if each.spec.type in LARGEST_PERIODS:
            names.setdefault(each.spec.type, []).append(each.spec.name)
    return [
        f"Indicators {' and '.join(same)} are all {kind}; KTRDR can have one of each type."
        for kind, same in names.items()
        if len(same) > 1
    ]


def of_input(each: FuzzyInput) -> list[str]:
    """What KTRDR cannot do about one indicator's sets."""
    output = each.indicator_output
    if isinstance(each.sets, str):
        return [f"'{output}' is {each.sets}; KTRDR's features are memberships of explicit sets."]
    other = [one for one in each.sets if one.kind != "triangular"]
    return [
        f"Set '{one.name}' of '{output}' is {one.kind}; KTRDR's sets are triangles."
        for one in other
    ]
