"""A search that is stopped between or within its groups goes on to the same bits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ktrdr_mcp.context import Cancelled, NullContext
from ktrdr_mcp.training.search import Searched, search

CONFIG = {"epochs": 2, "hidden_layers": [8], "batch_size": 64}
SPACE = {"learning_rate": {"low": 1e-4, "high": 0.05, "log": True}, "hidden_layers": [[8], [4]]}


class Stopping(NullContext):
    """Stops after so many turns; counts them."""

    def __init__(self, turns: float) -> None:
        super().__init__()
        self.left, self.turns = turns, 0

    def yield_turn(self) -> None:
        self.turns += 1
        if self.turns > self.left:
            raise Cancelled


def run(trial, bars, folder: str, context: NullContext, sampler: str) -> Searched:
    config = {**CONFIG, "sweep": {"trials": 6, "vary": SPACE, "sampler": sampler}}
    spec = replace(trial.spec(config), choice="nested")
    return search(spec, trial.prepare(bars, config), trial.root / folder / "bundle", context)


@pytest.mark.parametrize("sampler", ["qmc", "tpe"])
def test_a_search_that_was_stopped_has_the_candidates_and_bits_of_one_that_was_not(
    trial, noise, sampler
) -> None:
    if sampler == "tpe":
        pytest.importorskip("optuna", reason="the extra [search] is not installed")
    whole_context = Stopping(float("inf"))
    whole = run(trial, noise, "whole", whole_context, sampler)
    stopped = Stopping(3)  # turns are as long as the machine is fast, so few of them
    with pytest.raises(Cancelled):
        run(trial, noise, "again", stopped, sampler)
    again = run(trial, noise, "again", Stopping(float("inf")), sampler)
    assert [c.settings for c in again.candidates] == [c.settings for c in whole.candidates]
    assert again.choices == whole.choices
    for place, (_, network) in whole.pairs.items():
        other = again.pairs[place][1]
        assert network.history == other.history
        assert all((network.weights[n] == other.weights[n]).all() for n in network.weights)
