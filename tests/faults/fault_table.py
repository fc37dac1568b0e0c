"""What was tried, what was lost, what was resumed."""

from __future__ import annotations

from dataclasses import dataclass, field

HEADER = ("fault", "tries", "lost", "resumed", "seconds")


@dataclass
class FaultTable:
    """One line for each kind of fault. Whatever is lost fails its test, so that column is zero."""

    rows: list[tuple[str, int, int, int, float]] = field(default_factory=list)

    def add(self, fault: str, tries: int, seconds: float, resumed: int = 0) -> None:
        """Adds a line, once `assert_nothing_lost` has passed for every try."""
        self.rows.append((fault, tries, 0, resumed, seconds))

    def lines(self) -> list[str]:
        """The table as text."""
        if not self.rows:
            return []
        width = max(len(row[0]) for row in self.rows)
        lines = [f"{HEADER[0]:<{width}}" + "".join(f"{name:>9}" for name in HEADER[1:])]
        lines += [
            f"{fault:<{width}}{tries:>9}{lost:>9}{resumed:>9}{seconds:>9.1f}"
            for fault, tries, lost, resumed, seconds in self.rows
        ]
        return lines
