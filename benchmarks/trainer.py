"""(a) One network: the trainer against the textbook loop and its peers."""

from __future__ import annotations

from statistics import median

from benchmarks import peers, problem
from benchmarks.ours import Ours
from benchmarks.report import Report, Table, Target, at_least
from benchmarks.timing import Contender, Samples, interleaved, microseconds, times_as_fast

SIZES = ((2_000, 20), (20_000, 40), (200_000, 60))
BATCHES = (32, 256, 1024)
MAIN_SIZE = (20_000, 40)
LEAST = {32: 7.0, 256: 6.0, 1024: 6.0}
LEAST_AGAINST_SCIKIT_LEARN = 2.5
NOTE = (
    "x: steps in the time of one of the textbook loop's; the median of the ratios within a round."
    " Ours is whole epochs with shuffling, scores and validation on 200 rows; the others validate"
    " nothing. scikit-learn's has no dropout."
)
TEXTBOOK, OURS, SCIKIT_LEARN = "textbook", "ours", "scikit-learn"


def measure(short: bool) -> Report:
    """Every size with every batch; in the short form one."""
    if short:
        return report({((400, 8), 64): measured((400, 8), 64, rounds=2, turn_s=0.01)})
    return report(
        {
            (size, batch): measured(size, batch, rounds=5, turn_s=0.45)
            for size in SIZES
            for batch in BATCHES
        }
    )


def measured(size: tuple[int, int], batch_rows: int, rounds: int, turn_s: float) -> Samples:
    """All contenders on one problem."""
    rows = problem.make(*size)
    contenders: dict[str, Contender] = {
        TEXTBOOK: peers.Textbook(rows, batch_rows),
        OURS: Ours(rows, batch_rows),
        **peers.present(rows, batch_rows),
    }
    return interleaved(contenders, rounds, turn_s)


def report(cases: dict[tuple[tuple[int, int], int], Samples]) -> Report:
    """The table and the targets of its main size."""
    names = list(next(iter(cases.values())))
    columns = ["rows x features", "batch", "textbook, us a step", "ours, us a step"]
    columns += [f"{name}, x" for name in names[1:]]
    columns += ["ours, x of processor time"]
    notes = [NOTE]
    if missing := peers.absent():
        notes.append(f"Not installed and left out: {', '.join(missing)} (pip install '.[bench]').")
    rows = [row(size, batch, samples, names) for (size, batch), samples in cases.items()]
    table = Table("One network against its peers", columns, rows, notes)
    return Report([table], targets(cases))


def row(size: tuple[int, int], batch: int, samples: Samples, names: list[str]) -> list[str]:
    """One problem's line."""
    return [
        f"{size[0]:,} x {size[1]}",
        str(batch),
        f"{microseconds(samples, TEXTBOOK):.0f}",
        f"{microseconds(samples, OURS):.0f}",
        *(f"{times_as_fast(samples, name, TEXTBOOK):.2g}" for name in names[1:]),
        f"{times_as_fast(samples, OURS, TEXTBOOK, 'cpu_s'):.2g}",
    ]


def targets(cases: dict[tuple[tuple[int, int], int], Samples]) -> list[Target]:
    """What was to be reached, if the main size was measured."""
    size = f"{MAIN_SIZE[0] // 1000}k x {MAIN_SIZE[1]}"
    reached = [
        at_least(
            f"textbook loop, K = 1, {size}, batch {batch}",
            times_as_fast(cases[MAIN_SIZE, batch], OURS, TEXTBOOK),
            LEAST[batch],
        )
        for batch in BATCHES
        if (MAIN_SIZE, batch) in cases
    ]
    small = [samples for (_, batch), samples in cases.items() if batch == 32]
    if small and SCIKIT_LEARN in small[0]:
        ratios = [times_as_fast(samples, OURS, SCIKIT_LEARN) for samples in small]
        what = "scikit-learn's MLPClassifier, K = 1, batch 32, median of the sizes"
        reached.append(at_least(what, median(ratios), LEAST_AGAINST_SCIKIT_LEARN))
    return reached
