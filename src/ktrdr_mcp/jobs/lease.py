"""One right to compute, passed round in the order of asking.

Two training loops that run freely in threads fight over the interpreter's lock and are slower
together than one alone; taking turns, they are not.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class FairLease:
    """A lock that is given in the order of asking, and for which waiting can be given up."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()  # the first one holds the lease

    def acquire(self, owner: object, gives_up: Callable[[], bool]) -> bool:
        """Waits for the lease.

        Args:
            owner: who asks; must not hold it or wait for it already.
            gives_up: whether to stop waiting; asked on every change and after `wake`.
        Returns:
            whether the owner holds the lease now.
        """
        with self._changed:
            self._queue.append(owner)
            self._changed.wait_for(lambda: self._queue[0] is owner or gives_up())
            if gives_up():
                self._leave(owner)
                return False
            return True

    def release(self, owner: object) -> None:
        """Gives the lease to the next in the queue."""
        with self._changed:
            if self._queue[0] is not owner:
                raise RuntimeError("the lease was released by one who does not hold it")
            self._leave(owner)

    def wake(self) -> None:
        """Lets everyone who waits ask again whether to give up."""
        with self._changed:
            self._changed.notify_all()

    def _leave(self, owner: object) -> None:
        """Takes the owner out of the queue."""
        self._queue.remove(owner)
        self._changed.notify_all()
