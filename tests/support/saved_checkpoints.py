"""Small states, saved in a folder of their own."""

from __future__ import annotations

from pathlib import Path

import torch

from ktrdr_mcp.context import Progress
from ktrdr_mcp.nn.settings import TrainerState
from ktrdr_mcp.training import checkpoint as checkpoints
from ktrdr_mcp.training.checkpoint import Checkpoint, Checkpoints, Identity

IDENTITY = Identity("task-1", "spec", "data", 7, {"torch": "2.10", "numpy": "2.4"})
FILES = (checkpoints.TENSORS, checkpoints.VALUES, checkpoints.MANIFEST)


def state(epoch: int) -> Checkpoint:
    """A small state that knows its epoch."""
    tensors = {"training.parameters": torch.full((5,), float(epoch))}
    progress = Progress(epoch, 10, 0.7, 0.8, 0.5, 0.4)
    return Checkpoint(TrainerState(tensors, {"epoch": epoch}), progress, epoch * 1.5)


def folder(root: Path) -> Checkpoints:
    return Checkpoints(root / "checkpoints", IDENTITY)


def saved(root: Path, *epochs: int) -> Path:
    """A folder in which these epochs were saved one after the other."""
    kept = folder(root)
    for epoch in epochs:
        kept.save(state(epoch))
    return root / "checkpoints"


def epoch_of(root: Path) -> int | None:
    found = folder(root).load().checkpoint
    return found.epoch if found else None
