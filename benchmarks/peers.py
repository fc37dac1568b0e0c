"""The same training in other hands: a textbook loop, scikit-learn, skorch and Lightning.

Each leaves validation, logging and checkpoints out, which favours it. A turn that is shorter than
an epoch passes over the first rows only.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.problem import CLASSES, DROPOUT, HIDDEN, LEARNING_RATE, Problem
from benchmarks.timing import Contender, Cost, Watch


def network(inputs: int) -> nn.Sequential:
    """The default network as PyTorch users write it."""
    layers: list[nn.Module] = []
    for width, units in pairwise((inputs, *HIDDEN)):
        layers += [nn.Linear(width, units), nn.ReLU(), nn.Dropout(DROPOUT)]
    return nn.Sequential(*layers, nn.Linear(HIDDEN[-1], CLASSES))


def loader(problem: Problem, batch_rows: int) -> DataLoader[Any]:
    """Shuffled batches of the training rows."""
    features, labels = problem.train
    rows = TensorDataset(torch.from_numpy(features), torch.from_numpy(labels))
    return DataLoader(rows, batch_size=batch_rows, shuffle=True)


class Textbook:
    """DataLoader, nn.Module, optim.Adam and `.item()` in every batch: what KTRDR does."""

    def __init__(self, problem: Problem, batch_rows: int) -> None:
        self._model = network(problem.inputs).train()
        self._optimizer = torch.optim.Adam(self._model.parameters(), lr=LEARNING_RATE)
        self._loss = nn.CrossEntropyLoss()
        self._loader = loader(problem, batch_rows)
        self._batches = self._endless()

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self._loader

    def run(self, steps: int) -> Cost:
        """See Contender."""
        total_loss, correct = 0.0, 0
        watch = Watch()
        for _ in range(steps):
            features, labels = next(self._batches)
            self._optimizer.zero_grad()
            outputs = self._model(features)
            loss = self._loss(outputs, labels)
            loss.backward()
            self._optimizer.step()
            total_loss += loss.item()
            correct += (outputs.argmax(1) == labels).sum().item()
        return watch.per(steps)


class RowSlices:
    """Divides a turn into epochs over some of the rows.

    Args:
        problem: what is learnt.
        batch_rows: rows of a step.
    """

    def __init__(self, problem: Problem, batch_rows: int) -> None:
        self.problem, self.batch_rows = problem, batch_rows

    def divide(self, steps: int) -> tuple[int, int, int]:
        """Epochs, batches of each, and rows of each."""
        per_epoch = -(-self.problem.rows // self.batch_rows)
        epochs = max(1, round(steps / per_epoch))
        batches = min(steps, per_epoch)
        return epochs, batches, min(batches * self.batch_rows, self.problem.rows)


class ScikitLearn(RowSlices):
    """MLPClassifier; it has no dropout."""

    def run(self, steps: int) -> Cost:
        """See Contender."""
        from sklearn.neural_network import MLPClassifier

        epochs, batches, rows = self.divide(steps)
        features, labels = self.problem.train
        model = MLPClassifier(
            HIDDEN,
            batch_size=min(self.batch_rows, rows),
            max_iter=epochs,
            alpha=0,
            tol=0,
            n_iter_no_change=10**9,
            random_state=0,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it tells that it has not converged
            watch = Watch()
            model.fit(features[:rows], labels[:rows])
        return watch.per(epochs * batches)


class Skorch(RowSlices):
    """NeuralNetClassifier without callbacks that print."""

    def run(self, steps: int) -> Cost:
        """See Contender."""
        from skorch import NeuralNetClassifier

        epochs, batches, rows = self.divide(steps)
        features, labels = self.problem.train
        model = NeuralNetClassifier(
            network(self.problem.inputs),
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            lr=LEARNING_RATE,
            batch_size=self.batch_rows,
            iterator_train__shuffle=True,
            max_epochs=epochs,
            train_split=None,
            verbose=0,
        ).initialize()
        watch = Watch()
        model.partial_fit(features[:rows], labels[:rows])
        return watch.per(epochs * batches)


class Lightning(RowSlices):
    """A LightningModule; only what lies between the start and the end of training is timed."""

    def run(self, steps: int) -> Cost:
        """See Contender."""
        import lightning

        from benchmarks.lightning_module import Clock, Module

        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        epochs, batches, _ = self.divide(steps)
        clock = Clock()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it recommends worker processes
            lightning.Trainer(
                accelerator="cpu",
                devices=1,
                max_epochs=epochs,
                limit_train_batches=batches,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                callbacks=[clock],
            ).fit(Module(network(self.problem.inputs)), loader(self.problem, self.batch_rows))
        return clock.cost(epochs * batches)


PEERS = {
    "scikit-learn": ("sklearn", ScikitLearn),
    "skorch": ("skorch", Skorch),
    "Lightning": ("lightning", Lightning),
}


def present(problem: Problem, batch_rows: int) -> dict[str, Contender]:
    """The peers that are installed."""
    return {
        name: peer(problem, batch_rows)
        for name, (module, peer) in PEERS.items()
        if importlib.util.find_spec(module)
    }


def absent() -> list[str]:
    """The peers that are not installed."""
    return [name for name, (module, _) in PEERS.items() if not importlib.util.find_spec(module)]
