"""The work of a training worker that keeps a checkpoint after every epoch, for fault tests.

It spreads every search that has more than a few networks.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ktrdr_mcp import limits

if TYPE_CHECKING:
    from ktrdr_mcp.context import Context, Progress
    from ktrdr_mcp.jobs.cluster.actors import SentWork
    from ktrdr_mcp.training import work

ENTRY = "tests.support.eager_work:open_work"
SENT_ENTRY = "tests.support.eager_work:open_sent_work"
HOLDS = "KTRDR_TEST_HOLDS"  # a folder; see HeldWork


def open_work(workspace: str) -> work.TrainingWork | HeldWork:
    """The entry of a worker process."""
    from ktrdr_mcp.training import work

    limits.CHECKPOINT_INTERVAL_S = 0.0  # type: ignore[misc]
    cut_finely()
    opened = work.open_work(workspace)
    return HeldWork(opened) if HOLDS in os.environ else opened


def cut_finely() -> None:
    """Makes parts of small searches, too, with four networks in each."""
    from ktrdr_mcp.training import batches

    batches.BATCH_S = batches.SPREAD_S = 0.0  # type: ignore[misc]
    batches.LEAST_NETWORKS = 4  # type: ignore[misc]


def open_sent_work() -> SentWork:
    """The entry of a worker on a cluster; every checkpoint travels."""
    from ktrdr_mcp.jobs.cluster import actors
    from ktrdr_mcp.training import work

    limits.CHECKPOINT_INTERVAL_S = 0.0  # type: ignore[misc]
    actors.SEND_INTERVAL_S = 0.0  # type: ignore[misc]
    cut_finely()
    return HeldWork(work.open_sent_work())


class HeldWork:
    """Work of which no task ends while a file of its name lies in the folder HOLDS.

    So whatever is killed is killed before the end, however fast or slow the machine is.

    Args:
        work: what is done.
    """

    def __init__(self, work: SentWork | work.TrainingWork) -> None:
        self._work: Any = work

    def run(
        self, spec: dict[str, Any], workdir: Path, context: Context, *bars: Any
    ) -> dict[str, Any]:
        """See jobs.process.Work, and actors.SentWork, which has the bars."""
        hold, report = Path(os.environ[HOLDS]) / spec["task_id"], context.report

        def report_and_wait(progress: Progress) -> None:
            report(progress)
            while progress.epoch >= progress.total_epochs - 1 and hold.exists():
                context.yield_turn()  # raises if the run must stop
                time.sleep(0.01)

        context.report = report_and_wait  # type: ignore[method-assign]
        result: dict[str, Any] = self._work.run(spec, workdir, context, *bars)
        return result

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """See jobs.process.Work."""
        return self._work.call(name, arguments)

    def about(self) -> dict[str, Any]:
        """See jobs.process.Work."""
        found: dict[str, Any] = self._work.about()
        return found
