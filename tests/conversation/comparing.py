"""The recording: written so that a person can read a difference, and compared with another."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("recorded.json")
WIDTH = 100
CPUS_DIFFER = 1e-4  # relative; on one machine figures are the same to the last bit
ROUNDED = 2e-6  # absolute, for figures that are shown with six decimals
SHOWN = 40
MADE_ON = "made on"
HASH = re.compile("[0-9a-f]{64}")
ANY_HASH = "<hash of other bits>"


def written(value: Any, indent: int = 0) -> str:
    """JSON in which whatever fits stands on one line."""
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + indent <= WIDTH or not isinstance(value, dict | list) or not value:
        return line
    inner = " " * (indent + 1)
    if isinstance(value, dict):
        parts = [
            f"{inner}{json.dumps(name, ensure_ascii=False)}: {written(each, indent + 1)}"
            for name, each in value.items()
        ]
    else:
        parts = [inner + written(each, indent + 1) for each in value]
    marks = "{}" if isinstance(value, dict) else "[]"
    return f"{marks[0]}\n" + ",\n".join(parts) + f"\n{' ' * indent}{marks[1]}"


def machine() -> str:
    """What decides the last bits of a training: the processor and the libraries, as a hash."""
    processors = Path("/proc/cpuinfo")
    about = processors.read_text(encoding="utf-8") if processors.exists() else platform.processor()
    models = {line for line in about.splitlines() if line.startswith(("model name", "flags"))}
    versions = [metadata.version(name) for name in ("torch", "numpy", "ta-lib", "safetensors")]
    words = [platform.machine(), *sorted(models), *versions]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def recorded() -> dict[str, Any]:
    """What is kept; the hashes only on a machine that makes the same bits."""
    kept = json.loads(RECORDED.read_text(encoding="utf-8"))
    made_on = kept.pop(MADE_ON)
    return kept if made_on == machine() else without_hashes(kept)


def record(replies: dict[str, Any]) -> None:
    """Keeps replies in the place of those that there were."""
    RECORDED.write_text(written({MADE_ON: machine(), **replies}) + "\n", encoding="utf-8")


def without_hashes(value: Any) -> Any:
    """A recording that fits whatever stands for a hash."""
    if isinstance(value, dict):
        return {name: without_hashes(each) for name, each in value.items()}
    if isinstance(value, list):
        return [without_hashes(each) for each in value]
    return ANY_HASH if isinstance(value, str) and HASH.fullmatch(value) else value


def differences(before: Any, now: Any, at: str = "") -> Iterator[str]:
    """Where two recordings differ, one sentence each.

    Args:
        before: the recorded value.
        now: the value of this run.
        at: the place of both.
    """
    if isinstance(before, dict) and isinstance(now, dict):
        yield from of_objects(before, now, at)
    elif isinstance(before, list) and isinstance(now, list):
        if len(before) != len(now):
            yield f"{at}: {len(before)} items before, {len(now)} now"
            yield f"{at}: {short(before)} before, {short(now)} now"
        for number, (one, other) in enumerate(zip(before, now, strict=False)):
            yield from differences(one, other, f"{at}[{number}]")
    elif not same(before, now):
        yield f"{at}: {short(before)} before, {short(now)} now"


def of_objects(before: dict[str, Any], now: dict[str, Any], at: str) -> Iterator[str]:
    """Where two objects differ, in fields, their order and their values."""
    for name in before.keys() - now.keys():
        yield f"{at}: lost {name!r}, which was {short(before[name])}"
    for name in now.keys() - before.keys():
        yield f"{at}: gained {name!r}, which is {short(now[name])}"
    common = [name for name in before if name in now]
    if common != [name for name in now if name in before]:
        yield f"{at}: the fields come in another order: {[*before]} before, {[*now]} now"
    for name in common:
        yield from differences(before[name], now[name], f"{at} > {name}" if at else name)


def same(before: Any, now: Any) -> bool:
    """Whether two values are the same; figures may differ a little between processors."""
    if type(before) is float or type(now) is float:
        numbers = all(type(each) in (int, float) for each in (before, now))
        return numbers and math.isclose(before, now, rel_tol=CPUS_DIFFER, abs_tol=ROUNDED)
    if before == ANY_HASH and isinstance(now, str):
        return HASH.fullmatch(now) is not None
    return type(before) is type(now) and before == now


def short(value: Any) -> str:
    """A value in a sentence."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}..."


def told(found: list[str]) -> str:
    """The first differences, for the message of a test."""
    more = [f"... and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return "\n".join([f"{len(found)} differences from the recording:", *found[:SHOWN], *more])
