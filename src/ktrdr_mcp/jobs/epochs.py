"""The figures of a training's epochs so far, in bounded memory: every one, later every 2nd, 4th."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from ktrdr_mcp.context import EpochFigures
from ktrdr_mcp.limits import MAX_SHOWN_EPOCHS


@dataclass(frozen=True)
class EpochCurve:
    """At most MAX_SHOWN_EPOCHS epochs, evenly spaced from the first one on, and the newest."""

    kept: tuple[EpochFigures, ...] = ()
    newest: EpochFigures | None = None
    stride: int = 1

    def with_figures(self, figures: Iterable[EpochFigures]) -> EpochCurve:
        """This curve with further epochs; figures that are not finite are left out.

        An epoch reported twice, as a resumed run does with its checkpoint's, is kept once.
        """
        kept, newest, stride = list(self.kept), self.newest, self.stride
        for each in figures:
            repeated = newest is not None and each.epoch == newest.epoch
            if repeated or not all(map(isfinite, each)):
                continue
            newest = each
            if (each.epoch - 1) % stride:
                continue
            kept.append(each)
            if len(kept) == MAX_SHOWN_EPOCHS:
                stride *= 2
                kept = [one for one in kept if (one.epoch - 1) % stride == 0]
        return replace(self, kept=tuple(kept), newest=newest, stride=stride)

    @property
    def points(self) -> tuple[EpochFigures, ...]:
        """The epochs, oldest first."""
        if self.newest is None or (self.kept and self.kept[-1] == self.newest):
            return self.kept
        return (*self.kept, self.newest)

    def to_json(self) -> list[dict[str, Any]]:
        """The epochs as objects."""
        return [each._asdict() for each in self.points]
