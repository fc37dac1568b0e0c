"""The bars of one training on their way to a worker that does not see the workspace.

Each series is a Parquet file as data.stored writes it; what a catalog says of it beside the bars
travels as JSON, so that a training there reads the same as here.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ktrdr_mcp.data import stored
from ktrdr_mcp.data.bars import COLUMNS, Bars, DayRule, LoadedBars
from ktrdr_mcp.data.catalog import BarReader
from ktrdr_mcp.data.series import Reach
from ktrdr_mcp.errors import DataNotFound
from ktrdr_mcp.training.handover import data_state
from ktrdr_mcp.training.prepare import load_bars
from ktrdr_mcp.training.spec import TrainingSpec


@dataclass(frozen=True)
class SentSeries:
    """What is said of a series beside its bars; see data.bars.LoadedBars."""

    symbol: str
    timeframe: str
    version: str | None  # that the training asks for
    state: str | None  # see BarReader.state_of
    source: str
    notes: list[str]
    standing: list[str]
    dataset: str | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def decides_bars(raw_spec: Mapping[str, Any], sources: BarReader) -> str | None:
    """What tells the bars of a training from those of another; no file is read.

    Args:
        raw_spec: a `TrainingSpec` as JSON.
        sources: where bars come from.
    Returns:
        None where a source does not know.
    """
    spec = TrainingSpec.from_dict(raw_spec)
    state = data_state(spec, sources)
    if state is None:
        return None
    strategies = [each.to_dict() for each in spec.strategies]  # for their indicators' warm-up
    return json.dumps([[one.to_dict() for one in spec.series], strategies, state])


def bars_to_send(
    raw_spec: Mapping[str, Any], sources: BarReader
) -> tuple[list[SentSeries], list[bytes]]:
    """Loads the series of a training; blocks.

    Args:
        raw_spec: a `TrainingSpec` as JSON.
        sources: where bars come from.
    Returns:
        what is said of each series, and its bars as Parquet.
    Raises:
        KtrdrError: there are none, or they are not sound.
    """
    spec = TrainingSpec.from_dict(raw_spec)
    said, files = [], []
    for one in spec.series:
        state = sources.state_of(one.symbol, one.timeframe)  # of before they are read
        loaded = load_bars(one, spec, sources)
        about = (loaded.source, loaded.notes, list(loaded.standing), loaded.dataset)
        said.append(SentSeries(one.symbol, one.timeframe, one.dataset, state, *about))
        file = io.BytesIO()
        stored.frame_of(loaded.bars).write_parquet(file, compression="zstd")
        files.append(file.getvalue())
    return said, files


class SentBars:
    """The series that came with a training; a data.catalog.BarReader.

    Args:
        said: of each series, as JSON.
        files: its bars, as Parquet; read when they are asked for.
    """

    def __init__(self, said: Sequence[Mapping[str, Any]], files: Sequence[bytes]) -> None:
        found = [SentSeries(**each) for each in said]
        self._sent = {
            (one.symbol, one.timeframe, one.version): (one, file)
            for one, file in zip(found, files, strict=True)
        }
        self._states = {(one.symbol, one.timeframe): one.state for one in found}

    def load(
        self,
        symbol: str,
        timeframe: str,
        rule: DayRule = "file",
        reach: Reach | None = None,
        dataset: str | None = None,
    ) -> LoadedBars:
        """See BarReader; rule and reach were those of the training when they were sent."""
        try:
            one, file = self._sent[symbol, timeframe, dataset]
        except KeyError:
            raise DataNotFound(
                f"The bars of {symbol} {timeframe} did not come with this training.",
                hint="Start it again; if it fails again, report it with the program's log.",
            ) from None
        return LoadedBars(read(one, file), one.source, one.notes, tuple(one.standing), one.dataset)

    def state_of(self, symbol: str, timeframe: str) -> str | None:
        """See BarReader."""
        return self._states.get((symbol, timeframe))


def read(one: SentSeries, file: bytes) -> Bars:
    """The bars of one series. Raises DataInvalid."""
    table = stored.read_bars(io.BytesIO(file), f"{one.symbol} {one.timeframe}")
    columns = (table.columns[name] for name in COLUMNS)
    offset = table.offset if table.offset.any() else None
    return Bars(one.symbol, one.timeframe, table.time, *columns, offset=offset)
