"""What the benchmark makes of times."""

from __future__ import annotations

from benchmarks.report import Table, at_least, under
from benchmarks.timing import Cost, Latencies, interleaved, microseconds, times_as_fast


class Scripted:
    """A contender that remembers its turns and costs what it is told to."""

    def __init__(self, name: str, turns: list[str], wall_s: list[float]) -> None:
        self._name, self._turns, self._wall_s = name, turns, iter(wall_s)

    def run(self, steps: int) -> Cost:
        self._turns.append(f"{self._name} {steps}")
        wall_s = next(self._wall_s)
        return Cost(wall_s, wall_s / 2)


def test_contenders_take_turns_of_the_same_length_after_a_warm_up() -> None:
    turns: list[str] = []
    slow = Scripted("slow", turns, [9.0, 0.1, 0.1, 0.1])
    fast = Scripted("fast", turns, [9.0, 0.01, 0.01, 0.01])
    samples = interleaved({"slow": slow, "fast": fast}, rounds=2, turn_s=1.0)
    assert turns[:4] == ["slow 20", "slow 20", "fast 20", "fast 20"]
    assert turns[4:] == ["slow 10", "fast 100"] * 2
    assert [len(costs) for costs in samples.values()] == [2, 2]


def test_a_ratio_is_the_median_of_the_ratios_within_a_round() -> None:
    # the machine was ten times as slow in the second round and had a hiccup in the third
    samples = {
        "reference": [Cost(2e-3, 1e-3), Cost(20e-3, 1e-3), Cost(2e-3, 1e-3)],
        "ours": [Cost(1e-3, 1e-4), Cost(10e-3, 1e-4), Cost(9e-3, 1e-4)],
    }
    assert times_as_fast(samples, "ours", "reference") == 2
    assert round(times_as_fast(samples, "ours", "reference", "cpu_s"), 9) == 10
    assert round(microseconds(samples, "ours")) == 9_000


def test_percentiles_are_in_milliseconds() -> None:
    latencies = Latencies.of([number / 1_000 for number in range(101)])
    assert [round(value, 9) for value in latencies] == [50, 95, 99]


def test_a_target_on_its_bound_is_reached_from_below_but_not_from_above() -> None:
    assert at_least("speed", 7.0, 7.0).reached
    assert not at_least("speed", 6.99, 7.0).reached
    assert not under("time", 5.0, 5.0, " s").reached
    assert under("time", 4.99, 5.0, " s").reached


def test_a_table_is_markdown() -> None:
    table = Table("Times", ["what", "ms"], [["a", "1"], ["b", "2"]], ["A note."])
    assert table.markdown().splitlines() == [
        "### Times",
        "",
        "| what | ms |",
        "|---|---|",
        "| a | 1 |",
        "| b | 2 |",
        "",
        "A note.",
    ]
