"""How a training's beginning, state and result look on a terminal: the verdict first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ktrdr_mcp.cli.output import facts, heading, readable, warn

if TYPE_CHECKING:
    from ktrdr_mcp.contract import responses

INDENT: Final = (0, 0, 0, 2)
ENDED: Final = {"completed", "failed", "cancelled"}
STATUS_STYLES: Final = {"completed": "green", "failed": "red", "cancelled": "yellow"}
PREDICTION_STYLES: Final = {"skill": "green", "inconclusive": "yellow", "no_skill": "red"}
TRADING_STYLES: Final = {"survives_costs": "green", "inconclusive": "yellow", "loses": "red"}


def started(to: Console, reply: responses.TrainingStarted) -> None:
    """What is going to be trained, on which rows."""
    data, config = reply.data, reply.config
    heading(to, f"Training {reply.symbol} {reply.timeframe}", f"strategy {reply.strategy}")
    layers = "-".join(map(str, config.get("hidden_layers", [])))
    facts(
        to,
        {
            "task": reply.task_id,
            "bars": f"{data.bars:,} from {data.first_bar} to {data.last_bar}, {data.source}",
            "rows": f"{data.train_rows:,} training, {data.validation_rows:,} validation, "
            f"{data.test_rows:,} test, {data.purged_rows:,} purged",
            "labels": shares(data.class_shares),
            "network": f"{config.get('model_type')} {layers}, at most {config.get('epochs')} "
            f"epochs, seed {config.get('seed')}",
        },
    )
    warn(to, reply.warnings)
    if reply.similar_to:
        warn(to, [f"Tried before, up to the seed: {', '.join(reply.similar_to)}."])


def performance(to: Console, reply: responses.ModelPerformance) -> None:
    """What a training is worth: the verdict, the comparison, the rest."""
    heading(to, "Result", reply.task_id)
    to.print(Padding(verdict(reply), INDENT, expand=False))
    judged = reply.verdict
    reasons = {"why": judged.reason, "needs": judged.needs, "luck": judged.luck}
    facts(to, {name: text for name, text in reasons.items() if text})
    to.print()
    to.print(comparison(reply))
    to.print()
    facts(to, other_facts(reply))


def verdict(reply: responses.ModelPerformance) -> Text:
    """What the model is worth, in words."""
    judged = reply.verdict
    text = Text.assemble(
        "Prediction: ",
        (judged.prediction.replace("_", " "), f"bold {PREDICTION_STYLES[judged.prediction]}"),
        "   Trading after costs: ",
        (judged.trading.replace("_", " "), f"bold {TRADING_STYLES[judged.trading]}"),
    )
    if reply.collapsed:
        text.append("\nCollapsed: one class is predicted for every test row.", style="yellow")
    if reply.leak_suspected:
        text.append("\nA leak is suspected: even noise was foreseen.", style="bold red")
    return text


def comparison(reply: responses.ModelPerformance) -> Table:
    """Losses and accuracies of the three parts, above simple rules on the test rows."""
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for title in ("", "loss", "accuracy", "macro F1"):
        table.add_column(title, justify="right" if title else "left")
    training, test, simple = reply.training_metrics, reply.test_metrics, reply.baselines
    rows: tuple[tuple[str, float | None, float, float | None], ...] = (
        ("training", training.final_train_loss, training.final_train_accuracy, None),
        ("validation", training.final_val_loss, training.final_val_accuracy, None),
        ("test", test.test_loss, test.test_accuracy, test.f1_score),
    )
    for name, *figures in rows:
        table.add_row(name, *map(cell, figures), style="bold" if name == "test" else "")
    for name, rule in (
        ("logistic regression", simple.logistic),
        ("newest known label", simple.persistence),
        ("always the majority", simple.majority),
        ("at random", simple.prior),
    ):
        table.add_row(f"  {name}", "", cell(rule.accuracy), cell(rule.macro_f1), style="dim")
    return table


def cell(value: float | None) -> str:
    """A figure of the comparison, or nothing."""
    return "" if value is None else readable(value)


def other_facts(reply: responses.ModelPerformance) -> dict[str, str]:
    """Trading, the network and its training, each in one line."""
    trading, training, model = reply.trading, reply.training_metrics, reply.model_info
    stopped = ", stopped early" if training.early_stopped else ""
    told = {
        "trading": f"net {trading.net_total_return:+.1%} in {trading.trades:,} trades, "
        f"buy and hold {trading.buy_and_hold_return:+.1%}",
        "risk": f"Sharpe ratio {with_error(trading.sharpe, trading.sharpe_error)}, "
        f"largest drawdown {trading.max_drawdown:.1%}",
        "break-even cost": "-"
        if trading.break_even_cost_bps is None
        else f"{trading.break_even_cost_bps:.1f} bps",
        "epochs": f"{training.epochs_completed:,}, best {training.best_epoch:,}{stopped}, "
        f"{training.training_time_minutes:.2f} minutes",
        "network": f"{model.architecture}, {model.parameters_count:,} parameters, "
        f"{model.model_size_mb:.3f} MB",
        "test results read": "once"
        if reply.test_readings == 1
        else f"{reply.test_readings:,} times",
    }
    if reply.seeds:
        accuracy = with_error(reply.seeds.test_accuracy.mean, reply.seeds.test_accuracy.deviation)
        told["seeds"] = f"{reply.seeds.count}, test accuracy {accuracy}"
    return {**told, "next": reply.next}


def with_error(value: float | None, error: float | None) -> str:
    """A figure and how far it may be off."""
    if value is None:
        return "-"
    return f"{value:.3f}" if error is None else f"{value:.3f} ± {error:.3f}"


def shares(values: dict[str, float]) -> str:
    """Shares of the classes as percentages."""
    return ", ".join(f"{name} {share:.1%}" for name, share in values.items())


def status(to: Console, reply: responses.TrainingStatus) -> None:
    """Where a task stands."""
    style = f"bold {STATUS_STYLES.get(reply.status, '')}"
    to.print(Text.assemble((reply.status, style), f"  {reply.task_id}"))
    metrics = reply.current_metrics
    rows: dict[str, Any] = {
        "series": f"{reply.symbol} {reply.timeframe}",
        "progress": f"{reply.progress} %, epoch {reply.current_epoch:,} of {reply.total_epochs:,}",
        "started": reply.started_at,
        "ended" if reply.status in ENDED else "estimated end": reply.estimated_completion,
        "tasks ahead": reply.queue_position,
        "training": figures(metrics.train_loss, metrics.train_accuracy),
        "validation": figures(metrics.val_loss, metrics.val_accuracy),
        "alarm": reply.alarm,
        "error": reply.error,
        "error code": reply.error_code,
    }
    facts(to, {name: value for name, value in rows.items() if value is not None})


def figures(loss: float | None, accuracy: float | None) -> str | None:
    """One part's loss and accuracy, if there are any."""
    return None if loss is None else f"loss {readable(loss)}, accuracy {readable(accuracy)}"


def next_steps(to: Console, task_id: str) -> None:
    """What to do with a completed training."""
    to.print()
    to.print(Text(f"Keep it with: ktrdr-mcp models save {task_id} NAME", style="dim"))
