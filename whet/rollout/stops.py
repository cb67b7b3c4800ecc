"""When a response ends, token by token, without decoding all of its text at every token.

A stop string can only be completed by a token whose text holds its last character. What a token's text is, in the
middle of a text, is asked of the tokenizer once per token ever seen; only where it could end a stop string are the
last few tokens decoded: as many as the string has bytes, since no token stands for less than one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MARGIN = 4
"""Tokens decoded beyond the longest stop string: a tokenizer may drop a space before the first and join the rest."""
BROKEN = "\ufffd"
"""Stands for bytes that are not yet a character."""


class StopStrings:
    """Watches for the strings that end a response; a special token counts as the text it is written with.

    `__call__(tokens)` is true where the last token of the response completes one of the strings.
    """

    def __init__(self, tokenizer: Any, strings: Sequence[str]) -> None:
        self.tokenizer = tokenizer
        self.strings = tuple(strings)
        self.window = max((len(s.encode()) for s in strings), default=0) + MARGIN
        self.lasts = frozenset(s[-1] for s in strings)
        self.suspects: dict[int, bool] = {}

    def __call__(self, tokens: Sequence[int]) -> bool:
        suspect = self.suspects.get(tokens[-1])
        if suspect is None:
            suspect = self.suspects[tokens[-1]] = self._could_end(tokens[-1])
        if not suspect:
            return False
        text = self._text(tokens[-self.window :])
        return any(s in text for s in self.strings)

    def _could_end(self, token: int) -> bool:
        """Twice the token: the second shows the space that a tokenizer drops at the start of a text."""
        text = self._text([token, token])
        return BROKEN in text or not self.lasts.isdisjoint(text)

    def _text(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)
