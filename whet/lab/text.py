"""How the lab's worlds cut text into words; the tokenizer cuts in exactly the same places."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PIECE = re.compile(r"</?(?:think|answer)>|[A-Za-z]+|\d|[^\sA-Za-z\d]")


def pieces(text: str) -> list[str]:
    """Whole words, single digits and single punctuation marks, in order.

    >>> pieces("Cats love milk. 3 + 12")
    ['Cats', 'love', 'milk', '.', '3', '+', '1', '2']
    """
    return _PIECE.findall(text)


def only_words(text: str) -> list[str]:
    """The alphabetic pieces, in lower case.

    >>> only_words("Hi friend! Cats love milk.")
    ['hi', 'friend', 'cats', 'love', 'milk']
    """
    return [piece.lower() for piece in pieces(text) if piece.isalpha()]


def listing(items: Sequence[str]) -> str:
    """Join with commas and a final "and".

    >>> listing(["3", "5", "7"])
    '3, 5 and 7'
    """
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
