"""How a process of this program ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import NoReturn

import anyio


def end_process(code: int) -> NoReturn:
    """Ends this process without waiting for threads; everything is stored and closed."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # whoever read it has gone
            stream.flush()
    os._exit(code)


async def termination() -> None:
    """Returns on SIGTERM or SIGINT; a second one ends the process at once."""
    if os.name == "nt":  # no signal receivers there; closing standard input ends the server
        await asyncio.Event().wait()
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            return
