"""(b) K networks at once, for each network's step."""

from __future__ import annotations

from benchmarks import problem
from benchmarks.ours import Ours
from benchmarks.peers import Textbook
from benchmarks.report import Report, Table, at_least
from benchmarks.timing import Contender, Samples, interleaved, microseconds, times_as_fast

SIZE = (6_400, 40)
COUNTS = (1, 4, 16, 64, 256)
BATCHES = (32, 256)
TARGET = (64, 32)
LEAST = 22.0
TEXTBOOK = "textbook"


def measure(short: bool) -> Report:
    """Every K with every batch; in the short form two."""
    if short:
        return report({64: measured((400, 8), 64, (1, 4), rounds=2, turn_s=0.01)}, (400, 8))
    cases = {batch: measured(SIZE, batch, COUNTS, rounds=4, turn_s=0.45) for batch in BATCHES}
    return report(cases, SIZE)


def measured(
    size: tuple[int, int], batch_rows: int, counts: tuple[int, ...], rounds: int, turn_s: float
) -> Samples:
    """The textbook loop and every K, in turns."""
    rows = problem.make(*size)
    contenders: dict[str, Contender] = {TEXTBOOK: Textbook(rows, batch_rows)}
    contenders |= {str(count): Ours(rows, batch_rows, count) for count in counts}
    return interleaved(contenders, rounds, turn_s)


def report(cases: dict[int, Samples], size: tuple[int, int]) -> Report:
    """The table, and the target where it was measured."""
    rows = [
        [
            str(batch),
            name,
            f"{microseconds(samples, name):.1f}",
            f"{times_as_fast(samples, name, TEXTBOOK):.3g}",
            f"{times_as_fast(samples, name, TEXTBOOK, 'cpu_s'):.3g}",
            f"{times_as_fast(samples, name, '1'):.2g}",
        ]
        for batch, samples in cases.items()
        for name in samples
        if name != TEXTBOOK
    ]
    columns = [
        "batch",
        "K",
        "us of one network's step",
        "textbook loop, x",
        "x of processor time",
        "K = 1, x",
    ]
    targets = []
    count, batch = TARGET
    if batch in cases:
        ratio = times_as_fast(cases[batch], str(count), TEXTBOOK)
        targets.append(at_least(f"K = {count}, batch {batch}, per network", ratio, LEAST))
    title = f"K networks at once, {size[0]:,} x {size[1]}"
    return Report([Table(title, columns, rows)], targets)
