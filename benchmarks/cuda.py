"""(h) The trainer on a GPU beside the processor, where there is a GPU."""

from __future__ import annotations

import torch

from benchmarks import problem
from benchmarks.ours import Ours
from benchmarks.report import Report, Table, skipped
from benchmarks.timing import interleaved, microseconds, times_as_fast

SIZE = (2_000, 40)
COUNTS = (1, 64, 1024)
BATCHES = (32, 256)
TITLE = "On CUDA"


def measure(short: bool) -> Report:
    """Every K with every batch on both devices."""
    if not torch.cuda.is_available():
        return skipped(TITLE, "This machine has no CUDA device.")
    rows = problem.make(*SIZE)
    cases = [(1, 32)] if short else [(count, batch) for count in COUNTS for batch in BATCHES]
    lines = [line(rows, count, batch, rounds=2 if short else 3) for count, batch in cases]
    columns = ["K", "batch", "CPU, us of one network's step", "CUDA, us", "CUDA against CPU, x"]
    title = f"{TITLE}, {torch.cuda.get_device_name()}, {SIZE[0]:,} x {SIZE[1]}"
    return Report([Table(title, columns, lines)])


def line(rows: problem.Problem, networks: int, batch_rows: int, rounds: int) -> list[str]:
    """One K with one batch. Every epoch ends with its scores on the host, so none is left over."""
    devices = {device: Ours(rows, batch_rows, networks, device) for device in ("cpu", "cuda")}
    samples = interleaved(devices, rounds, turn_s=0.5)
    return [
        str(networks),
        str(batch_rows),
        f"{microseconds(samples, 'cpu'):.2f}",
        f"{microseconds(samples, 'cuda'):.2f}",
        f"{times_as_fast(samples, 'cuda', 'cpu'):.3g}",
    ]
