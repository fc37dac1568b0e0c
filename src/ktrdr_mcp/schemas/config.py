"""The training configuration: every field, its bounds and its default, once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ktrdr_mcp import limits
from ktrdr_mcp.errors import InvalidRequest
from ktrdr_mcp.schemas.parsing import REFUSED, ReadAs, is_none
from ktrdr_mcp.schemas.space import Setting, SpaceProblems, check_settings, check_space

Label = Annotated[str, StringConstraints(max_length=64)]
Share = Annotated[float, Field(gt=0, lt=limits.MAX_SPLIT_SHARE)]


class Strict(BaseModel):
    """A request model: unknown keys, loose types and non-finite numbers are refused."""

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, frozen=True, defer_build=True
    )


# each type's settings, with their defaults
SCHEDULER_SETTINGS: Final[Mapping[str, Mapping[str, float]]] = {
    "step": {"step_size": 30, "gamma": 0.1},
    "exponential": {"gamma": 0.95},
    "reduce_on_plateau": {"factor": 0.5, "patience": 5},
}


class EarlyStopping(Strict):
    """When training ends before its last epoch."""

    patience: int = Field(
        10, ge=1, le=limits.MAX_PATIENCE_EPOCHS, description="epochs without gain"
    )
    monitor: Literal["val_accuracy", "val_loss"] = Field(
        "val_accuracy", description="what must improve"
    )


class LearningRateScheduler(Strict):
    """How the learning rate changes between epochs."""

    type: Literal["step", "exponential", "reduce_on_plateau"] = "step"
    step_size: int | None = Field(
        None, ge=1, le=limits.MAX_EPOCHS, description="step: epochs per step"
    )
    gamma: float | None = Field(None, gt=0, le=1, description="step, exponential: factor per step")
    factor: float | None = Field(
        None, gt=0, lt=1, description="reduce_on_plateau: factor per reduction"
    )
    patience: int | None = Field(
        None, ge=0, le=limits.MAX_EPOCHS, description="reduce_on_plateau: epochs"
    )


class WalkForward(Strict):
    """Purged folds over the last rows, whose pooled predictions carry the verdict."""

    folds: int = Field(4, ge=1, le=limits.MAX_FOLDS, description="how many")
    span: float = Field(
        0.6, gt=0, lt=limits.MAX_SPLIT_SHARE, description="share of all usable rows that they test"
    )
    window: Literal["expanding", "rolling"] = Field(
        "expanding", description="whether a fold trains on all of its past"
    )


DEFAULT_LABELS: Final = {"method": "triple_barrier", "horizon": 8, "width": 0.85}


class LabelSettings(Strict):
    """How bars are labelled, as clients are told; each label checks its own settings."""

    method: Literal["triple_barrier", "forward_return", "zigzag", "zigzag_segments"] = (
        "triple_barrier"
    )
    horizon: int | None = Field(None, ge=1, description="bars ahead")
    width: float | None = Field(None, gt=0, description="triple_barrier: barriers in volatilities")
    threshold: float | None = Field(None, gt=0, description="the others: smallest move, a fraction")


def check_vary(vary: dict[Setting, Any]) -> dict[Setting, Any]:
    """A search's space in its one form; all that is wrong with it is one complaint."""
    try:
        return check_space(vary, TrainingConfig)
    except SpaceProblems as problems:
        raise PydanticCustomError(REFUSED, "refused", {"refusal": problems.error()}) from None


def check_include(include: list[dict[Setting, Any]]) -> list[dict[Setting, Any]]:
    """What a search tries in any case, under dotted names."""
    try:
        return check_settings(include, TrainingConfig)
    except SpaceProblems as problems:
        raise PydanticCustomError(REFUSED, "refused", {"refusal": problems.error()}) from None


Sampler = Literal["qmc", "tpe", "random"]


class Sweep(Strict):
    """Try many settings as one procedure; validation rows before each fold's test choose."""

    trials: int = Field(
        64,
        ge=2,
        le=limits.MAX_SWEEP_TRIALS,
        description="settings tried, your own and include among them",
    )
    vary: Annotated[dict[Setting, Any], AfterValidator(check_vary)] = Field(
        min_length=1,
        max_length=limits.MAX_SPACE_SETTINGS,
        description="setting: [values] or {low, high, log}; also labels.horizon, strategy",
    )
    include: Annotated[list[dict[Setting, Any]], AfterValidator(check_include)] = Field(
        default=[], max_length=limits.MAX_SPACE_VALUES, description="settings to try in any case"
    )
    sampler: Sampler = Field("qmc", description="who proposes; tpe learns from fold 1's validation")
    seed: int = Field(0, ge=0, le=limits.MAX_SEED, description="of the proposals")


def complete_scheduler(given: Mapping[str, Any]) -> dict[str, Any]:
    """A scheduler's settings with the defaults of its type.

    Args:
        given: settings as sent; an unknown type is left to the model to refuse.
    """
    kind = given.get("type", "step")
    return {"type": kind, **SCHEDULER_SETTINGS.get(kind, {}), **given}


