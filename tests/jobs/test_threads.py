"""Jobs in threads: the lease goes round in turn, and linear algebra has one thread."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from ktrdr_mcp.jobs.executors.threads import FairLease

BOUND_S = 60.0


def never() -> bool:
    return False


class Asker(threading.Thread):
    """Takes the lease, notes it, gives it back."""

    def __init__(self, lease: FairLease, name: str, order: list[str]) -> None:
        super().__init__(name=name, daemon=True)
        self.lease, self.order = lease, order
        self.stop = False
        self.got: bool | None = None

    def run(self) -> None:
        self.got = self.lease.acquire(self, lambda: self.stop)
        if self.got:
            self.order.append(self.name)
            self.lease.release(self)


def ask(lease: FairLease, name: str, order: list[str], place: int) -> Asker:
    """An asker that certainly stands at this place of the queue."""
    asker = Asker(lease, name, order)
    asker.start()
    while True:
        with lease._changed:
            if len(lease._queue) > place:
                return asker


def test_the_lease_is_given_in_the_order_of_asking() -> None:
    lease, order = FairLease(), list[str]()
    assert lease.acquire("first", never)
    askers = [ask(lease, str(place), order, place) for place in range(1, 6)]
    lease.release("first")
    for asker in askers:
        asker.join(BOUND_S)
    assert order == ["1", "2", "3", "4", "5"]


def test_one_who_takes_turns_stands_behind_all_who_waited() -> None:
    lease, order = FairLease(), list[str]()
    assert lease.acquire("busy", never)
    askers = [ask(lease, str(place), order, place) for place in (1, 2)]
    lease.release("busy")
    assert lease.acquire("busy", never)
    assert order == ["1", "2"]
    for asker in askers:
        asker.join(BOUND_S)


def test_one_who_gives_up_leaves_the_queue_at_once() -> None:
    lease, order = FairLease(), list[str]()
    assert lease.acquire("holder", never)
    tired = ask(lease, "tired", order, 1)
    patient = ask(lease, "patient", order, 2)
    tired.stop = True
    lease.wake()
    tired.join(BOUND_S)
    assert tired.got is False
    lease.release("holder")
    patient.join(BOUND_S)
    assert (patient.got, order) == (True, ["patient"])
    assert lease.acquire("again", never)


def test_one_who_has_given_up_before_does_not_get_a_free_lease() -> None:
    lease = FairLease()
    assert not lease.acquire("tired", lambda: True)
    assert lease.acquire("next", never)


def test_only_the_holder_can_release() -> None:
    lease = FairLease()
    lease.acquire("holder", never)
    with pytest.raises(RuntimeError, match="does not hold it"):
        lease.release("other")


def test_jobs_in_threads_leave_one_thread_to_linear_algebra_though_numpy_was_there_first() -> None:
    code = (
        "import numpy, scipy.linalg\n"
        "from ktrdr_mcp.jobs.executors.threads import load_torch\n"
        "load_torch()\n"
        "from threadpoolctl import threadpool_info\n"
        "print({each['num_threads'] for each in threadpool_info() if each['user_api'] == 'blas'})\n"
    )
    several = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    several.pop("OMP_NUM_THREADS", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=several, capture_output=True, check=True, text=True
    )
    assert done.stdout.strip() == "{1}"
