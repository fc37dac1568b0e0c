"""Checks of one file, wherever it lies: bars or a strategy, without a laboratory."""

from __future__ import annotations

import os
from pathlib import Path

from ktrdr_mcp import paths
from ktrdr_mcp.contract import TrainingConfig, responses
from ktrdr_mcp.data.files import opened, read_table, spacing_notes
from ktrdr_mcp.data.names import SUFFIXES, series_name
from ktrdr_mcp.data.validation import checked_bars
from ktrdr_mcp.durable import storage_errors
from ktrdr_mcp.errors import InvalidRequest, NotFound, shown
from ktrdr_mcp.features import registry
from ktrdr_mcp.limits import MAX_STRATEGY_BYTES
from ktrdr_mcp.research.config import effective
from ktrdr_mcp.strategy import Strategy, parse_strategy
from ktrdr_mcp.strategy.library import decoded


def check_bars(path: Path) -> responses.SeriesSummary:
    """What a file of bars holds.

    Args:
        path: a .csv or .parquet file; its name need not say symbol and timeframe.
    Returns:
        its summary; symbol and timeframe are empty if its name does not say them.
    Raises:
        KtrdrError: there is no such file, or it cannot be used as it stands.
    """
    require_file(path)
    name = shown(path.name).strip("'\"")
    if path.suffix not in SUFFIXES:
        raise InvalidRequest(
            f"{name} is no file of bars by its name.",
            hint=f"Bars are read from files that end in {' or '.join(SUFFIXES)}.",
        )
    symbol, timeframe = series_of(path.name)
    # The decoder of Parquet is a process that gets the name as an argument.
    said = name if name[0].isalnum() else f"File {name}"
    with storage_errors(f"reading {name}"), opened(Path(os.path.realpath(path)), said) as (file, _):
        bars = checked_bars(read_table(file, said), symbol, timeframe or "1m")
    return responses.SeriesSummary(
        symbol=symbol,
        timeframe=timeframe,
        bars=len(bars),
        first_bar=bars.moment(0),
        last_bar=bars.moment(len(bars) - 1),
        source=name,
        notes=spacing_notes(bars) if symbol else [misnamed(path)],
        defects=None,
    )


def series_of(name: str) -> tuple[str, str]:
    """The symbol and timeframe that a file's name says, or two empty texts."""
    meant = series_name(name)
    return meant.series if meant is not None and meant.file == name else ("", "")


def misnamed(path: Path) -> str:
    """What a file must be called to be found."""
    meant = series_name(path.name)
    called = f"SYMBOL_TIMEFRAME{path.suffix}" if meant is None else meant.file
    return f"To be found, it must lie in data/ and be called {called}."


def check_strategy_file(path: Path) -> Strategy:
    """The strategy of a file, once everything that it names is known.

    Raises:
        KtrdrError: there is no such file, or it could not be trained as it stands.
    """
    require_file(path)
    name = paths.strategy_name(path.stem)
    with storage_errors(f"reading strategy {name}"), path.open("rb") as file:
        data = file.read(MAX_STRATEGY_BYTES + 1)
    return check_strategy(decoded(data, name), name)


def check_strategy(text: str, name: str) -> Strategy:
    """The strategy of a text, with its indicators, parameters and training settings checked.

    Args:
        text: the file's YAML.
        name: the strategy's name.
    Raises:
        InvalidStrategy: it could not be trained as it stands.
    """
    strategy = parse_strategy(text, name)
    registry.check(strategy)
    effective(TrainingConfig(), strategy)
    return strategy


def require_file(path: Path) -> None:
    """Raises NotFound unless there is a regular file."""
    name = shown(path.name or str(path))
    with storage_errors(f"looking for {name}"):
        found, is_file = path.exists(), path.is_file()
    if not is_file:
        raise NotFound(
            f"{name} is not a regular file." if found else f"There is no file {name}.",
            hint="Name a file that exists.",
        )
