"""The one check of a strategy file: what lists, `strategies check`, doctor and trainings say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ktrdr_mcp.errors import InvalidRequest, InvalidStrategy, KtrdrError, printable
from ktrdr_mcp.features.build import find_ineffective, remarks
from ktrdr_mcp.features.registry import problems
from ktrdr_mcp.schemas.config import TrainingConfig
from ktrdr_mcp.strategy.catalog import StrategyCatalog
from ktrdr_mcp.strategy.form import Strategy
from ktrdr_mcp.strategy.parsing import draft_strategy, refusal
from ktrdr_mcp.training.config import effective


def check_strategy(text: str, name: str) -> Strategy:
    """The strategy of a text, once everything that it names is known.

    Args:
        text: the file's YAML.
        name: the strategy's name.
    Raises:
        InvalidName: the name is not well formed.
        InvalidStrategy: it could not be trained as it stands; says everything that is wrong.
    """
    draft = draft_strategy(text, name)
    draft.report.problems += problems(draft.strategy, draft.unread)
    try:
        effective(TrainingConfig(), draft.strategy)
    except InvalidRequest as error:  # settings that do not go together
        draft.report.problems.append(
            error
            if isinstance(error, InvalidStrategy)
            else InvalidStrategy(error.message, hint=error.hint, field=error.field)
        )
    if draft.report.problems:
        raise refusal(name, draft.report)
    return draft.strategy


def read_strategy(strategies: StrategyCatalog, name: str) -> Strategy:
    """A strategy of a workspace, checked.

    Raises:
        InvalidName: the name is not well formed.
        StrategyNotFound: no file has this name; the hint lists those there are.
        InvalidStrategy: it could not be trained as it stands; says everything that is wrong.
    """
    called = strategies.find_name(name)
    return check_strategy(strategies.text(called), called)


def warnings(strategy: Strategy) -> list[str]:
    """What of a checked strategy has no effect, what it computes and what differs elsewhere."""
    places = ", ".join(find_ineffective(strategy))
    ignored = f"These parts of strategy '{strategy.name}' have no effect: {places}."
    return [*([ignored] if places else []), *remarks(strategy)]


@dataclass(frozen=True)
class Listed:
    """A strategy in a list; one that cannot be used has defects and no more."""

    name: str
    description: str
    indicators: list[str]
    defects: str | None  # everything that is wrong with it, and the remedies
    warnings: list[str]  # as a training says them


def list_strategies(strategies: StrategyCatalog) -> Iterator[Listed]:
    """Every strategy of a workspace, and every file that would be one under another name."""
    for name in strategies.names():
        try:
            found = read_strategy(strategies, name)
        except KtrdrError as error:
            yield Listed(name, "", [], f"{error.message} {error.hint}", [])
        else:
            indicators = [printable(each.name) for each in found.indicators]
            description = printable(found.description, keep="\n")
            said = [printable(each) for each in warnings(found)]
            yield Listed(name, description, indicators, None, said)
    for file, remedy in strategies.find_misnamed():
        yield Listed(printable(file), "", [], remedy, [])
