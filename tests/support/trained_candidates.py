"""All candidates of a training, with what each network was given and what it became."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ktrdr_mcp.context import NullContext
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.nn.loop import TrainedNetwork
from ktrdr_mcp.training.judgement import Judgement, judge
from ktrdr_mcp.training.learners import Learner
from ktrdr_mcp.training.search import Searched, search


@dataclass(frozen=True)
class TrainedCandidates:
    """Members, their networks and the judgement of both; one seed."""

    members: Sequence[Learner]
    networks: Sequence[TrainedNetwork]
    judgement: Judgement
    searched: Searched

    def of_role(self, role: str) -> list[tuple[Learner, TrainedNetwork]]:
        """The members of one role with their networks."""
        pairs = zip(self.members, self.networks, strict=True)
        return [pair for pair in pairs if pair[0].role == role]


def trained_candidates(trial: Any, bars: Bars, config: dict[str, Any]) -> TrainedCandidates:
    """Trains the candidates of a configuration on some bars."""
    spec, prepared = trial.spec(config), trial.prepare(bars, config)
    searched = search(spec, prepared, trial.root / "bundle", NullContext())
    members, networks = zip(*searched.pairs.values(), *searched.surrogates, strict=True)
    judgement = judge(searched.select_judged(), searched.splits, searched.horizon)
    return TrainedCandidates(members, networks, judgement, searched)
