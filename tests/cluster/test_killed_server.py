"""A server that is killed while its cluster trains; the next one goes on with what was accepted."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ktrdr_mcp.daemon import executors
from tests.support.background_servers import wait_until
from tests.support.fault_table import LONG, Fault
from tests.support.killable_server import RealServer
from tests.support.nothing_lost import assert_nothing_lost
from tests.support.process_footprint import children
from tests.support.trained_bits import LONGER, WAIT_S, bits_of
from tests.support.trained_lab import held, resumed_epoch, saved_epoch

from .test_local_cluster import LAST, is_driver

pytestmark = pytest.mark.timeout(3_600 if LONG else 900)

NewFault = Callable[..., Fault]
TASK = "interrupted"
TIMES = 10 if LONG else 1


def test_a_killed_server_takes_its_driver_along_and_the_next_goes_on_to_the_same_bits(
    tmp_path: Path,
    longer: tuple[str, str],
    new_fault: NewFault,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(executors.VARIABLE, "ray")
    monkeypatch.setenv(executors.ADDRESS_VARIABLE, "local")
    fault, generator = new_fault("kill -9 of a server with a cluster"), random.Random(16)
    for number in range(TIMES):
        folder = tmp_path / str(number)
        epoch = generator.randrange(1, LAST)
        with RealServer(folder) as server, held(TASK):
            server.start(TASK, **LONGER)
            wait_until(lambda at=folder, epoch=epoch: saved_epoch(at, TASK) >= epoch, WAIT_S)
            (driver,) = [pid for pid in children(server.process.pid) if is_driver(pid)]
            server.kill()
        wait_until(lambda pid=driver: not is_driver(pid), WAIT_S)
        with RealServer(folder) as server:
            status = server.end_of(TASK)
            server.process.send_signal(signal.SIGTERM)
            assert server.wait()[0] == 0
        assert (status["status"], status["attempt"]) == ("completed", 2)
        assert resumed_epoch(status) >= epoch
        assert bits_of(folder, TASK) == longer
        assert_nothing_lost(folder, {TASK})
        fault.tries += 1
        fault.resumed += 1
