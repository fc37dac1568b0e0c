"""What a search varies: the form of a space of settings, and everything that may be wrong with it.

A setting has a dotted name, such as learning_rate, labels.horizon or early_stopping.patience. It
varies over a list of values or over a range `{low, high, log}`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import BaseModel, StringConstraints, ValidationError

from ktrdr_mcp import limits, paths
from ktrdr_mcp.errors import InvalidRequest, KtrdrError, did_you_mean, quote
from ktrdr_mcp.schemas.parsing import ReadAs, as_meant, explain, nested_models

Setting = Annotated[str, StringConstraints(min_length=1, max_length=64)]

STRATEGY: Final = "strategy"
SHARED: Final[Mapping[str, str]] = {  # settings that cannot vary, and why
    "validation_split": "all candidates are compared on the same rows",
    "test_split": "all candidates are compared on the same rows",
    "walk_forward": "all folds share one set of candidates",
    "control": "it belongs to the whole training",
    "device": "it belongs to the whole training",
    "model_type": "there is one",
    "seed": "use config.seeds to train each candidate with several",
    "seeds": "it belongs to the whole training",
    "sweep": "it is the search itself",
}
RANGE_FIELDS: Final = ("low", "high", "log")
MAX_SENTENCES: Final = 8


class SpaceProblems(Exception):
    """All that is wrong with a space; each a sentence."""

    def __init__(self, sentences: Sequence[str], field: str) -> None:
        super().__init__(*sentences)
        self.sentences, self.field = list(sentences), field

    def error(self) -> InvalidRequest:
        """The same as one error."""
        told = self.sentences[:MAX_SENTENCES]
        left = len(self.sentences) - len(told)
        return InvalidRequest(
            " ".join([*told, *([f"There are {left} more problems."] if left else [])]),
            hint='A setting varies over a list, such as "batch_size": [16, 32], or a range, such as'
            ' "learning_rate": {"low": 0.0001, "high": 0.01, "log": true}.',
            field=self.field,
        )


def check_space(vary: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """A space in its one form, values in their settings' own types.

    Args:
        vary: lists and ranges by the name of their setting.
        model: of the settings.
    Raises:
        SpaceProblems: with all that is wrong.
    """
    known, problems, checked = known_settings(model), [], {}
    for name, over in vary.items():
        where = f"config.sweep.vary.{quote(name).strip(chr(39))}"
        found: list[str] = list(name_problems(name, vary, known, where))
        if not found:
            checked[name] = check_entry(name, over, model, where, found)
        problems += found
    if problems:
        raise SpaceProblems(problems, "config.sweep.vary")
    return checked


def check_settings(
    include: Sequence[Mapping[str, Any]], model: type[BaseModel]
) -> list[dict[str, Any]]:
    """Sets of settings under dotted names. Raises SpaceProblems."""
    known, problems, checked = known_settings(model), [], []
    for place, given in enumerate(include):
        settings = dict(flatten(given, known))
        values = {}
        for name, value in settings.items():
            where = f"config.sweep.include[{place}].{quote(name).strip(chr(39))}"
            found: list[str] = list(name_problems(name, settings, known, where))
            if not found:
                values[name] = check_value(name, value, model, where, found)
            problems += found
        if not settings:
            problems.append(f"config.sweep.include[{place}] is empty; your own settings are tried.")
        checked.append(values)
    if problems:
        raise SpaceProblems(problems, "config.sweep.include")
    return checked


def known_settings(model: type[BaseModel]) -> list[str]:
    """The dotted names of all settings that may vary."""
    names = [STRATEGY]
    for name, field in model.model_fields.items():
        if name in SHARED:
            continue
        inner = [*nested_models(field.annotation)]
        inner += [note.model for note in field.metadata if isinstance(note, ReadAs)]
        names += [f"{name}.{each}" for one in inner for each in one.model_fields]
        if name != "labels":
            names.append(name)
    return names


def flatten(given: Mapping[str, Any], known: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Settings under dotted names; an object is taken apart where its parts are known."""
    for name, value in given.items():
        if isinstance(value, Mapping) and any(each.startswith(f"{name}.") for each in known):
            yield from ((f"{name}.{part}", inner) for part, inner in value.items())
        else:
            yield name, value


