"""What a row means, before any tokenizer: a prompt, answers to it, and numbers about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from whet.types import Message

Kind = Literal[
    "text", "messages", "prompt", "demonstration", "preference", "ranking", "label", "rating", "steps", "question"
]
Form = Literal["plain", "chat", "transcript", "question"]
"""How an example becomes text: as it stands; through the chat template; or, for the last two, through the template
where there is one, and otherwise as an HH-RLHF transcript or as `Question: …` and `Answer: …`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row, understood.

    A plain prompt is one user message with the text, or no message where there is no prompt. `answers` are turns of the
    assistant (chosen first, then rejected; or the ranked ones); `numbers` has one entry per answer for rankings (higher
    is better), one per row for labels, and one per step for process labels, whose `answers` are the steps.
    `columns` are the row's own columns except the prompt; `answer` is the reference answer, if there is one.
    """

    kind: Kind
    form: Form
    prompt: tuple[Message, ...]
    answers: tuple[tuple[Message, ...], ...] = ()
    numbers: tuple[float, ...] = ()
    answer: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    where: str = ""

    @property
    def text(self) -> str:
        """The text of a plain prompt."""
        return self.prompt[-1]["content"] if self.prompt else ""

    @property
    def content(self) -> tuple[Any, ...]:
        """What makes two examples the same, their places and ids aside."""
        turns = tuple(tuple((m["role"], m["content"]) for m in part) for part in (self.prompt, *self.answers))
        return (*turns, self.numbers, self.answer)
