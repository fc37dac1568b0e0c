"""A slow trainer to compare with: autograd, torch.nn, torch.optim, one network at a time.

It takes initial weights, order of rows and dropout masks from the trainer's own streams, so that
both compute the same numbers; everything else is torch's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from ktrdr_mcp.nn.loop import NetworkSettings, TrainerSettings
from ktrdr_mcp.nn.mlp import DropoutMasks, Layout, Purpose, initial_parameters, stream
from ktrdr_mcp.nn.perceptron import Mlp

MODULES = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
}


@dataclass
class Problem:
    """One network's data, as tensors."""

    features: Tensor  # (n, inputs)
    labels: Tensor  # (n,)
    train_rows: np.ndarray
    validation_rows: np.ndarray
    row_weights: Tensor | None = None


@dataclass
class ReferenceRun:
    """What the slow trainer found."""

    weights: list[dict[str, Tensor]] = field(default_factory=list)  # after each epoch
    train_losses: list[float] = field(default_factory=list)
    val_losses: list[float] = field(default_factory=list)
    val_accuracies: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


class ReferenceNetwork(nn.Module):
    """nn.Linear layers with an activation and given dropout masks between them."""

    def __init__(self, shape: Mlp) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*layer) for layer in shape.layers)
        self.activation = MODULES[shape.activation]()

    def forward(self, values: Tensor, masks: list[Tensor] | None = None) -> Tensor:
        *hidden, output = self.layers
        for number, layer in enumerate(hidden):
            values = self.activation(layer(values))
            if masks is not None:
                values = values * masks[number]
        return output(values)


def reference_network(shape: Mlp, seed: int, dtype: torch.dtype) -> ReferenceNetwork:
    """A network with the initial weights of a seed."""
    layout = Layout(shape, 1)
    network = ReferenceNetwork(shape).to(dtype)
    network.load_state_dict(layout.weights_of(initial_parameters(layout, [seed], dtype), 0))
    return network


def weighted_loss(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None, row_weights: Tensor | None
) -> Tensor:
    """Mean cross-entropy, weighted by class (by torch) and by row (by hand)."""
    if row_weights is None:
        return nn.CrossEntropyLoss(weight=class_weights)(logits, labels)
    per_row = nn.CrossEntropyLoss(weight=class_weights, reduction="none")(logits, labels)
    total = row_weights if class_weights is None else row_weights * class_weights[labels]
    return (per_row * row_weights).sum() / total.sum()


def train_slowly(
    shape: Mlp,
    settings: TrainerSettings,
    network_settings: NetworkSettings,
    problem: Problem,
    dtype: torch.dtype,
) -> ReferenceRun:
    """All epochs of one network, without early stopping."""
    network = reference_network(shape, network_settings.seed, dtype)
    optimizer = _optimizer(settings, network_settings, network)
    scheduler = _scheduler(settings, optimizer)
    class_weights = None
    if settings.class_weights is not None:
        class_weights = torch.tensor(settings.class_weights, dtype=dtype)
    run = ReferenceRun()
    for epoch in range(1, settings.epochs + 1):
        run.rates.append(optimizer.param_groups[0]["lr"])
        losses = []
        for rows, masks in _batches(shape, settings, network_settings, problem, epoch, dtype):
            optimizer.zero_grad()
            weights = None if problem.row_weights is None else problem.row_weights[rows]
            logits = network(problem.features[rows], masks)
            loss = weighted_loss(logits, problem.labels[rows], class_weights, weights)
            loss.backward()
            if settings.gradient_clip is not None:
                nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
            optimizer.step()
            losses.append(loss.item() * len(rows))
        run.train_losses.append(sum(losses) / len(problem.train_rows))
        _validate(network, problem, class_weights, run)
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            scheduler.step(run.val_losses[-1])
        elif scheduler is not None:
            scheduler.step()
        run.weights.append({name: t.clone() for name, t in network.state_dict().items()})
    return run


def _validate(
    network: nn.Module, problem: Problem, class_weights: Tensor | None, run: ReferenceRun
) -> None:
    rows = torch.from_numpy(problem.validation_rows)
    weights = None if problem.row_weights is None else problem.row_weights[rows]
    with torch.no_grad():
        logits = network(problem.features[rows])
        labels = problem.labels[rows]
        run.val_losses.append(weighted_loss(logits, labels, class_weights, weights).item())
        run.val_accuracies.append((logits.argmax(1) == labels).double().mean().item())


def _batches(shape, settings, network_settings, problem, epoch, dtype):
    """(rows, masks) of every step."""
    size, seed = settings.batch_size, network_settings.seed
    order = stream(seed, Purpose.ORDER, epoch).permutation(len(problem.train_rows))
    shuffled = torch.from_numpy(problem.train_rows[order])
    rates = [network_settings.dropout_rate]
    dropout = DropoutMasks([seed], rates, shape.hidden, size, dtype, torch.device("cpu"))
    dropout.begin_epoch(epoch)
    for rows in shuffled.split(size):
        (masks,) = dropout.draw(1)
        yield rows, [mask[0, : len(rows)].clone() for mask in masks]


def _optimizer(settings, network_settings, network):
    common = {
        "lr": network_settings.learning_rate,
        "weight_decay": network_settings.weight_decay,
    }
    parameters = network.parameters()
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=settings.momentum, **common)
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, momentum=settings.momentum, **common)
    kind = torch.optim.AdamW if settings.decoupled_decay else torch.optim.Adam
    return kind(parameters, **common)


def _scheduler(settings, optimizer):
    if settings.scheduler is None:
        return None
    arguments = {name: value for name, value in settings.scheduler.items() if name != "type"}
    kinds = {
        "step": torch.optim.lr_scheduler.StepLR,
        "exponential": torch.optim.lr_scheduler.ExponentialLR,
        "reduce_on_plateau": torch.optim.lr_scheduler.ReduceLROnPlateau,
    }
    return kinds[settings.scheduler["type"]](optimizer, **arguments)
