"""What a search came to, in figures: of every candidate, of the best, and of the seeds."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median
from typing import Final, Literal

from ktrdr_mcp.evaluation.direction import DirectionalTest, directional_test
from ktrdr_mcp.schemas.responses import BestSettings, SweepFigures
from ktrdr_mcp.schemas.results import CandidateResult, CandidateTest
from ktrdr_mcp.training.candidates import Candidate
from ktrdr_mcp.training.choice import (
    count_not_distinguishable,
    is_collapsed,
    mean_score,
    noise_of,
    shares_of_variance,
)
from ktrdr_mcp.training.judgement import predict_rows, score
from ktrdr_mcp.training.learners import MAIN
from ktrdr_mcp.training.proposals import dimensions_of, key_of
from ktrdr_mcp.training.search import Searched, count_groups, own_values

BEST: Final = 5
MATTERS: Final = 0.02  # shares below are left out
DIGITS: Final = 2  # of a score that is shown

State = Literal["trained", "diverged", "collapsed", "unusable"]


def own_test(searched: Searched, candidate: Candidate) -> DirectionalTest | None:
    """A candidate's own walk-forward, tested as the verdict is; None where a fold is missing."""
    splits = list(range(len(searched.splits.folds))) or [MAIN]
    pairs = [searched.pair(candidate, split) for split in splits]
    folds = [predict_rows(*pair) for pair in pairs if pair is not None]
    if len(folds) < len(splits):
        return None
    dataset = folds[0].learner.dataset
    horizon = searched.horizon
    return directional_test([score(each, horizon) for each in folds], dataset.timestamps, horizon)


def candidate_results(searched: Searched) -> list[CandidateResult]:
    """Every candidate of a search."""
    counted = searched.splits.before(MAIN)
    found = []
    for candidate, own in zip(searched.candidates, searched.scores, strict=True):
        test = own_test(searched, candidate)
        found.append(
            CandidateResult(
                number=candidate.number,
                settings=dict(candidate.settings),
                seed=candidate.seed,
                state=state_of(searched, candidate, own),
                validation=[None if each is None else each.statistic for each in own],
                score=mean_score(own, counted),
                test=None
                if test is None
                else CandidateTest(
                    statistic=test.statistic,
                    p=test.p,
                    accuracy=test.accuracy,
                    accuracy_error=test.accuracy_error,
                    rows=test.rows,
                ),
            )
        )
    return found


def state_of(searched: Searched, candidate: Candidate, own: Sequence[object]) -> State:
    """What became of a candidate's networks."""
    pairs = [pair for (number, _), pair in searched.pairs.items() if number == candidate.number]
    networks = [network for _, network in pairs]
    if any(network.diverged is not None for network in networks):
        return "diverged"
    place = candidate.number - 1
    if any(is_collapsed(each) for each in searched.scores[place]):
        return "collapsed"
    return "unusable" if None in own or not networks else "trained"


def sweep_figures(
    searched: Searched, results: Sequence[CandidateResult], task_id: str
) -> SweepFigures:
    """The part of a reply that tells of a search; arguments of the task."""
    sweep = searched.spec.config.sweep
    if sweep is None:
        raise ValueError(f"task {task_id} has no sweep")
    counted = searched.splits.before(MAIN)
    by_settings = settings_by_score(results)
    states = [each.state for each in results]
    ranked = [each for each in results if each.score is not None and each.state == "trained"]
    best = max(ranked, key=lambda each: (each.score or 0.0, -each.number), default=None)
    choices = searched.choices
    return SweepFigures(
        trials=len(by_settings),
        diverged=states.count("diverged"),
        collapsed=states.count("collapsed"),
        groups=count_groups(searched.candidates),
        sampler=sweep.sampler,
        chosen_by_fold=[None if each is None else each.candidate + 1 for each in choices[:-1]],
        kept=searched.kept[0].candidate.number,
        by_default=count_by_default(searched),
        best=[
            BestSettings(
                candidate=own[0].number,
                settings=own[0].settings,
                score=round(mean, DIGITS),
                noise=None if (noise := noise_of(scores_of(own))) is None else round(noise, DIGITS),
            )
            for mean, own in by_settings[:BEST]
            if mean is not None
        ],
        not_distinguishable_from_best=(
            count_not_distinguishable(searched.scores, best.number - 1, counted) if best else 0
        ),
        matters=matters(searched, by_settings),
        all=f"sweep://{task_id}",
    )


Ranked = list[tuple[float | None, list[CandidateResult]]]


def settings_by_score(results: Sequence[CandidateResult]) -> Ranked:
    """The sets of settings, each with its seeds, the best mean score first."""
    groups: dict[str, list[CandidateResult]] = {}
    for each in results:
        groups.setdefault(key_of(each.settings), []).append(each)
    found = [
        (fmean(scores) if (scores := scores_of(own)) else None, own) for own in groups.values()
    ]
    return sorted(found, key=lambda pair: (pair[0] is None, -(pair[0] or 0.0), pair[1][0].number))


def scores_of(results: Sequence[CandidateResult]) -> list[float]:
    """The scores of those that were trained to the end and say something."""
    return [each.score for each in results if each.score is not None and each.state == "trained"]


def matters(searched: Searched, ranked: Ranked) -> dict[str, float]:
    """The settings that explain the scores, by their share of the variance, the greatest first."""
    sweep = searched.spec.config.sweep
    if sweep is None:
        return {}
    own, names = own_values(searched.spec), [each.name for each in dimensions_of(sweep)]
    tried = [(mean, results[0].settings) for mean, results in ranked if mean is not None]
    shares = shares_of_variance(
        [{name: settings.get(name, own[name]) for name in names} for _, settings in tried],
        [mean for mean, _ in tried],
    )
    shown = [(name, round(share, DIGITS)) for name, share in shares.items() if share >= MATTERS]
    return dict(sorted(shown, key=lambda pair: -pair[1]))


def seed_spread(searched: Searched) -> dict[str, float]:
    """What seeds with the kept settings make of T, and how often nothing was preferred.

    T is of each seed's own walk-forward, where at least two have one. A search says itself what
    was preferred.
    """
    if searched.spec.choice != "nested":
        return {}
    kept = key_of(dict(searched.kept[0].candidate.settings))
    alike = [each for each in searched.candidates if key_of(dict(each.settings)) == kept]
    tests = [test for each in alike if (test := own_test(searched, each)) is not None]
    found = [test.statistic for test in tests]
    spread: dict[str, float] = {}
    if len(found) > 1:
        spread = {"t_median": median(found), "t_min": min(found), "t_max": max(found)}
    if searched.spec.config.sweep is None:
        spread["by_default"] = count_by_default(searched)
    return spread


def count_by_default(searched: Searched) -> int:
    """How many choices, of the folds and of the kept network, no validation decided."""
    return sum(each is not None and each.by_default for each in searched.choices)
