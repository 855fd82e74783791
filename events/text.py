"""Text that comes from outside, as it may be shown: ids, categories, headers and the messages that repeat them."""

from __future__ import annotations


def printable(text: str, *, keep: str = "") -> str:
    """The text with every character that is not printable as a Python escape (`\\x1b`, `\\n`, `\\u202e`).

    Characters in `keep` stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in keep else character.encode("unicode_escape").decode()
        for character in text
    )
