"""The work of a training worker that keeps a checkpoint after every epoch, for fault tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ktrdr_mcp import limits

if TYPE_CHECKING:
    from ktrdr_mcp.training import work

ENTRY = "tests.support.eager_work:open_work"
SENT_ENTRY = "tests.support.eager_work:open_sent_work"


def open_work(workspace: str) -> work.TrainingWork:
    """The entry of a worker process."""
    from ktrdr_mcp.training import work

    limits.CHECKPOINT_INTERVAL_S = 0.0  # type: ignore[misc]
    return work.open_work(workspace)


def open_sent_work() -> work.SentWork:
    """The entry of a worker on a cluster; every checkpoint travels."""
    from ktrdr_mcp.jobs.cluster import actors
    from ktrdr_mcp.training import work

    limits.CHECKPOINT_INTERVAL_S = 0.0  # type: ignore[misc]
    actors.SEND_INTERVAL_S = 0.0  # type: ignore[misc]
    return work.open_sent_work()
