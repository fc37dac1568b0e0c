"""The default network as Lightning wants it; imported only where Lightning is installed."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor, nn

from benchmarks.problem import LEARNING_RATE
from benchmarks.timing import Cost, Watch


class Module(lightning.LightningModule):
    """A network, its loss and its optimizer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.loss = nn.CrossEntropyLoss()

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """The loss of a batch."""
        features, labels = batch
        return self.loss(self.model(features), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=LEARNING_RATE)


class Clock(lightning.Callback):
    """Measures from the start of training to its end."""

    def on_train_start(self, *_: Any) -> None:
        """Starts."""
        self._watch = Watch()

    def on_train_end(self, *_: Any) -> None:
        """Stops."""
        self._cost = self._watch.per(1)

    def cost(self, steps: int) -> Cost:
        """The cost of each of so many steps."""
        return Cost(self._cost.wall_s / steps, self._cost.cpu_s / steps)
