"""How honest the verdicts are, on series whose truth is known."""
