"""Indicators and strategies: listed, read, checked, tried dry and saved."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from ktrdr_mcp.data.catalog import BarCatalog
from ktrdr_mcp.data.timestamps import format_timestamp
from ktrdr_mcp.errors import InvalidRequest, printable
from ktrdr_mcp.features import registry
from ktrdr_mcp.features.build import feature_names
from ktrdr_mcp.features.registry import check
from ktrdr_mcp.schemas import requests, responses
from ktrdr_mcp.schemas.config import TrainingConfig
from ktrdr_mcp.store.research import StoredLook
from ktrdr_mcp.store.task_row import TaskRow
from ktrdr_mcp.strategy.catalog import StrategyCatalog
from ktrdr_mcp.strategy.form import Strategy
from ktrdr_mcp.strategy.writing import file_text, text_of
from ktrdr_mcp.training.config import effective
from ktrdr_mcp.training.look import DryRun, dry_run
from ktrdr_mcp.training.spec import SeriesSpec
from ktrdr_mcp.training.strategies import check_strategy, list_strategies, warnings

SHOWN_DIGITS: Final = 5  # significant, of ranges


def indicator_page(request: requests.ListIndicators) -> responses.IndicatorList:
    """A page of the indicators of a group or a name. Raises NotFound."""
    found = registry.matching(request.group, request.name)
    stop = request.offset + request.limit
    rows = [
        responses.IndicatorRow.model_validate(plain(each)) for each in found[request.offset : stop]
    ]
    return responses.IndicatorList(
        indicators=rows,
        groups={group: len(types) for group, types in registry.groups().items()},
        returned=len(rows),
        has_more=len(found) > stop,
    )


def plain(one: registry.ListedIndicator) -> dict[str, Any]:
    """An indicator's fields in JSON's types."""
    values = asdict(one)
    return {name: list(each) if isinstance(each, tuple) else each for name, each in values.items()}


def strategy_page(
    strategies: StrategyCatalog, request: requests.ListStrategies, task: TaskRow | None
) -> responses.StrategyList:
    """A page of the strategies, or the text of the one that is named.

    Args:
        strategies: where they lie.
        request: which.
        task: whose strategy is wanted as it was used.
    Raises:
        KtrdrError: there is none of the name.
    """
    if task is not None:
        used = file_text(Strategy.from_dict(task.spec["strategy"]))
        return responses.StrategyList(strategies=[], text=used)
    found = list(list_strategies(strategies))
    text = None
    if request.name is not None:
        called = strategies.find_name(request.name)
        text = escape_text(strategies.text(called, request.version))
        found = [each for each in found if each.name == called]
    stop = request.offset + request.limit
    rows = [responses.ListedStrategy(**asdict(each)) for each in found[request.offset : stop]]
    return responses.StrategyList(
        strategies=rows, returned=len(rows), has_more=len(found) > stop, text=text
    )


def escape_text(text: str) -> str:
    """A file's text as it stands; characters that could hide or mislead are escaped."""
    return printable(text, keep="\n\t\r")


def save_strategy(
    strategies: StrategyCatalog, sources: BarCatalog, request: requests.SaveStrategy
) -> tuple[responses.StrategySaved, StoredLook | None]:
    """Checks a strategy, looks at its features on a series, and writes it unless it is a dry run.

    Args:
        strategies: where it goes.
        sources: where bars come from.
        request: what was sent.
    Returns:
        the reply, and the bars that were looked at.
    Raises:
        KtrdrError: everything that is wrong; nothing was written.
    """
    sent = request.strategy
    text = sent if isinstance(sent, str) else text_of({"name": request.name, **sent})
    strategy = check_strategy(text, request.name)
    if (request.symbol is None) != (request.timeframe is None):
        missing = "symbol" if request.symbol is None else "timeframe"
        raise InvalidRequest(
            f"{missing} is missing: a series has both.", hint=f"Send {missing}.", field=missing
        )
    tried = None
    if request.symbol is not None and request.timeframe is not None:
        series = SeriesSpec(request.symbol, request.timeframe, None, None, days="file")
        tried = dry_run(strategy, effective(TrainingConfig(), strategy), series, sources)
    version, saved, path = None, False, None
    if not request.dry_run:
        version, saved = strategies.save(request.name, text)
        path = strategies.workspace.relative(strategies.workspace.strategy_file(request.name))
    reply = responses.StrategySaved(
        name=request.name,
        saved=saved,
        version=version,
        path=path,
        features=len(feature_names(strategy)),
        warm_up_bars=max((each.warm_up_bars for each in check(strategy)), default=0),
        warnings=warnings(strategy),
        on_series=on_series(tried) if tried else None,
    )
    return reply, tried.look if tried else None


def on_series(tried: DryRun) -> responses.StrategyOnSeries:
    """What a dry run shows."""
    look = tried.look
    return responses.StrategyOnSeries(
        symbol=look.symbol,
        timeframe=look.timeframe,
        first_bar=format_timestamp(look.first),
        last_bar=format_timestamp(tried.last_bar),
        rows=tried.rows,
        warm_up_bars=tried.warm_up_bars,
        class_shares=tried.class_shares,
        inputs=[
            responses.InputLook(
                input=each.input,
                low=significant(each.low),
                median=significant(each.median),
                high=significant(each.high),
                on=each.on,
            )
            for each in tried.inputs
        ],
        constant=tried.constant,
        alike=[f"{one} {value:+.3f} {other}" for one, other, value in tried.alike],
    )


def significant(value: float) -> float:
    """A figure with as many digits as a reader compares."""
    return float(f"{value:.{SHOWN_DIGITS}g}")
