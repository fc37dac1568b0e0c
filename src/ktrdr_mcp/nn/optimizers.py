"""Adam, SGD and RMSprop for K networks at once, gradient clipping and learning-rate schedules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ktrdr_mcp.nn.mlp import Layout
from ktrdr_mcp.nn.settings import TrainerSettings


class GradientClip:
    """Scales a network's gradient down to a largest Euclidean norm, as clip_grad_norm_ does.

    Args:
        layout: K networks.
        gradients: their flat vector, scaled in place.
        owners: (length,) the network of each element.
        largest_norm: above 0.
    """

    def __init__(
        self, layout: Layout, gradients: Tensor, owners: Tensor, largest_norm: float
    ) -> None:
        self._gradients, self._owners, self._largest_norm = gradients, owners, largest_norm
        self._rows = [block.flatten(1) for block in layout.view_stored(gradients)]  # (K, elements)

    def apply(self) -> None:
        """Clips what the gradients hold now."""
        # In float64, so that the order of summation, which depends on K, does not show.
        norms = [torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64) for rows in self._rows]
        norm = torch.linalg.vector_norm(torch.stack(norms), dim=0)  # (K,)
        factor = (self._largest_norm / (norm + 1e-6)).clamp_(max=1)
        self._gradients.mul_(factor.to(self._gradients.dtype)[self._owners])


Correction = tuple[Any, ...]


class Optimizer(ABC):
    """Moves parameters along their gradients.

    Args:
        settings: of the training.
        parameters: (length,), moved in place.
        gradients: (length,), may be overwritten.
        weight_decay: (length,), or None where no network decays.
        owners: (length,) the network of each parameter.
    """

    slot_names: tuple[str, ...] = ()

    def __init__(
        self,
        settings: TrainerSettings,
        parameters: Tensor,
        gradients: Tensor,
        weight_decay: Tensor | None,
        owners: Tensor,
    ) -> None:
        self.slots = {name: torch.zeros_like(parameters) for name in self.slot_names}
        self._settings = settings
        self._parameters, self._gradients = parameters, gradients
        self._weight_decay, self._owners = weight_decay, owners
        self._rate = torch.zeros_like(parameters)
        self._scratch = torch.empty_like(parameters)

    def set_rates(self, rates: Tensor) -> None:
        """Sets the learning rate of each network, (K,)."""
        self._rate = rates[self._owners]

    def corrections(self, first: NDArray[np.int64], steps: int) -> list[Correction]:
        """What the next steps need beyond the gradients.

        Args:
            first: (K,) the 1-based number of each network's next step.
            steps: how many.
        """
        return [()] * steps

    def step(self, correction: Correction) -> None:
        """Moves the parameters once."""
        if self._weight_decay is not None:
            self._gradients.addcmul_(self._parameters, self._weight_decay)
        self._move(correction)

    @abstractmethod
    def _move(self, correction: Correction) -> None:
        """The optimizer's own formula."""


class Adam(Optimizer):
    """Kingma and Ba, "Adam" (2015); decoupled decay as in Loshchilov and Hutter (2019)."""

    slot_names = ("first_moment", "second_moment")
    _FIRST_DECAY: Final = 0.9
    _SECOND_DECAY: Final = 0.999
    _EPSILON: Final = 1e-8

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._first_share = self._parameters.new_tensor(1 - self._FIRST_DECAY)
        self._second_share = self._parameters.new_tensor(1 - self._SECOND_DECAY)

    def corrections(self, first: NDArray[np.int64], steps: int) -> list[Correction]:
        """Epsilon and a factor of the learning rate, with the bias corrections moved into them.

        m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps) = c * m / (sqrt(v) + eps * r)
        with r = sqrt(1-b2^t) and c = r / (1-b1^t).
        """
        step = first + np.arange(steps)[:, None]
        root = np.sqrt(1 - self._SECOND_DECAY**step)
        factor = root / (1 - self._FIRST_DECAY**step)
        epsilon = torch.as_tensor(self._EPSILON * root).to(self._parameters)  # (steps, K)
        if (first == first[0]).all():
            return list(zip(epsilon[:, 0].unbind(0), factor[:, 0].tolist(), strict=True))
        factors = torch.as_tensor(factor).to(self._parameters)
        return list(zip(epsilon.unbind(0), factors.unbind(0), strict=True))

    def step(self, correction: Correction) -> None:
        """Moves the parameters once."""
        if self._weight_decay is not None and self._settings.decoupled_decay:
            torch.mul(self._rate, self._weight_decay, out=self._scratch)
            self._parameters.addcmul_(self._parameters, self._scratch, value=-1)
            self._move(correction)
        else:
            super().step(correction)

    def _move(self, correction: Correction) -> None:
        epsilon, factor = correction
        first, second = self.slots["first_moment"], self.slots["second_moment"]
        scratch = self._scratch
        first.lerp_(self._gradients, self._first_share)
        torch.mul(self._gradients, self._gradients, out=scratch)
        second.lerp_(scratch, self._second_share)
        torch.sqrt(second, out=scratch)
        if isinstance(factor, float):
            scratch.add_(epsilon)
            torch.div(first, scratch, out=scratch)
        else:  # the networks are at different steps
            scratch.add_(epsilon[self._owners])
            torch.div(first, scratch, out=scratch).mul_(factor[self._owners])
            factor = 1.0
        self._parameters.addcmul_(scratch, self._rate, value=-factor)


