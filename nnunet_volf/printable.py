"""Text of strangers, as it may go to a terminal: names of files and what stands in them may hold anything."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return a line without control characters and whatever else is not to be seen, such as turns of direction."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def shortened(text: str, most: int = 60) -> str:
    """Return the beginning of a text that may be as long as a file, printable."""
    return printable(text if len(text) <= most else f"{text[:most]}...")
