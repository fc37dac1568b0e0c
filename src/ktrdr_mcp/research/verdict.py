"""The verdict on a completed training, by everything tried on its test window until now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ktrdr_mcp.labels.registry import tells_past
from ktrdr_mcp.learn.judge.blocks import BlockSums
from ktrdr_mcp.learn.judge.direction import DirectionalTest
from ktrdr_mcp.learn.judge.doubts import Doubts, Losses
from ktrdr_mcp.learn.judge.family import FamilyJudgement, judge_in_family
from ktrdr_mcp.learn.judge.verdict import (
    leak_suspected,
    leak_tested,
    luck_line,
    prediction_verdict,
    trading_verdict,
)

Scores = Mapping[str, Any]


def verdict(
    own: Scores,
    others: Sequence[Scores | None],
    trial: int,
    metrics: Mapping[str, Any],
    labels: Mapping[str, Any],
) -> dict[str, Any]:
    """Judges one trial among all others of its family.

    Args:
        own: the trial's scores.
        others: those of the family's other trials; None for one without a result.
        trial: the number of this trial, from 1, in the order of their starts.
        metrics: the figures of the training.
        labels: its complete labels configuration.
    Returns:
        the fields of a `responses.Verdict`.
    """
    test = directional_test_of(own["direction"])
    scored = [each for each in others if each is not None]
    missing = len(others) - len(scored)
    family = judge_in_family(test.blocks, [blocks_of(each) for each in scored], missing)
    doubts = doubts_of(own, metrics, labels)
    prediction = prediction_verdict(test, family, metrics["data"]["bars"], doubts)
    trading = trading_verdict(
        blocks=len(own["trading"]["timing_blocks"]["sums"]),
        net_total_return=own["trading"]["net_total_return"],
        adjusted_p=timing_family(own, scored, missing).adjusted_p,
        upper_mean_net_return=own["trading"]["mean_net_high"],
        doubts=doubts,
    )
    return {
        "prediction": prediction.prediction,
        "trading": trading.trading,
        "reason": f"{prediction.reason} Trading: {trading.reason}",
        "needs": prediction.needs,
        "as_of_trial": family.trials,
        "luck": luck_line(trial, family, prediction.prediction),
    }


def doubts_of(own: Scores, metrics: Mapping[str, Any], labels: Mapping[str, Any]) -> Doubts:
    """What is known of a trial beside its T.

    Args:
        own: its scores; older ones do not say what was lost, nor whether the model is constant.
        metrics: the figures of the training.
        labels: its complete labels configuration.
    """
    constant, lost = own.get("model_constant", False), own.get("lost", {})
    return Doubts(
        answer=None if constant else only_answer(metrics),
        model_constant=constant,
        leak_suspected=leak_suspected(own["twins"]),
        tells_past=tells_past(labels),
        folds=Losses(**lost.get("folds", {})),
        untested=Losses(**({} if leak_tested(own["twins"]) else lost.get("twins", {}))),
    )


def only_answer(metrics: Mapping[str, Any]) -> str | None:
    """The class that every row of the final split gets, if there is one such."""
    if not metrics["collapsed"]:
        return None
    shares: Mapping[str, float] = metrics.get("predicted_shares", {})
    return max(shares, key=lambda name: shares[name], default="one class")


def directional_test_of(stored: Mapping[str, Any]) -> DirectionalTest:
    """The test as it was made."""
    return DirectionalTest(**{**stored, "blocks": BlockSums.from_dict(stored["blocks"])})


def blocks_of(scores: Scores) -> BlockSums:
    """A trial's block sums of the directional test."""
    return BlockSums.from_dict(scores["direction"]["blocks"])


def timing_family(own: Scores, others: Sequence[Scores], missing: int) -> FamilyJudgement:
    """The trial's timing after costs among that of all others."""
    blocks = [BlockSums.from_dict(scores["trading"]["timing_blocks"]) for scores in (own, *others)]
    return judge_in_family(blocks[0], blocks[1:], missing, own_p=own["trading"]["timing_p"])