class Sgd(Optimizer):
    """Gradient descent with heavy-ball momentum (Polyak 1964), as in torch.optim.SGD."""

    slot_names = ("velocity",)

    def _move(self, correction: Correction) -> None:
        velocity = self.slots["velocity"]
        velocity.mul_(self._settings.momentum).add_(self._gradients)
        self._parameters.addcmul_(velocity, self._rate, value=-1)


class RmsProp(Optimizer):
    """Hinton's RMSprop (2012), as in torch.optim.RMSprop."""

    slot_names = ("square_average", "velocity")
    _DECAY: Final = 0.99
    _EPSILON: Final = 1e-8

    def _move(self, correction: Correction) -> None:
        average, velocity = self.slots["square_average"], self.slots["velocity"]
        gradients, scratch = self._gradients, self._scratch
        average.mul_(self._DECAY).addcmul_(gradients, gradients, value=1 - self._DECAY)
        torch.sqrt(average, out=scratch)
        scratch.add_(self._EPSILON)
        torch.div(gradients, scratch, out=scratch)
        velocity.mul_(self._settings.momentum).add_(scratch)
        self._parameters.addcmul_(velocity, self._rate, value=-1)


OPTIMIZERS: Final[dict[str, type[Optimizer]]] = {"adam": Adam, "sgd": Sgd, "rmsprop": RmsProp}


_PLATEAU_THRESHOLD: Final = 1e-4  # relative
_SMALLEST_CHANGE: Final = 1e-8
_DEFAULTS: Final[dict[str, dict[str, float]]] = {
    "step": {"step_size": 30, "gamma": 0.1},
    "exponential": {"gamma": 0.95},
    "reduce_on_plateau": {"factor": 0.5, "patience": 5},
}


def effective_scheduler(scheduler: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A complete description of a schedule: defaults where a setting is absent or None."""
    if scheduler is None:
        return None
    given = {name: value for name, value in scheduler.items() if value is not None}
    kind = given.pop("type", "step")
    if kind not in _DEFAULTS:
        raise ValueError(f"unknown scheduler {kind!r}; known: {list(_DEFAULTS)}")
    unknown = set(given) - set(_DEFAULTS[kind])
    if unknown:
        raise ValueError(f"scheduler {kind} has no setting {sorted(unknown)[0]!r}")
    return {"type": kind, **_DEFAULTS[kind], **given}


@dataclass
class Schedule:
    """One network's learning rate over the epochs."""

    rate: float  # of the epoch that comes
    epochs: int = 0  # finished
    best_loss: float = float("inf")  # reduce_on_plateau
    bad_epochs: int = 0  # reduce_on_plateau

    def advance(self, scheduler: Mapping[str, Any] | None, val_loss: float) -> None:
        """Moves on to the next epoch.

        Args:
            scheduler: a complete description, or None for a constant rate.
            val_loss: of the epoch that has ended.
        """
        self.epochs += 1
        if scheduler is None:
            return
        if scheduler["type"] == "step":
            if self.epochs % scheduler["step_size"] == 0:
                self.rate *= scheduler["gamma"]
        elif scheduler["type"] == "exponential":
            self.rate *= scheduler["gamma"]
        else:
            self._reduce_on_plateau(scheduler["factor"], scheduler["patience"], val_loss)

    def _reduce_on_plateau(self, factor: float, patience: int, val_loss: float) -> None:
        if val_loss < self.best_loss * (1 - _PLATEAU_THRESHOLD):
            self.best_loss, self.bad_epochs = val_loss, 0
        else:
            self.bad_epochs += 1
        if self.bad_epochs > patience:
            reduced = self.rate * factor
            if self.rate - reduced > _SMALLEST_CHANGE:
                self.rate = reduced
            self.bad_epochs = 0

    def to_dict(self) -> dict[str, Any]:
        """A value that JSON can hold."""
        values = asdict(self)
        values["best_loss"] = None if self.best_loss == float("inf") else self.best_loss
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Schedule:
        """The inverse of to_dict."""
        best = values["best_loss"]
        return cls(**{**values, "best_loss": float("inf") if best is None else best})
