"""Errors that end a training; they are stored with its task."""

from __future__ import annotations

from ktrdr_mcp.errors.base import KtrdrError


class TrainingFailed(KtrdrError):
    """A training that ended without a model; stored with its task."""

    code = "training_failed"


class Diverged(TrainingFailed):
    """The loss stopped being a finite number."""

    code = "diverged"


class OutOfMemory(TrainingFailed):
    """The training needed more memory than there was."""

    code = "out_of_memory"


class RunnerFailed(TrainingFailed):
    """A defect of this program stopped the training."""

    code = "internal_error"


class CrashLoop(TrainingFailed):
    """The process that ran the task died too often."""

    code = "crash_loop"
