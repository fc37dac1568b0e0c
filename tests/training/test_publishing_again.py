"""A result that the disk refuses is published later, without another training."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ktrdr_mcp.context import NullContext
from ktrdr_mcp.errors import StorageFull, TooManyOpenFiles
from ktrdr_mcp.files import storage_errors
from ktrdr_mcp.jobs.live import Live
from ktrdr_mcp.jobs.model import is_unstored
from ktrdr_mcp.jobs.worker import failure_of
from ktrdr_mcp.training import bundle, pipeline

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")

SHORT = {"epochs": 3, "hidden_layers": [16, 8], "walk_forward": None}


@contextmanager
def no_room() -> Iterator[None]:
    """A disk that takes a few hundred bytes of each file, as the system's limit on files does."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_at_publishing_does_not_train_again(trial, noise) -> None:
    first, second, whole = NullContext(), NullContext(), NullContext()
    with no_room(), pytest.raises(StorageFull) as refused:
        trial.run(noise, SHORT, first)
    assert len(first.reports) == 3
    failure = failure_of(refused.value)
    assert (failure.code, failure.stage) == ("storage_full", "publishing")
    assert is_unstored(failure, Live(0.0))  # also in a run that reports nothing any more
    with no_room(), pytest.raises(StorageFull):
        trial.run(noise, SHORT, second)
    result = trial.run(noise, SHORT, second)
    assert second.reports == []
    other = trial.run(noise, SHORT, whole, folder="other")
    assert result.data_fingerprint == other.data_fingerprint
    weights = [bundle.read(trial.root / folder).weights for folder in ("bundle", "other")]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[1])
    assert pipeline.UNPUBLISHED == {}


def test_a_result_that_was_kept_is_not_another_specifications(trial, noise) -> None:
    with no_room(), pytest.raises(StorageFull):
        trial.run(noise, SHORT)
    again = NullContext()
    trial.run(noise, SHORT | {"epochs": 2}, again)
    assert len(again.reports) == 2


def test_only_as_many_results_are_kept_as_trainings_run_at_once(trial, noise) -> None:
    for number in range(4):
        with no_room(), pytest.raises(StorageFull):
            trial.run(noise, SHORT | {"epochs": 1}, folder=f"bundle-{number}")
    kept = [path.name for path in pipeline.UNPUBLISHED if path.parent == trial.root]
    assert kept == ["bundle-2", "bundle-3"]
    for path in kept:
        trial.run(noise, SHORT | {"epochs": 1}, folder=path)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_want_of_descriptors_is_waited_for_at_every_stage(number) -> None:
    raised = OSError(number, os.strerror(number))
    failure = failure_of(raised)
    assert failure.code == TooManyOpenFiles.code
    assert is_unstored(failure, Live(0.0))
    with pytest.raises(TooManyOpenFiles) as told, storage_errors("writing bundle"):
        raise raised
    assert is_unstored(failure_of(told.value), Live(0.0))


def test_every_open_file_of_this_process_makes_that_error(tmp_path: Path) -> None:
    with pytest.raises(TooManyOpenFiles), limited(), storage_errors("opening files"):
        open_until_refused(tmp_path)


def open_until_refused(path: Path) -> None:
    held = []
    try:
        while True:
            held.append(os.open(path, os.O_RDONLY))
    finally:
        for descriptor in held:
            os.close(descriptor)


@contextmanager
def limited() -> Iterator[None]:
    """A few descriptors only."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
