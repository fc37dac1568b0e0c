"""Keeping start-up out of every later garbage collection."""

from __future__ import annotations

import gc


def settle() -> None:
    """Exempts what has been imported until now from garbage collection.

    It lives as long as the process. A full collection that looks at it holds every thread for about
    a fifth of a second once torch and pandas are loaded: for a status call and for a training.
    """
    gc.freeze()
