"""All candidates of a training, with what each network was given and what it became."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ktrdr_mcp.context import NullContext
from ktrdr_mcp.data.bars import Bars
from ktrdr_mcp.nn.loop import TrainedNetwork
from ktrdr_mcp.nn.perceptron import Mlp
from ktrdr_mcp.training.checkpointer import Checkpointer
from ktrdr_mcp.training.judgement import Judgement, judge
from ktrdr_mcp.training.learners import Learner, fit, make_learners


@dataclass(frozen=True)
class TrainedCandidates:
    """Members, their networks and the judgement of both; one seed."""

    members: Sequence[Learner]
    networks: Sequence[TrainedNetwork]
    judgement: Judgement

    def of_role(self, role: str) -> list[tuple[Learner, TrainedNetwork]]:
        """The members of one role with their networks."""
        pairs = zip(self.members, self.networks, strict=True)
        return [pair for pair in pairs if pair[0].role == role]


def trained_candidates(trial: Any, bars: Bars, config: dict[str, Any]) -> TrainedCandidates:
    """Trains the candidates of a configuration on some bars."""
    spec, prepared = trial.spec(config), trial.prepare(bars, config)
    shape = Mlp(
        len(prepared.view.feature_names), tuple(spec.config.hidden_layers), spec.config.activation
    )
    members = make_learners(prepared, spec.config)
    networks = fit(
        shape, spec.config, members, Checkpointer(trial.root / "kept", spec, NullContext())
    )
    return TrainedCandidates(members, networks, judge(shape, members, networks, spec.config))
