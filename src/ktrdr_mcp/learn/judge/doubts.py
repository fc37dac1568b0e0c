"""What speaks against a model whatever its T: each ground forbids `skill` and says what to mend."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

OTHER_LABELS: Final = "Labels that tell the future only, such as triple_barrier."
NO_LEAK: Final = "Features that do not look ahead."
LIVING_MODEL: Final = "A lower learning_rate, or another seed: the output must depend on features."
FINITE_FOLDS: Final = "A lower learning_rate, or gradient_clip, so that no fold diverges."
USABLE_FOLDS: Final = "Indicators that vary in every fold, fewer folds or a longer range."


@dataclass(frozen=True)
class Losses:
    """Networks of one role that were planned and say nothing in the end.

    Args:
        planned: how many there should have been.
        diverged: how many lost their numbers in training.
        unusable: how many have rows that carry no training, such as an indicator that stands still.
    """

    planned: int = 0
    diverged: int = 0
    unusable: int = 0

    @property
    def lost(self) -> int:
        """How many say nothing."""
        return self.diverged + self.unusable

    def text(self, name: str) -> str:
        """ "2 of 4 folds diverged", with `name` in the plural; empty if none is lost."""
        causes = [(self.diverged, "diverged"), (self.unusable, "had no usable data")]
        return " and ".join(
            f"{count} of {self.planned} {name} {cause}" for count, cause in causes if count
        )


class Objection(NamedTuple):
    """A ground against `skill`: how it continues the reason, and what would remove it."""

    clause: str
    needs: str


@dataclass(frozen=True)
class Doubts:
    """What is known of a model beside its T.

    Args:
        answer: the class that the kept model gives to every row of the final split, if there is one
            such. It is said, and T decides: p(buy) - p(sell) may tell apart what one class tops.
        model_constant: the kept model's score is the same on all rows of the final split.
        leak_suspected: noise twins of the bars were foreseen too.
        tells_past: the labels also say what has happened by their own bar, which on noise, too,
            is known. Then twins are foreseen without a leak.
        folds: walk-forward folds that are missing from T. Which ones diverge is not chance.
        untested: noise twins that are missing, if those left cannot show a leak.
    """

    answer: str | None = None
    model_constant: bool = False
    leak_suspected: bool = False
    tells_past: bool = False
    folds: Losses = field(default_factory=Losses)
    untested: Losses = field(default_factory=Losses)

    def objection(self) -> Objection | None:
        """The gravest ground against `skill`, if there is one."""
        if self.tells_past:
            return Objection("but labels that tell the past can be right on noise", OTHER_LABELS)
        return self.trading_objection()

    def trading_objection(self) -> Objection | None:
        """The gravest ground against `survives_costs`: gains need no labels, so these may tell."""
        if self.leak_suspected:
            return Objection("but noise is foreseen, too: a leak", NO_LEAK)
        if self.folds.lost:
            needs = FINITE_FOLDS if self.folds.diverged else USABLE_FOLDS
            return Objection("but not every fold is judged", needs)
        if self.model_constant:
            return Objection("but the kept model says the same of every row", LIVING_MODEL)
        return None

    def notes(self) -> str:
        """What a reason says besides, each clause after a semicolon."""
        answer = self.answer and f"the kept model answers {self.answer} on every row"
        clauses = (answer, self.folds.text("folds"), self.untested.text("twins"))
        return "".join(f"; {clause}" for clause in clauses if clause)