class TrainingConfig(Strict):
    """Everything that decides how a network is trained. The defaults are the specification's.

    A request sets any part of it; `model_fields_set` says which, so that the rest can come from the
    strategy.
    """

    null_is_a_setting: ClassVar[bool] = True  # it switches off what a strategy may switch on

    model_type: Literal["mlp"] = Field("mlp", description="a fully connected network")
    hidden_layers: list[Annotated[int, Field(ge=1, le=limits.MAX_LAYER_UNITS)]] = Field(
        default=[64, 32, 16],
        min_length=1,
        max_length=limits.MAX_LAYERS,
        description="units of each layer",
    )
    epochs: int = Field(100, ge=1, le=limits.MAX_EPOCHS, description="at most")
    learning_rate: float = Field(
        0.001, gt=0, le=limits.MAX_LEARNING_RATE, description="step size of the optimizer"
    )
    batch_size: int = Field(32, ge=1, le=limits.MAX_BATCH_ROWS, description="rows per step")
    validation_split: Share = Field(0.2, description="share of all usable rows that choose")
    test_split: Share = Field(0.15, description="share of all usable rows that judge")
    early_stopping: EarlyStopping | None = Field(
        EarlyStopping(), description="stop when nothing improves; the best epoch is kept"
    )
    optimizer: Literal["adam", "sgd", "rmsprop"] = Field("adam", description="how weights move")
    dropout_rate: float = Field(0.2, ge=0, lt=1, description="share of units left out per step")
    seed: int = Field(0, ge=0, le=limits.MAX_SEED, description="same seed, same weights")
    labels: Annotated[dict[Label, str | float | int], ReadAs(LabelSettings)] = Field(
        default={"method": "triple_barrier"},
        max_length=8,
        description="what is foretold: buy, hold or sell",
    )
    activation: Literal["relu", "tanh", "sigmoid", "leaky_relu"] = Field(
        "relu", description="of the hidden layers"
    )
    weight_decay: float = Field(0.0, ge=0, le=1, description="pull of the weights to zero")
    momentum: float = Field(0.0, ge=0, lt=1, description="sgd and rmsprop only")
    gradient_clip: float | None = Field(None, gt=0, le=1e6, description="largest gradient norm")
    lr_scheduler: LearningRateScheduler | None = Field(
        None, description="how the learning rate falls"
    )
    class_weights: Literal["balanced"] | None = Field(None, description="weigh rare classes up")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to train")
    seeds: int = Field(
        1, ge=1, le=limits.MAX_SEEDS, description="candidates that differ in seed; one trial"
    )
    walk_forward: WalkForward | None = Field(
        WalkForward(), description="purged folds that carry the verdict"
    )
    control: bool = Field(False, description="train noise twins to find leaks")
    sweep: Sweep | None = Field(
        None,
        description="search over settings, judged as one trial",
        exclude_if=is_none,  # so that stored specifications stay equal
    )


class EffectiveConfig(TrainingConfig):
    """A configuration after merging; its fields must agree with each other."""

    @model_validator(mode="after")
    def splits_leave_rows_to_train_on(self) -> Self:
        """Refuses splits that take nearly every row."""
        if self.validation_split + self.test_split >= limits.MAX_SPLIT_SHARE:
            raise InvalidRequest(
                f"validation_split {self.validation_split:g} and test_split {self.test_split:g} "
                f"together reach {limits.MAX_SPLIT_SHARE:g} of the rows.",
                hint=f"Keep their sum below {limits.MAX_SPLIT_SHARE:g}.",
                field="config.validation_split",
            )
        return self

    @model_validator(mode="after")
    def candidates_are_not_too_many(self) -> Self:
        """Refuses more candidates than a training may have."""
        trials = self.sweep.trials if self.sweep else 1
        if trials * self.seeds > limits.MAX_CANDIDATES:
            raise InvalidRequest(
                f"{trials} trials with {self.seeds} seeds are {trials * self.seeds:,} candidates;"
                f" {limits.MAX_CANDIDATES:,} are the most.",
                hint="Use fewer trials or seeds.",
                field="config.sweep.trials",
            )
        return self

    @model_validator(mode="after")
    def momentum_has_an_effect(self) -> Self:
        """Refuses momentum where the optimizer has its own."""
        if self.momentum and self.optimizer == "adam":
            raise InvalidRequest(
                "config.momentum has no effect with optimizer adam.",
                hint="Use optimizer sgd or rmsprop, or leave momentum out.",
                field="config.momentum",
            )
        return self

    @model_validator(mode="after")
    def scheduler_settings_have_an_effect(self) -> Self:
        """Refuses scheduler settings that its type would ignore."""
        given = self.lr_scheduler.model_dump(exclude_none=True) if self.lr_scheduler else {}
        kind = given.pop("type", "step")
        used = SCHEDULER_SETTINGS[kind]
        if ignored := sorted(set(given) - set(used)):
            raise InvalidRequest(
                f"config.lr_scheduler.{ignored[0]} has no effect with type {kind}.",
                hint=f"It uses {' and '.join(used)}.",
                field=f"config.lr_scheduler.{ignored[0]}",
            )
        return self
