"""The time that a training is tested on: what the ledger compares to find its family."""

from __future__ import annotations

from collections.abc import Sequence

from ktrdr_mcp.data.bars import width_ns
from ktrdr_mcp.data.moments import moment_text
from ktrdr_mcp.learn.split import Split
from ktrdr_mcp.research.dataset import Dataset


def tested_window(dataset: Dataset, splits: Sequence[Split]) -> tuple[str, str]:
    """From the opening of the first tested bar to the close of the last that a label depends on.

    Labels reach beyond the last tested bar, and a wide bar beyond its own opening: another series
    of the same symbol that is tested there shares what happened.

    Args:
        dataset: the bars and labels.
        splits: every network's, all on this dataset.
    Returns:
        two moments, ISO 8601 UTC.
    """
    bars = dataset.bars
    first = min(int(split.test[0]) for split in splits)
    last = max(int(dataset.end[split.test].max()) for split in splits)
    close = int(bars.time[last]) + width_ns(bars.timeframe)
    return bars.moment(first), moment_text(close)
