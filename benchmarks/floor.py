"""(c) The floor: the matrix products of a step and nothing else."""

from __future__ import annotations

from itertools import pairwise

import torch

from benchmarks import problem
from benchmarks.ours import Ours
from benchmarks.problem import CLASSES, HIDDEN
from benchmarks.report import Report, Table
from benchmarks.timing import Cost, Watch, interleaved, microseconds, times_as_fast

SIZE = (6_400, 40)
CASES = ((1, 32), (1, 256), (1, 1024), (64, 32), (64, 256))


class Products:
    """The products of a step of K default networks: into given memory, without biases.

    Args:
        inputs: features of a row.
        batch_rows: rows of a step.
        networks: K.
    """

    def __init__(self, inputs: int, batch_rows: int, networks: int) -> None:
        self._networks = networks
        self._multiply = torch.mm if networks == 1 else torch.bmm
        lead = () if networks == 1 else (networks,)
        self._products: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        for layer, (width, units) in enumerate(pairwise((inputs, *HIDDEN, CLASSES))):
            values = torch.randn(*lead, batch_rows, width)
            weights = torch.randn(*lead, width, units)
            delta = torch.randn(*lead, batch_rows, units)
            self._add(values, weights, delta.clone())
            self._add(values.mT, delta, weights.clone())
            if layer > 0:
                self._add(delta, weights.mT, values.clone())

    def _add(self, left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> None:
        self._products.append((left, right, out))

    @property
    def count(self) -> int:
        """Products in a step."""
        return len(self._products)

    @property
    def operations(self) -> int:
        """Additions and multiplications in one network's step."""
        return sum(2 * out.shape[-2] * out.shape[-1] * a.shape[-1] for a, _, out in self._products)

    def run(self, steps: int) -> Cost:
        """See Contender."""
        multiply, products = self._multiply, self._products
        rounds = max(1, steps // self._networks)
        with torch.inference_mode():
            watch = Watch()
            for _ in range(rounds):
                for left, right, out in products:
                    multiply(left, right, out=out)
            return watch.per(rounds * self._networks)


def measure(short: bool) -> Report:
    """The trainer beside the products of its steps."""
    cases = ((1, 64), (4, 64)) if short else CASES
    size, rounds, turn_s = ((400, 8), 2, 0.01) if short else (SIZE, 5, 0.4)
    rows = problem.make(*size)
    lines = []
    for networks, batch in cases:
        floor = Products(rows.inputs, batch, networks)
        ours = Ours(rows, batch, networks)
        samples = interleaved({"floor": floor, "ours": ours}, rounds, turn_s)
        floor_us, ours_us = microseconds(samples, "floor"), microseconds(samples, "ours")
        lines.append(
            [
                str(networks),
                str(batch),
                f"{floor.operations / 1e6:.2f}",
                f"{floor_us:.1f}",
                f"{floor.operations / floor_us / 1e3:.1f}",
                f"{ours_us:.1f}",
                f"{times_as_fast(samples, 'floor', 'ours'):.2g}",
            ]
        )
    columns = ["K", "batch", "MFLOP a step", "products, us a step", "their GFLOP/s"]
    columns += ["ours, us a step", "ours / products"]
    note = f"A step is one network's. The floor is {floor.count} calls of torch.mm or torch.bmm."
    return Report([Table(f"The floor, {size[0]:,} x {size[1]}", columns, lines, [note])])
