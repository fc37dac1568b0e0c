"""One suggestion after a training, from training and validation figures only.

Test figures must not steer the next choice; a suggestion that is followed joins the same family.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

GAP: Final = 0.15  # training accuracy above validation accuracy


def next_step(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """What to try next.

    Args:
        metrics: the figures of a completed training.
        config: its effective configuration.
    """
    training = metrics["training_metrics"]
    gap = training["final_train_accuracy"] - training["final_val_accuracy"]
    if any(fold.get("lost") == "diverged" for fold in metrics["walk_forward"]["folds"]):
        return "Lower learning_rate, or set gradient_clip (1.0): not every fold kept its numbers."
    if metrics["validation_collapsed"]:
        return "Set class_weights to 'balanced', or a smaller labels.width: one class took all."
    if gap > GAP:
        return f"Raise dropout_rate or weight_decay: training is {gap:.2f} above validation."
    if training["final_val_accuracy"] <= metrics["validation_majority"]:
        return "Try a strategy of another idea: nothing was found on the validation rows."
    if training["best_epoch"] == config["epochs"]:
        return "Raise epochs: validation was still improving at the last one."
    if config["seeds"] == 1:
        return "Set seeds to 5: the spread shows how much of this is the seed's luck."
    return "Compare with another strategy by compare_trainings, on validation only."
