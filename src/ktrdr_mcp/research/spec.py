"""A training as plain JSON: all that a worker needs, here or on another machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from ktrdr_mcp.contract.config import EffectiveConfig
from ktrdr_mcp.strategy import Strategy

SPEC_VERSION: Final = 1


@dataclass(frozen=True)
class SeriesSpec:
    """One series of bars and the part of it to use."""

    symbol: str
    timeframe: str
    start_date: str | None
    end_date: str | None


@dataclass(frozen=True)
class TrainingSpec:
    """What to train, complete: nothing is looked up later but the bars."""

    task_id: str
    series: tuple[SeriesSpec, ...]  # one today
    strategy: Strategy
    config: EffectiveConfig

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "spec_version": SPEC_VERSION,
            "task_id": self.task_id,
            "series": [asdict(one) for one in self.series],
            "strategy": self.strategy.to_dict(),
            "config": self.config.model_dump(),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> TrainingSpec:
        """From what `to_dict` made."""
        return cls(
            task_id=raw["task_id"],
            series=tuple(SeriesSpec(**one) for one in raw["series"]),
            strategy=Strategy.from_dict(raw["strategy"]),
            config=EffectiveConfig.model_validate(raw["config"]),
        )
