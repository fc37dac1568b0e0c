"""How many stretches of bars are separate is what comparing each with each other says."""

from __future__ import annotations

import numpy as np
import pytest

from ktrdr_mcp.data.content import Hashes, Sketch, are_related, ascending, bound_at, strangers
from ktrdr_mcp.data.relations import Relations, Stretch

SERIES = 3
SYMBOLS = ("ONE", "TWO", "THREE")


def hashes_of(generator: np.random.Generator, count: int) -> Hashes:
    return generator.integers(0, 2**64, count, dtype=np.uint64, endpoint=False)


def random_sketches(seed: int, count: int = 60) -> list[Sketch]:
    """Windows of a few series, at several rates, with a hum that all have in common."""
    generator = np.random.default_rng(seed)
    series = [hashes_of(generator, 6_000) for _ in range(SERIES)]
    hum, made = hashes_of(generator, 8), []
    while len(made) < count:
        own = hashes_of(generator, int(generator.integers(300, 900)))
        start, size = generator.integers(0, 5_000), generator.integers(0, 150)
        part = series[int(generator.integers(SERIES))][int(start) : int(start + size)]
        halvings = int(generator.integers(0, 4))
        kept = ascending(np.concatenate([own, part, hum]))
        made.append(Sketch(halvings, kept[kept <= bound_at(halvings)]))
    return made


@pytest.mark.parametrize("seed", range(8))
def test_strangers_are_those_that_a_comparison_with_each_earlier_one_finds(seed: int) -> None:
    sketches = random_sketches(seed)
    plain = [
        not any(are_related(one, other) for other in sketches[:at])
        for at, one in enumerate(sketches)
    ]
    assert strangers(sketches) == plain
    assert 1 < sum(plain) < len(plain)


def test_sketches_that_share_exactly_the_share_that_tells_nothing_are_strangers() -> None:
    generator = np.random.default_rng(3)
    for size in range(40, 400, 20):
        first, *others = (ascending(hashes_of(generator, size)) for _ in range(12))
        common = first[: size // 20]
        last = ascending(np.concatenate([common, hashes_of(generator, size - len(common))]))
        sketches = [Sketch(0, each) for each in (first, *others, last)]
        assert strangers(sketches) == [True] * 13
        assert not are_related(sketches[0], sketches[-1])


@pytest.mark.parametrize("seed", range(8))
def test_separate_stretches_are_those_that_touch_none_before(seed: int) -> None:
    generator = np.random.default_rng(seed)
    relations = Relations()
    relations.sketches = {one.key: one for one in random_sketches(seed)}
    keys = [*relations.sketches, "of no sketch that is known", None]
    stretches = []
    for _ in range(120):
        key = keys[int(generator.integers(len(keys)))]
        symbol = SYMBOLS[int(generator.integers(len(SYMBOLS)))]
        day = int(generator.integers(10, 3_000))
        start, end = f"{day:06d}", f"{day + int(generator.integers(0, 4)):06d}"
        stretches.append(Stretch(symbol, start, end, key))
    separate = [
        not any(relations.between(one, other) for other in stretches[:at])
        for at, one in enumerate(stretches)
    ]
    assert relations.count_separate(stretches) == sum(separate)
    assert 5 < sum(separate) < 115


def test_two_stretches_of_one_symbol_that_touch_at_a_moment_are_related() -> None:
    one, other = Stretch("ONE", "1", "2", None), Stretch("ONE", "2", "3", None)
    assert Relations().between(one, other)
    assert Relations().count_separate([one, other]) == 1
    assert Relations().count_separate([one, Stretch("ONE", "2.5", "3", None)]) == 2
