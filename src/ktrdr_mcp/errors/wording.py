"""A caller's words in a message."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known word, or nothing.

    Args:
        text: the unknown word.
        known: the words that would have been accepted.
    Returns:
        " Did you mean 'x'?" with a leading space, or an empty string.
    """
    by_folded = {word.casefold(): word for word in known}
    close = get_close_matches(text.casefold(), list(by_folded), n=1, cutoff=0.6)
    return f" Did you mean '{by_folded[close[0]]}'?" if close else ""


def shown(value: object, limit: int = 60) -> str:
    """A caller's value as it may stand in a message: printable, quoted and short.

    Args:
        value: anything a caller sent.
        limit: the most characters shown.
    """
    try:
        text = ascii(value)
    except ValueError:  # Python refuses to print integers of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
