"""A tokenizer's chat template as text, and which part of a rendered conversation the assistant wrote."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from whet.data.rows import RowFault
from whet.errors import ModelError
from whet.types import Message

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A conversation as text; `spans` are the character ranges of the turns to learn from.

    `last_only` is true where earlier turns should have been among them but the template rewrites them later (it removes
    old reasoning, say), so that what was generated then is no longer there; `rewritten` where the template puts other
    text into a finished turn than into the beginning it offers for generation.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    last_only: bool = False
    rewritten: bool = False


class Template:
    """The chat template of a Hugging Face tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.source: str = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
        if not self.source and isinstance(tokenizer.chat_template, Mapping):
            self.source = tokenizer.chat_template.get("default", "")
        self.marks_generation = _GENERATION.search(self.source) is not None

    def text(self, messages: Sequence[Message], *, tools: Sequence[Any] | None = None, open_turn: bool = False) -> str:
        """The conversation as text; with `open_turn` it ends where the assistant begins to write."""
        if not self.source:
            raise ModelError(
                "the tokenizer has no chat template, so conversations cannot be rendered: give prompt and completion "
                "as plain text, or put a chat_template.jinja into the model's folder"
            )
        try:
            return self._tokenizer.apply_chat_template(
                [dict(m) for m in messages],
                tools=list(tools) if tools else None,
                tokenize=False,
                add_generation_prompt=open_turn,
            )
        except Exception as error:
            raise RowFault(f"is refused by the chat template: {str(error) or type(error).__name__}") from error

    def render(self, messages: Sequence[Message], *, start: int, tools: Sequence[Any] | None = None) -> Rendered:
        """The conversation with the spans of the assistant's turns from message `start` on.

        The template's own generation marks decide where it has them. Otherwise a turn is what the text grows by when it
        is added, which is verified to be an extension of the text before it; where only the last turn is one, only the
        last is learned from; where not even that is one, the template is refused.
        """
        turns = [k for k, m in enumerate(messages) if m["role"] == "assistant" and k >= start]
        if self.marks_generation:
            return self._by_marks(messages, turns, tools)
        full = self.text(messages, tools=tools)
        found = [self._by_growth(messages, k, full, tools) for k in turns]
        last = found[-1]
        if last is None:
            raise ModelError(
                "the chat template does not continue what it renders for generation when the answer is added, so what "
                "the assistant wrote cannot be told; give the template {% generation %} marks"
            )
        spans = tuple(span for span, _ in (f for f in found if f))
        if len(spans) < len(turns):
            return Rendered(text=full, spans=(last[0],), last_only=True, rewritten=last[1])
        return Rendered(text=full, spans=spans, rewritten=any(r for _, r in (f for f in found if f)))

    def _by_growth(
        self, messages: Sequence[Message], k: int, full: str, tools: Sequence[Any] | None
    ) -> tuple[tuple[int, int], bool] | None:
        """The span of turn `k`, and whether its beginning differs from the one offered for generation."""
        before = self.text(messages[:k], tools=tools, open_turn=True)
        after = full if k == len(messages) - 1 else self.text(messages[: k + 1], tools=tools)
        if not full.startswith(after):
            return None
        if after.startswith(before):
            return (len(before), len(after)), False
        common = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(before))
        closed = self.text(messages[:k], tools=tools)
        return ((common, len(after)), True) if common > len(closed) and before.startswith(closed) else None

    def _by_marks(self, messages: Sequence[Message], turns: Iterable[int], tools: Sequence[Any] | None) -> Rendered:
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            texts, marks = render_jinja_template(
                conversations=[[dict(m) for m in messages]],
                tools=list(tools) if tools else None,
                chat_template=self.source,
                return_assistant_tokens_mask=True,
                **self._tokenizer.special_tokens_map,
            )
        except Exception as error:
            raise RowFault(f"is refused by the chat template: {str(error) or type(error).__name__}") from error
        spans = [(int(a), int(b)) for a, b in marks[0]]
        places = [k for k, m in enumerate(messages) if m["role"] == "assistant"]
        if len(spans) != len(places):
            raise ModelError(
                f"the chat template marks {len(spans)} generated parts in a conversation with {len(places)} turns of "
                "the assistant; it must mark each turn once"
            )
        wanted = set(turns)
        return Rendered(text=texts[0], spans=tuple(s for k, s in zip(places, spans, strict=True) if k in wanted))
