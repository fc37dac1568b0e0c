"""Whose task is next: clients take turns, and each one's tasks come in the order of submission."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Collection


class Turns:
    """The tasks that wait, by client. A list beside the database, which decides."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, deque[str]] = defaultdict(deque)
        self._whole: defaultdict[str, deque[str]] = defaultdict(deque)  # those never divided
        self._client_of: dict[str, str] = {}  # of tasks that wait or run
        self._dividing: set[str] = set()  # tasks that may be divided
        self._running: Counter[str] = Counter()  # tasks by client
        self._served: dict[str, int] = {}  # when each client had its last turn
        self._turn = 0

    def add(self, task_id: str, client: str, *, divides: bool = False) -> None:
        """Adds a task that waits, unless it is known.

        Args:
            task_id: the task.
            client: whose it is.
            divides: whether it may be divided into parts.
        """
        if task_id not in self._client_of:
            self._client_of[task_id] = client
            self._waiting[client].append(task_id)
            if divides:
                self._dividing.add(task_id)
            else:
                self._whole[client].append(task_id)

    def client_of(self, task_id: str) -> str:
        """Whose task this is."""
        return self._client_of.get(task_id, "")

    @property
    def waiting(self) -> int:
        """How many tasks wait."""
        return sum(map(len, self._waiting.values()))

    def next(self, busy: Collection[str] = ()) -> str | None:
        """The first task of the client with the fewest running, or served longest ago.

        Args:
            busy: clients whose tasks that may be divided must wait.
        """
        for client in self._in_order():
            if tasks := self._whole[client] if client in busy else self._waiting[client]:
                return tasks[0]
        return None

    def count_urgent(self, busy: Collection[str]) -> int:
        """How many tasks may begin before parts that wait: one of a client's that may be divided.

        Args:
            busy: clients that have such a one.
        """
        count = 0
        for client, tasks in self._waiting.items():
            whole = len(self._whole.get(client, ()))
            count += whole + (client not in busy and len(tasks) > whole)
        return count

    def begin(self, task_id: str) -> None:
        """Marks a task as running; its client has had its turn."""
        client = self._client_of.setdefault(task_id, "")
        self._drop(task_id)
        self._running[client] += 1
        self._turn += 1
        self._served[client] = self._turn

    def put_back(self, task_id: str) -> None:
        """Lets a task that ran wait again, before its client's others."""
        client = self._client_of[task_id]
        self._running[client] -= 1
        self._waiting[client].appendleft(task_id)
        if task_id not in self._dividing:
            self._whole[client].appendleft(task_id)

    def end(self, task_id: str) -> None:
        """Forgets a task that has ended, or does not wait any more."""
        if not self._drop(task_id) and task_id in self._client_of:
            self._running[self._client_of[task_id]] -= 1
        client = self._client_of.pop(task_id, "")
        self._dividing.discard(task_id)
        if not self._running[client] and not self._waiting[client]:
            del self._running[client], self._waiting[client]
            self._whole.pop(client, None)
            self._served.pop(client, None)

    def position(self, task_id: str) -> int | None:
        """How many tasks will probably begin before this one; None if it is not known to wait."""
        own = self._client_of.get(task_id)
        if own is None or task_id not in self._waiting[own]:
            return None
        ahead, clients = self._waiting[own].index(task_id), self._in_order()
        others = [
            min(len(self._waiting[client]), ahead + (clients.index(client) < clients.index(own)))
            for client in clients
            if client != own
        ]
        return ahead + sum(others)

    def _in_order(self) -> list[str]:
        """The clients with tasks that wait, the next one first."""
        waiting = [client for client, tasks in self._waiting.items() if tasks]
        return sorted(
            waiting, key=lambda client: (self._running[client], self._served.get(client, 0))
        )

    def _drop(self, task_id: str) -> bool:
        """Takes a task out of those that wait; False if it is not there."""
        waiting = self._waiting[self._client_of.get(task_id, "")]
        if task_id not in waiting:
            return False
        waiting.remove(task_id)
        if task_id not in self._dividing:
            self._whole[self._client_of[task_id]].remove(task_id)
        return True