def name_problems(
    name: str, beside: Mapping[str, Any], known: Sequence[str], where: str
) -> Iterator[str]:
    """What is wrong with a setting's name; nothing if it may vary."""
    if name in SHARED:
        yield f"{where} cannot vary: {SHARED[name]}."
    elif name not in known:
        yield f"{where} is not a known setting.{did_you_mean(name, known)}"
    parent = name.partition(".")[0]
    if parent != name and parent in beside:
        yield f"{where} varies beside {parent}, of which it is a part."


def check_entry(
    name: str, over: Any, model: type[BaseModel], where: str, problems: list[str]
) -> Any:
    """What one setting varies over, in its one form; adds what is wrong to the problems."""
    if isinstance(over, str):
        over = decode_json(over)
    if isinstance(over, Mapping):
        return check_range(name, over, model, where, problems)
    if isinstance(over, list):
        return check_list(name, over, model, where, problems)
    problems.append(f"{where} is {quote(over)}, but it must be a list or a range.")
    return None


def decode_json(text: str) -> Any:
    """The value of JSON text, or the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def check_list(
    name: str, values: list[Any], model: type[BaseModel], where: str, problems: list[str]
) -> list[Any]:
    """Values to choose from."""
    if not values:
        problems.append(f"{where} is empty: there is nothing to choose from.")
    if len(values) > limits.MAX_SPACE_VALUES:
        problems.append(f"{where} has {len(values):,} values; {limits.MAX_SPACE_VALUES} are most.")
    before = len(problems)
    chosen = values[: limits.MAX_SPACE_VALUES]
    checked = [check_value(name, each, model, where, problems) for each in chosen]
    seen = [text_of(each, name) for each in checked]
    if len(problems) == before and len(set(seen)) < len(seen):
        twice = next(each for each in seen if seen.count(each) > 1)
        problems.append(f"{where} names {twice} twice.")
    return checked


def text_of(value: Any, name: str) -> str:
    """A value as text that is the same for equal ones; names of strategies ignore case."""
    text = json.dumps(value, sort_keys=True)
    return text.lower() if name == STRATEGY else text


def check_range(
    name: str, over: Mapping[str, Any], model: type[BaseModel], where: str, problems: list[str]
) -> dict[str, Any]:
    """A range of numbers."""
    if unknown := [key for key in over if key not in RANGE_FIELDS]:
        problems.append(f"{where} takes low, high and log, not {quote(unknown[0])}.")
    if missing := [key for key in ("low", "high") if not is_number(over.get(key))]:
        problems.append(f"{where} needs {' and '.join(missing)} as finite numbers.")
    log = over.get("log", False)
    if not isinstance(log, bool):
        problems.append(f"{where}.log is {quote(log)}, but it must be true or false.")
    if missing:
        return {}
    low, high = (check_value(name, over[key], model, where, problems) for key in ("low", "high"))
    if not (is_number(low) and is_number(high)):
        return {}
    if low >= high:
        problems.append(f"{where} is inverted or empty: low {low:g} is not below high {high:g}.")
    if log is True and low <= 0:
        problems.append(f"{where} cannot be logarithmic: low {low:g} is not above 0.")
    return {"low": low, "high": high, "log": log}


def is_number(value: object) -> bool:
    """Whether it is a finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_value(
    name: str, value: Any, model: type[BaseModel], where: str, problems: list[str]
) -> Any:
    """One value of a setting in the setting's own type; adds what is wrong to the problems."""
    if name == STRATEGY:
        return check_strategy(value, where, problems)
    top, _, inner = name.partition(".")
    raw = as_meant(model, {top: {inner: value} if inner else value})
    try:
        found = model.model_validate(raw).model_dump(exclude_unset=True)[top]
    except ValidationError as error:
        details = error.errors(include_url=False)
        message = explain(model, details).message
        problems.append(f"{where}: {message}")
        return None
    except KeyError:  # null where it has no meaning
        problems.append(f"{where} is null, which it cannot be.")
        return None
    return found[inner] if inner else found


def check_strategy(value: Any, where: str, problems: list[str]) -> Any:
    """The name of a strategy."""
    try:
        return paths.strategy_name(value)
    except KtrdrError as error:
        problems.append(f"{where}: {error.message}")
    except TypeError:
        problems.append(f"{where} is {quote(value)}, but it must be the name of a strategy.")
    return None
