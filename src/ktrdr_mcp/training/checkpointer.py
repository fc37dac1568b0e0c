"""Training that goes on where an interrupted attempt had come to, with the same bits."""

from __future__ import annotations

import hashlib
import logging
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ktrdr_mcp import files, limits
from ktrdr_mcp.context import Cancelled, Context, EpochFigures, Part, Progress
from ktrdr_mcp.errors import StorageError, TrainingFailed
from ktrdr_mcp.nn import loop as trainer
from ktrdr_mcp.nn.network import Network
from ktrdr_mcp.nn.record import reported_figures
from ktrdr_mcp.nn.settings import (
    NetworkSettings,
    TrainedNetwork,
    TrainerSettings,
    TrainerState,
    TrainingRows,
    feature_blocks,
)
from ktrdr_mcp.training.checkpoint import Checkpoint, Checkpoints, Identity
from ktrdr_mcp.training.spec import TrainingSpec

LIBRARIES: Final = ("torch", "numpy")  # another version costs the last bits, not the training
LONG_EPOCH_S: Final = 1.0  # from here on, a copy of the state costs nothing beside the epoch

log = logging.getLogger(__name__)

TakeState = Callable[[], TrainerState]


class Checkpointer:
    """Keeps a training's state and its time; a Context for the trainer, around the real one.

    Args:
        directory: the folder of the checkpoints.
        spec: what is trained.
        context: the way to the world.
        monotonic: the clock, in seconds.
        keep_end: whether the state at the end is saved, too, so that a further run reads it.
    """

    def __init__(
        self,
        directory: Path,
        spec: TrainingSpec,
        context: Context,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        keep_end: bool = False,
    ) -> None:
        self._directory = directory
        self._spec = spec
        self._context = context
        self._monotonic = monotonic
        self._checkpoints: Checkpoints | None = None
        self._progress: Progress | None = None
        self._last: Checkpoint | None = None  # of the newest epoch, if it took long
        self._earlier_s = 0.0  # of training, in other attempts
        self._began_s = self._saved_s = self._epoch_began_s = monotonic()
        self._drain_seen_s: float | None = None
        self._keep_end = keep_end
        self._take_state: TakeState | None = None  # of the newest epoch of this run

    @property
    def training_s(self) -> float:
        """Seconds of training that led here, over all attempts."""
        return self._earlier_s + self._monotonic() - self._began_s

    def train(
        self,
        shape: Network,
        settings: TrainerSettings,
        networks: Sequence[NetworkSettings],
        rows: TrainingRows,
    ) -> list[TrainedNetwork]:
        """Trains as `train.train` does, from the newest usable checkpoint on."""
        found = self._begin(settings, rows)
        state = found.state if found else None
        try:
            try:
                return self._run(shape, settings, networks, rows, state)
            except TrainingFailed as error:
                if state is None or type(error) is not TrainingFailed:
                    raise
                log.warning("task %s begins anew: %s", self._spec.task_id, error.message)
                self._context.begin_at(0, "the checkpoint belongs to other settings")
                return self._run(shape, settings, networks, rows, None)
        except Cancelled:
            if self._context.draining and self._last is not None:
                self._save(self._last)
            raise

    def _run(
        self,
        shape: Network,
        settings: TrainerSettings,
        networks: Sequence[NetworkSettings],
        rows: TrainingRows,
        state: TrainerState | None,
    ) -> list[TrainedNetwork]:
        """One call of the trainer."""
        trained = trainer.train(
            shape,
            settings,
            networks,
            rows,
            self,
            resume_from=state,
            at_epoch_end=self._at_epoch_end,
        )
        if self._keep_end and self._take_state is not None:
            self._save(self._checkpoint(self._take_state))
        return trained

    def _begin(self, settings: TrainerSettings, rows: TrainingRows) -> Checkpoint | None:
        """Looks for a checkpoint and says what came of it."""
        self._checkpoints = Checkpoints(self._directory, identity_of(self._spec, rows))
        found = self._checkpoints.load()
        checkpoint = found.checkpoint
        if checkpoint is None:
            self._context.begin_at(0, found.reason)
        else:
            figures = reported_figures(checkpoint.state, settings, limits.MAX_SHOWN_EPOCHS)
            total = 0 if checkpoint.progress is None else checkpoint.progress.total_epochs
            self._context.begin_at(checkpoint.epoch, found.reason, figures, total)
            self._earlier_s = checkpoint.training_s
            if checkpoint.progress is not None:
                self.report(checkpoint.progress)
        self._began_s = self._saved_s = self._epoch_began_s = self._monotonic()
        return checkpoint

    def _at_epoch_end(self, take_state: TakeState) -> None:
        """Saves when it is time, or when the server ends."""
        self._take_state = take_state
        now_s = self._monotonic()
        draining = self._context.draining
        if draining or now_s - self._saved_s >= limits.CHECKPOINT_INTERVAL_S:
            self._save(self._checkpoint(take_state))
        elif now_s - self._epoch_began_s >= LONG_EPOCH_S:
            self._last = self._checkpoint(take_state)
        else:
            self._last = None
        if draining:
            raise Cancelled
        self._epoch_began_s = self._monotonic()

    def _checkpoint(self, take_state: TakeState) -> Checkpoint:
        """The training as it is now."""
        return Checkpoint(take_state(), self._progress, self.training_s)

    def _save(self, checkpoint: Checkpoint) -> None:
        """Saves without holding others up; a failure costs this checkpoint, not the training."""
        self._context.end_turn()
        self._last = None
        try:
            if self._checkpoints is not None:
                self._checkpoints.save(checkpoint)
        except StorageError as error:
            log.warning("task %s has no new checkpoint: %s", self._spec.task_id, error.message)
        self._saved_s = self._monotonic()

    # What the trainer sees as its context.

    @property
    def draining(self) -> bool:
        """See context.Context."""
        return self._context.draining

    @property
    def divides(self) -> bool:
        """See context.Context."""
        return self._context.divides

    def begin_at(
        self,
        epoch: int,
        reason: str | None,
        figures: Sequence[EpochFigures] = (),
        total_epochs: int = 0,
    ) -> None:
        """See context.Context."""
        self._context.begin_at(epoch, reason, figures, total_epochs)

    def report(self, progress: Progress) -> None:
        """See context.Context."""
        self._progress = progress
        self._context.report(progress)

    def end_turn(self) -> None:
        """See context.Context."""
        self._context.end_turn()

    def run_parts(self, parts: Sequence[Part]) -> dict[str, dict[str, Any]]:
        """See context.Context."""
        return self._context.run_parts(parts)

    def yield_turn(self) -> None:
        """See context.Context; a short epoch is brought to its end before a drain."""
        try:
            self._context.yield_turn()
        except Cancelled:
            if not self._may_finish_epoch():
                raise

    def _may_finish_epoch(self) -> bool:
        """Whether the state at this epoch's end is worth waiting for."""
        if not self._context.draining or self._last is not None:
            return False
        now_s = self._monotonic()
        if self._drain_seen_s is None:
            self._drain_seen_s = now_s
        return now_s - self._drain_seen_s < limits.DRAIN_EPOCH_S


def identity_of(spec: TrainingSpec, rows: TrainingRows) -> Identity:
    """What a checkpoint of this training must say of itself."""
    specification = hashlib.sha256(files.json_bytes(spec.to_dict())).hexdigest()
    versions = {"python": platform.python_version()}
    return Identity(
        task_id=spec.task_id,
        spec_sha256=specification,
        data_sha256=sha256_of_rows(rows),
        mathematics=trainer.MATHEMATICS,
        versions=versions | {library: version(library) for library in LIBRARIES},
    )


def sha256_of_rows(rows: TrainingRows) -> str:
    """SHA-256 of everything that the networks learn from."""
    digest = hashlib.sha256()
    digest.update(f"{np.dtype(np.float32).str}{rows.features.shape}".encode())
    for block in feature_blocks(rows):
        digest.update(np.ascontiguousarray(block, dtype=np.float32).data)
    arrays: list[npt.NDArray[Any]] = [rows.labels, *rows.train_rows, *rows.validation_rows]
    if rows.row_weights is not None:
        arrays.append(rows.row_weights)
    if rows.windows is not None:
        arrays += [rows.windows.columns, rows.windows.lags]
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
