"""A training as plain JSON: all that a worker needs, here or on another machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from pydantic import ValidationError

from ktrdr_mcp.data.bars import DayRule
from ktrdr_mcp.errors import TrainingFailed, quote
from ktrdr_mcp.schemas.config import EffectiveConfig
from ktrdr_mcp.strategy.form import Strategy

SPEC_VERSION: Final = 1


@dataclass(frozen=True)
class SeriesSpec:
    """One series of bars and the part of it to use."""

    symbol: str
    timeframe: str
    start_date: str | None
    end_date: str | None
    days: DayRule | None = None  # in which offset a day begins; None is UTC, as it always was
    dataset: str | None = None  # the stored timeframe and version, "1h v3"; None: what is in data/

    @property
    def day_rule(self) -> DayRule:
        """In which offset a day begins."""
        return self.days or "utc"

    def to_dict(self) -> dict[str, Any]:
        """As JSON, without what is None, so that stored ones stay equal."""
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in {"days", "dataset"} or value is not None
        }


@dataclass(frozen=True)
class Alternative:
    """Another strategy that a search may choose, and the configuration that belongs to it."""

    strategy: Strategy
    config: EffectiveConfig

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"strategy": self.strategy.to_dict(), "config": self.config.model_dump()}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Alternative:
        """From what `to_dict` made. Raises ValueError, KeyError or TypeError."""
        return cls(
            Strategy.from_dict(raw["strategy"]), EffectiveConfig.model_validate(raw["config"])
        )


@dataclass(frozen=True)
class TrainingSpec:
    """What to train, complete: nothing is looked up later but the bars.

    Args:
        task_id: whose it is.
        series: one today.
        strategy: of the task's own settings.
        config: likewise.
        choice: "nested" where each walk-forward fold chooses among candidates by rows before its
            test; None where there is one candidate, and in tasks from before there were several,
            whose seeds vary the kept network alone.
        alternatives: the other strategies of a search, by name.
        spread: whether a search's large groups are cut into batches, which other workers may
            train; not in tasks from before they were.
        horizon: the longest look ahead of any candidate of a search, in bars, by its settings; None
            without a search, and in those from before it was kept.
        trials: how many sets of settings a search tries at most, each of them once; None without
            a search, and in those from before they were counted, which propose as they did then.
    """

    task_id: str
    series: tuple[SeriesSpec, ...]
    strategy: Strategy
    config: EffectiveConfig
    choice: Literal["nested"] | None = None
    alternatives: Mapping[str, Alternative] = field(default_factory=dict)
    spread: bool = False
    horizon: int | None = None
    trials: int | None = None

    @property
    def strategies(self) -> list[Strategy]:
        """The task's own strategy, then the others."""
        return [self.strategy, *(each.strategy for each in self.alternatives.values())]

    def to_dict(self) -> dict[str, Any]:
        """As JSON, without what only a search has where there is none: stored ones stay equal."""
        document: dict[str, Any] = {
            "spec_version": SPEC_VERSION,
            "task_id": self.task_id,
            "series": [one.to_dict() for one in self.series],
            "strategy": self.strategy.to_dict(),
            "config": self.config.model_dump(),
        }
        if self.choice is not None:
            document["choice"] = self.choice
        if self.spread:
            document["spread"] = True
        if self.horizon is not None:
            document["horizon"] = self.horizon
        if self.trials is not None:
            document["trials"] = self.trials
        if self.alternatives:
            document["alternatives"] = {
                name: each.to_dict() for name, each in self.alternatives.items()
            }
        return document

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> TrainingSpec:
        """From what `to_dict` made. Raises TrainingFailed if another version made it."""
        try:
            return cls(
                task_id=raw["task_id"],
                series=tuple(SeriesSpec(**one) for one in raw["series"]),
                strategy=Strategy.from_dict(raw["strategy"]),
                config=EffectiveConfig.model_validate(raw["config"]),
                choice=raw.get("choice"),
                spread=raw.get("spread", False),
                horizon=raw.get("horizon"),
                trials=raw.get("trials"),
                alternatives={
                    name: Alternative.from_dict(each)
                    for name, each in sorted(raw.get("alternatives", {}).items())
                },
            )
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingFailed(
                f"The task's stored specification is not one of this version ({reason(error)}).",
                hint="Start the same training again under another task_id, or run it with the"
                " ktrdr-mcp that accepted it.",
            ) from error


def reason(error: Exception) -> str:
    """What does not fit, without the values."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return quote(".".join(["config", *map(str, first["loc"])])).strip("'\"")
    return type(error).__name__
