"""Examples → rollouts that fit the context. An answer is never cut: cutting it could take away the very difference."""

from __future__ import annotations

from dataclasses import dataclass, replace

from whet.data.config import DataConfig
from whet.data.example import Example
from whet.data.messages import assistant
from whet.data.render import Renderer, plain_answer, plain_prompt
from whet.data.rows import RowFault
from whet.data.template import Rendered
from whet.errors import DataError
from whet.types import Message, Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The rollouts of one example's answers, or none where they do not fit; `size` is what the longest would need."""

    rollouts: tuple[Rollout, ...]
    size: int
    limit: int | None
    trimmed: bool = False
    split: bool = False
    last_turn: bool = False
    rewritten: bool = False
    control_text: bool = False
    uncounted: int = 0


def fit(example: Example, renderer: Renderer, config: DataConfig) -> Fitted:
    """Render every answer behind the same prompt; too long a row is cut at the prompt's beginning or not at all.

    With `overlong="keep_end"` a chat loses its oldest exchanges (never the system message nor the last question), plain
    text its first tokens (never the beginning-of-text token); if the answer still does not fit, nothing is returned.
    """
    fitted = _fitting(example, renderer, config)
    return _discounted(fitted, {renderer.token(text) for text in config.uncounted}) if config.uncounted else fitted


def _fitting(example: Example, renderer: Renderer, config: DataConfig) -> Fitted:
    limit = config.max_length or renderer.context
    prefix = _prefix(example, config.prefix) if config.prefix is not None else ""
    fitted = _render(example, renderer, limit, prefix)
    if limit is None or fitted.size <= limit:
        return fitted
    if config.overlong == "split":
        return _split_text(example, fitted, limit)
    if config.overlong == "keep_end":
        shorter = (
            _cut_text(fitted, renderer, limit)
            if _is_plain(example, renderer)
            else _cut_turns(example, renderer, limit, prefix)
        )
        if shorter is not None:
            return replace(shorter, trimmed=True, size=fitted.size)
    return replace(fitted, rollouts=())


def _prefix(example: Example, column: str) -> str:
    """The text with which the row's answers begin; nothing where it is null."""
    if column not in example.columns:
        raise RowFault(f"has no column {column!r}, which data.prefix names")
    given = example.columns[column] or ""
    if not isinstance(given, str):
        raise RowFault(f"has {column!r} of type {type(given).__name__}, not text, and data.prefix names it")
    if given and (not example.prompt or any(len(answer) > 1 for answer in example.answers)):
        raise RowFault("is no prompt with answers of one message, which data.prefix could begin")
    return given


def _discounted(fitted: Fitted, ids: set[int]) -> Fitted:
    """The same rollouts with these tokens counted nowhere; an answer of nothing else is a fault of the row."""
    made = tuple(
        replace(one, mask=tuple(m and t not in ids for m, t in zip(one.mask, one.tokens, strict=True)))
        for one in fitted.rollouts
    )
    if not all(any(one.mask) for one in made):
        raise RowFault("has an answer of nothing but tokens that data.uncounted names")
    before, after = (sum(one.length for one in each) for each in (fitted.rollouts, made))
    return replace(fitted, rollouts=made, uncounted=before - after)


def _split_text(example: Example, fitted: Fitted, limit: int) -> Fitted:
    """Consecutive pieces of a text; each begins with the last token of the one before, to be read from."""
    if example.kind != "text" or limit < 2:
        raise DataError(
            f"{example.where} is too long, and data.overlong=split can divide only texts without prompt and answer"
        )
    whole = fitted.rollouts[0]
    pieces = [_piece(whole, begin, begin + limit) for begin in range(0, len(whole.tokens) - 1, limit - 1)]
    return replace(fitted, rollouts=tuple(pieces), split=True)


def _piece(whole: Rollout, begin: int, end: int) -> Rollout:
    mask, source = whole.mask[begin:end], whole.source[begin:end]
    return replace(whole, tokens=whole.tokens[begin:end], mask=(False, *mask[1:]), source=("prompt", *source[1:]))


def _is_plain(example: Example, renderer: Renderer) -> bool:
    return example.form == "plain" or (example.form in ("transcript", "question") and not renderer.chats)


def _render(example: Example, renderer: Renderer, limit: int | None, prefix: str) -> Fitted:
    if _is_plain(example, renderer):
        prompt = plain_prompt(example.prompt, example.form)
        texts = [plain_answer(answer, example.form) for answer in example.answers]
        if prefix:
            prompt += plain_answer(assistant(prefix), example.form)
            texts = [answer[-1]["content"] for answer in example.answers]
        rollouts = tuple(renderer.plain(prompt, text, task_id=example.id) for text in texts)
        rendered: list[Rendered] = []
    else:
        start, tools = len(example.prompt), example.columns.get("tools")
        wholes = [(*example.prompt, *_begun(answer, prefix)) for answer in example.answers]
        both = [
            renderer.conversation(whole, start=start, tools=tools, task_id=example.id, prefix=prefix)
            for whole in wholes
        ]
        rollouts, rendered = tuple(rollout for rollout, _ in both), [r for _, r in both]
    return Fitted(
        rollouts=rollouts,
        size=max(len(rollout.tokens) for rollout in rollouts),
        limit=limit,
        last_turn=any(r.last_only for r in rendered),
        rewritten=any(r.rewritten for r in rendered),
        control_text=renderer.has_control_text((*example.prompt, *(m for answer in example.answers for m in answer))),
    )


def _begun(answer: tuple[Message, ...], prefix: str) -> tuple[Message, ...]:
    if not prefix:
        return answer
    return ({**answer[0], "content": prefix + answer[0]["content"]}, *answer[1:])


def _cut_text(fitted: Fitted, renderer: Renderer, limit: int) -> Fitted | None:
    """The same rollouts without the first tokens of their prompt, as many from each."""
    excess = fitted.size - limit
    first = 1 if renderer.bos is not None else 0
    room = fitted.rollouts[0].prompt_length - max(first, 1)
    if excess > room:
        return None
    return replace(fitted, rollouts=tuple(_without(rollout, first, first + excess) for rollout in fitted.rollouts))


def _without(rollout: Rollout, begin: int, end: int) -> Rollout:
    def cut(values: tuple) -> tuple:
        return values[:begin] + values[end:]

    return replace(rollout, tokens=cut(rollout.tokens), mask=cut(rollout.mask), source=cut(rollout.source))


def _cut_turns(example: Example, renderer: Renderer, limit: int, prefix: str) -> Fitted | None:
    """The conversation with as many of its latest exchanges as fit."""
    for shorter in _shorter(example):
        fitted = _render(shorter, renderer, limit, prefix)
        if fitted.size <= limit:
            return fitted
    return None


def _shorter(example: Example) -> list[Example]:
    """The example without its oldest exchange, without its two oldest, and so on, down to the last question."""
    if example.prompt:
        return [replace(example, prompt=turns) for turns in tails(example.prompt)]
    return [replace(example, answers=(turns,)) for turns in tails(example.answers[0])]


def tails(turns: tuple[Message, ...]) -> list[tuple[Message, ...]]:
    """The turns without the oldest exchange, without the two oldest, and so on; the system's message stays."""
    system = turns[:1] if turns[0]["role"] == "system" else ()
    begins = [k for k, m in enumerate(turns) if m["role"] == "user" and k > len(system)]
    return [system + turns[k:] for k in begins]
