"""What a trial must reach: the level that its family leaves it, and that other families do.

Inside a family the adjusted p of trial k knows the k - 1 trials before it, and a stream of trials
spends its level again at each of them: stopping at the first success would claim more and more. So
the level falls with k. Across families, which lie on other bars and are nearly independent, the
share of false claims among all claims is bounded instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ktrdr_mcp.schemas.results import TrialScores

FAMILY_LEVEL: Final = 0.02  # of a family's first trial
STREAM_LEVEL: Final = 0.05  # false claims among claims, over all families


def level_of_trial(number: int) -> float:
    """What the adjusted p of a family's k-th trial must not exceed: 0.02 / (1 + ln k).

    A stream of independent noise trials ever claims in 4.7 % by the hundredth, and less where they
    are correlated; docs/method.md has the simulation.

    Args:
        number: k, from 1, in the order of starts.
    """
    return FAMILY_LEVEL / (1 + math.log(number))


@dataclass(frozen=True)
class Stream:
    """What had been tried on other bars when a family began.

    Args:
        place: of the family, from 1, in the order of first trials.
        claims: how many families before it had a claim that holds across families.
    """

    place: int = 1
    claims: int = 0


def level_across(stream: Stream, number: int) -> float:
    """What the adjusted p of a family's k-th trial must not exceed to hold across families.

    Its first trial may use 0.05 (claims + 1) 6 / (pi n)^2, n its place in the stream (LOND); later
    ones as much less as inside the family. A family's claim counts once.

    Args:
        stream: when the family began.
        number: k, from 1.
    Source:
        A. Javanmard, A. Montanari, On Online Control of False Discovery Rate, 2015.
    """
    share = 6 / (math.pi * stream.place) ** 2
    first = min(STREAM_LEVEL * (stream.claims + 1) * share, STREAM_LEVEL)
    return first * level_of_trial(number) / FAMILY_LEVEL


@dataclass(frozen=True)
class EarlierTrials:
    """What a trial is judged beside: fixed when it completed, so its verdict is, too.

    Args:
        scored: scores of the related trials that started before it and had completed by then.
        missing: how many others started before it: failed, cancelled, or not yet completed.
        since: how many related trials have started after it; they change nothing.
        stream: what had been tried on other bars when its family began.
        elsewhere: how many of the trials before it are of other workspaces.
        recorded: whether trials of other workspaces could be counted.
    """

    scored: Sequence[TrialScores] = ()
    missing: int = 0
    since: int = 0
    stream: Stream = Stream()
    elsewhere: int = 0
    recorded: bool = True

    @property
    def number(self) -> int:
        """The place of the trial in its family, from 1."""
        return 1 + len(self.scored) + self.missing

    @property
    def level(self) -> float:
        """What its adjusted p must not exceed."""
        return level_of_trial(self.number)

    @property
    def level_across(self) -> float:
        """What it must not exceed to hold beside all that was tried on other bars."""
        return level_across(self.stream, self.number)
