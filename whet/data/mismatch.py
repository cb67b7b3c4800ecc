"""The same answer under another prompt: KTO's reference point is estimated on answers that match no prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from whet.errors import DataError
from whet.types import Rating, Rollout


def retarget(rollout: Rollout, prompt: Sequence[int], *, task_id: str) -> Rollout:
    """The rollout's own answer tokens behind other prompt tokens.

    >>> r = Rollout(task_id="a", tokens=(1, 2, 7, 9), mask=(False, False, True, True),
    ...             source=("prompt",) * 2 + ("sampled",) * 2)
    >>> moved = retarget(r, (4, 5, 6), task_id="b")
    >>> moved.tokens, moved.prompt_length, moved.response == r.response
    ((4, 5, 6, 7, 9), 3, True)
    """
    skip = rollout.prompt_length
    return replace(
        rollout,
        task_id=task_id,
        tokens=(*prompt, *rollout.tokens[skip:]),
        mask=(*(False for _ in prompt), *rollout.mask[skip:]),
        source=(*("prompt" for _ in prompt), *rollout.source[skip:]),
    )


def mismatched(ratings: Sequence[Rating], *, limit: int | None = None) -> tuple[list[Rollout], int]:
    """Answer i behind the prompt of the next rating round the circle whose prompt is another one (KTO, section 4.1).

    A matched answer never stands among them; ratings that all have one prompt are an error. A prompt that would make
    more than `limit` tokens together with the answer loses its beginning; also returned is how many did.
    """
    rollouts = [rating.rollout for rating in ratings]
    moved, cut = [], 0
    for one, other in zip(rollouts, _others(rollouts), strict=True):
        room = len(other.prompt) if limit is None else limit - len(one.response)
        assert room > 0, "an answer fits behind its own prompt"
        moved.append(retarget(one, other.prompt[-room:], task_id=other.task_id))
        cut += room < len(other.prompt)
    return moved, cut


def _others(rollouts: Sequence[Rollout]) -> list[Rollout]:
    """For each rollout the next one, round the circle, with another task and other prompt tokens."""
    n = len(rollouts)
    prompts = [rollout.prompt for rollout in rollouts]
    found: list[Rollout] = []
    for i in range(n):
        around = ((i + k) % n for k in range(1, n))
        other = next(
            (j for j in around if prompts[j] != prompts[i] and rollouts[j].task_id != rollouts[i].task_id), None
        )
        if other is None:
            raise DataError(
                f"the {n} rated answers are all to one prompt, and KTO compares with answers put behind a prompt that "
                "they do not answer: give rated answers to at least two prompts (also on the held-out side, if any)"
            )
        found.append(rollouts[other])
    return found
