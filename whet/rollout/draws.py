"""A response in the making, and the counts of what drawing it took."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from whet.types import StopReason

PREFILL_LEAST = 512
"""Short prompts go through the model together up to this many tokens, also where slots are free for fewer draws."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleStats:
    """What one call of the engine did: tokens through the model, and why they were not fewer.

    `prompt_tokens` went through in `prefills` forwards and `decode_tokens` in `steps` forwards; `idle_rows` of those
    steps were computed for nothing (padding). `sampled_tokens` is what the caller got. `slots` is how many responses
    could be drawn side by side, `kv_bytes` what was allocated for keys and values at most at once, and `kv_read` the
    bytes of keys and values that the attention of all steps read. `recordings` of steps were made to be replayed.
    """

    prompt_tokens: int = 0
    prefills: int = 0
    decode_tokens: int = 0
    steps: int = 0
    idle_rows: int = 0
    sampled_tokens: int = 0
    slots: int = 0
    kv_bytes: int = 0
    kv_read: int = 0
    recordings: int = 0

    @property
    def tokens_through_model(self) -> int:
        return self.prompt_tokens + self.decode_tokens + self.idle_rows

    def plus(self, **counts: int) -> SampleStats:
        """These counts added.

        >>> SampleStats(steps=2).plus(steps=1, decode_tokens=8).tokens_through_model
        8
        """
        return replace(self, **{name: getattr(self, name) + count for name, count in counts.items()})


@dataclass(slots=True, kw_only=True, eq=False)
class Draw:
    """One response in the making: `most` tokens may come, and `cut` is why it ends if they do."""

    request: int
    index: int
    seed: int
    prompt: tuple[int, ...]
    most: int
    cut: StopReason
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    log_mass: list[float] = field(default_factory=list)
    stopped: StopReason | None = None

    @property
    def length(self) -> int:
        """Tokens of prompt and response so far."""
        return len(self.prompt) + len(self.tokens)


def take(
    pending: deque[Draw], *, draws: int, least: int, most: int, fits: Callable[[Sequence[int]], bool]
) -> list[list[Draw]]:
    """Whole groups from the front of the queue, one at least: until they hold `draws` draws and `least` prompt tokens.

    Never more than `most` prompt tokens, unless the first prompt alone has more, nor more prompts than `fits` says.
    """
    groups: list[list[Draw]] = []
    lengths: list[int] = []
    while pending and (sum(map(len, groups)) < draws or sum(lengths) < least):
        lengths.append(len(pending[0].prompt))
        if groups and (sum(lengths) > most or not fits(lengths)):
            break
        request = pending[0].request
        groups.append([])
        while pending and pending[0].request == request:
            groups[-1].append(pending.popleft())
    return groups
