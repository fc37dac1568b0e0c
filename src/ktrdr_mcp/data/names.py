"""File names of series: SYMBOL_TIMEFRAME.csv or .parquet, and names that are nearly so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from ktrdr_mcp import paths
from ktrdr_mcp.errors import InvalidName, shown

SUFFIXES: Final = (".csv", ".parquet")  # where both exist, the first is read
MONTH: Final = "1M"  # what others call a month; 1m is a minute


@dataclass(frozen=True)
class SeriesName:
    """What a file's name says.

    Args:
        symbol: in upper case.
        timeframe: a known one.
        suffix: one of SUFFIXES.
    """

    symbol: str
    timeframe: str
    suffix: str

    @property
    def series(self) -> tuple[str, str]:
        """Symbol and timeframe."""
        return self.symbol, self.timeframe

    @property
    def file(self) -> str:
        """The only name under which the series is read."""
        return f"{self.symbol}_{self.timeframe}{self.suffix}"


@dataclass(frozen=True)
class NotRead:
    """A file of the data folder that is meant to be a series and is not read.

    Args:
        name: the file's name, as it stands there.
        meant: the series that it is meant to be.
        why: what keeps it from being read, as words that follow "it is not read: ".
        remedy: a sentence that says what to do.
    """

    name: str
    meant: SeriesName
    why: str
    remedy: str

    def __str__(self) -> str:
        """Both as one text."""
        return f"data/ has {shown(self.name)}, which is not read: {self.why}. {self.remedy}"


def series_name(name: str) -> SeriesName | None:
    """The series that a file's name means, whether or not its letters have the right case."""
    path = PurePath(name)
    symbol, _, timeframe = path.stem.rpartition("_")
    suffix = path.suffix.lower()
    known = timeframe.lower() in paths.TIMEFRAME_MINUTES and timeframe != MONTH
    if suffix not in SUFFIXES or not known:
        return None
    try:
        return SeriesName(paths.symbol(symbol), timeframe.lower(), suffix)
    except InvalidName:
        return None


def misspelt(name: str, meant: SeriesName, is_taken: bool) -> NotRead:
    """A file whose letters have the wrong case.

    Args:
        name: the file's name.
        meant: the series.
        is_taken: whether another file has the right name already.
    """
    why = f"only {meant.file} is, with exactly these upper and lower case letters"
    rename = f"Rename it to {meant.file}."
    taken = f"{meant.file} is there too: keep the one that you want under that name."
    return NotRead(name, meant, why, taken if is_taken else rename)


def leads_outside(name: str, meant: SeriesName) -> NotRead:
    """A symbolic link that is not followed. Whether anything lies at its end is not told."""
    why = "it is a link that leads to no file inside data/"
    return NotRead(name, meant, why, "Put a copy of the file there instead of the link.")
