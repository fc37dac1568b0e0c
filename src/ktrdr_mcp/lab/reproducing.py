"""Training a completed task again from what is stored, and what comes out differently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ktrdr_mcp import durable
from ktrdr_mcp.contract import responses
from ktrdr_mcp.lab import results
from ktrdr_mcp.lab.admission import digest, new_task_id
from ktrdr_mcp.learn import bundle
from ktrdr_mcp.paths import Workspace
from ktrdr_mcp.store.task_row import NewTask, TaskRow

# what need not be the same: when and how long, and the names of the tasks
NOT_COMPARED = {"training_time_minutes", "details"}


def new_task(original: TaskRow, after: TaskRow | None = None) -> NewTask:
    """A task with the stored specification of another, under an id of its own.

    Args:
        original: a completed task. Asking again names the same reproduction.
        after: an earlier reproduction that came to nothing.
    """
    earlier = f" after {after.task_id}" if after else ""
    identifier = new_task_id()
    return NewTask(
        task_id=identifier,
        symbol=original.symbol,
        timeframe=original.timeframe,
        strategy=original.strategy,
        config=original.config,
        spec={**original.spec, "task_id": identifier},
        spec_version=original.spec_version,
        test_start=original.test_start,
        test_end=original.test_end,
        request_hash=digest(["reproduce", original.task_id]),
        similarity_hash=original.similarity_hash,
        idempotency_key=f"reproduce {original.task_id}{earlier}",
        group_id=original.task_id,
        total_epochs=original.total_epochs,
    )


def came_to_nothing(workspace: Workspace, again: TaskRow) -> bool:
    """Whether a reproduction has no result, or not any more."""
    if again.status == "completed":
        return not results.is_kept(workspace, again.task_id)
    return again.status in {"failed", "cancelled"}


def reproduction(workspace: Workspace, original: TaskRow, again: TaskRow) -> responses.Reproduction:
    """The reply. Blocks while bundles are read.

    Args:
        workspace: where bundles lie.
        original: the completed task.
        again: its reproduction, completed or not.
    """
    done = again.status == "completed"
    found = differences(workspace, original, again) if done else []
    return responses.Reproduction(
        task_id=original.task_id,
        reproduction_task_id=again.task_id,
        status=again.status,
        result=("differs" if found else "match") if done else None,
        differences=found,
        message=message(again, found),
    )


def message(again: TaskRow, found: list[str]) -> str:
    """What the comparison means and what to do."""
    if again.status in {"pending", "training"}:
        return "The reproduction is still training; call reproduce_training again."
    if again.status != "completed":
        reason = again.error_message or "no result."
        return f"The reproduction {again.status}: {reason} Call reproduce_training to try again."
    if found:
        return "The training does not come out the same; the differences say where to look."
    return "Weights, history and figures are identical."


def differences(workspace: Workspace, original: TaskRow, again: TaskRow) -> list[str]:
    """What is not the same in two completed tasks."""
    folders = [workspace.bundle_directory(row.task_id) for row in (original, again)]
    documents = [bundle.read_document(folder) for folder in folders]
    found = [
        f"{name}: {one} became {other}"
        for name, one, other in changed(documents[0]["versions"], documents[1]["versions"])
    ]
    if documents[0]["data_fingerprint"] != documents[1]["data_fingerprint"]:
        found.append("The stored bars have changed since the first training.")
    hashes = changed(documents[0]["sha256"], documents[1]["sha256"])
    found += [f"{name} has other bytes." for name, _, _ in hashes]
    figures = [durable.json_bytes(comparable(document["metrics"])) for document in documents]
    if figures[0] != figures[1]:
        found.append("The figures differ.")
    return found


def changed(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Names whose values are not the same."""
    names = sorted({*one, *other})
    return [
        (name, one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)
    ]


def comparable(value: Any) -> Any:
    """Figures without what need not be the same."""
    if isinstance(value, dict):
        return {name: comparable(each) for name, each in value.items() if name not in NOT_COMPARED}
    if isinstance(value, list):
        return [comparable(each) for each in value]
    return value
