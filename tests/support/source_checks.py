"""The checks that every data source must pass."""

from __future__ import annotations

import numpy as np

from ktrdr_mcp.data.bars import Bars, fingerprint
from ktrdr_mcp.data.catalog import Source
from ktrdr_mcp.data.timestamps import EARLIEST_NS
from ktrdr_mcp.data.validation import ROUNDING
from ktrdr_mcp.errors import DataNotFound

ABSENT_SYMBOL = "NO-SUCH-SYMBOL"


def check_source(source: Source) -> None:
    """Checks a source whose series are all sound.

    Each series has the names it was asked by, sound bars in arrays that cannot be written to, and
    is the same when it is loaded again; a series that is not there is DataNotFound.

    Args:
        source: any data source.
    Raises:
        AssertionError: it breaks one of these promises.
    """
    series = source.series()
    for symbol, timeframe in sorted(series):
        loaded = source.load(symbol, timeframe)
        bars = loaded.bars
        require((bars.symbol, bars.timeframe) == (symbol, timeframe), "it renames its series")
        require(bool(loaded.source), "it does not say where the bars lie")
        check_bars(bars)
        again = source.load(symbol, timeframe).bars
        require(fingerprint(again) == fingerprint(bars), "loading twice gives two results")
    require((ABSENT_SYMBOL, "1d") not in series, "it claims every symbol")
    try:
        source.load(ABSENT_SYMBOL, "1d")
    except DataNotFound:
        return
    raise AssertionError("An absent series is not DataNotFound.")


def check_bars(bars: Bars) -> None:
    """Checks what every consumer of bars relies on. Raises AssertionError."""
    require(len(bars) > 0, "there are no bars")
    require(bars.time.dtype == np.int64, "times are not int64")
    require(bool((bars.time >= EARLIEST_NS).all()), "a time is missing")
    require(bool((np.diff(bars.time) > 0).all()), "times do not increase")
    for column in bars.columns():
        require(column.dtype == np.float64, "a column is not float64")
        require(column.shape == bars.time.shape, "columns differ in length")
        require(not column.flags.writeable, "an array can be written to")
        require(bool(np.isfinite(column).all()), "a value is not finite")
    low, high = bars.low * (1 - ROUNDING), bars.high * (1 + ROUNDING)
    for price in (bars.open, bars.close):
        require(bool(((low <= price) & (price <= high)).all()), "a price lies outside low to high")
    require(bool((low > 0).all()), "a price is not positive")
    require(bool((bars.volume >= 0).all()), "a volume is negative")


def require(condition: bool, otherwise: str) -> None:
    """Raises AssertionError with the given words unless the condition holds."""
    if not condition:
        raise AssertionError(f"This source is not sound: {otherwise}.")
