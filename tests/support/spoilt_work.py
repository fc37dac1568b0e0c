"""The work of a training worker in which one step goes wrong, as a plan beside the workspace says.

The plan is JSON in the file that PLAN names: {"step", "mode"} for the Nth step by which the worker
writes, {"limit_bytes"} for what its address space may grow by. The first run that finds it takes it
away, so that the next attempt goes well, unless the plan says {"stays": true}.
"""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.support import eager_work
from tests.support.fault_steps import Steps

if TYPE_CHECKING:
    from ktrdr_mcp.context import Context
    from ktrdr_mcp.training.work import TrainingWork

ENTRY: Final = "tests.support.spoilt_work:open_work"
PLAN: Final = "KTRDR_TEST_PLAN"
REACHED: Final = ".reached"  # the end of the name beside the plan, once its step has come


def was_reached() -> bool:
    """Whether the step of the newest plan has come and the worker has outlived it."""
    return Path(os.environ[PLAN] + REACHED).exists()


class SpoiltWork:
    """A jobs.process.Work that trains, and suffers what is planned."""

    def __init__(self, work: TrainingWork) -> None:
        self._work = work
        self._steps = Steps(0, 0, "full")  # none yet
        self._steps.install()
        self.about, self.call = work.about, work.call

    def run(self, spec: dict[str, Any], workdir: Path, context: Context) -> dict[str, Any]:
        """Trains under the plan, if there is one."""
        path = Path(os.environ[PLAN])
        plan = json.loads(path.read_bytes()) if path.exists() else {}
        if not plan.get("stays"):
            path.unlink(missing_ok=True)
        if "step" in plan:
            Path(f"{path}{REACHED}").unlink(missing_ok=True)
        self._steps.count = 0
        self._steps.first, self._steps.spoilt = plan.get("step", 0), int("step" in plan)
        self._steps.mode = plan.get("mode", "kill")
        if "limit_bytes" in plan:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
            most = pages * resource.getpagesize() + plan["limit_bytes"]
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        try:
            return self._work.run(spec, workdir, context)
        finally:
            if self._steps.reached and "step" in plan:
                Path(os.environ[PLAN] + REACHED).touch()


def open_work(workspace: str) -> SpoiltWork:
    """The entry of a worker process; a checkpoint after every epoch."""
    return SpoiltWork(eager_work.open_work(workspace))
