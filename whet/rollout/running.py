"""The responses being drawn: who holds a slot, and one decode step over all of them.

A prompt goes through the model once and the first token of all its draws is drawn there; a draw that goes on then takes
a slot, where every step feeds its last token and draws the next. Nothing here decides what is drawn: that is the
draw's seed and the index of the token.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from whet.batch import Tree, pack
from whet.errors import NumericsError
from whet.losses.tokens import head_logits
from whet.rollout.config import SamplingConfig
from whet.rollout.decode import DecodePlan, Layers, Slots
from whet.rollout.draw import draw_tokens
from whet.types import Rollout, StopReason

if TYPE_CHECKING:
    from whet.models.policy import Decoder

LEAST_ROWS = 8
"""On a CPU a linear layer's bits depend on the number of rows below this many, and not from here up."""
PREFILL_TOKENS = 4096
"""Prompt tokens in one forward, unless a single prompt has more."""
FIRST_ROWS = 256
"""Draws whose first token is drawn at once: bounds the logits in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleStats:
    """What one call of the engine did: tokens through the model, and why they were not fewer.

    `prompt_tokens` went through in `prefills` forwards and `decode_tokens` in `steps` forwards; `idle_rows` of those
    steps were computed for nothing (ended but not yet replaced, or padding). `sampled_tokens` is what the caller got.
    """

    prompt_tokens: int = 0
    prefills: int = 0
    decode_tokens: int = 0
    steps: int = 0
    idle_rows: int = 0
    sampled_tokens: int = 0

    @property
    def tokens_through_model(self) -> int:
        return self.prompt_tokens + self.decode_tokens + self.idle_rows

    def plus(self, **counts: int) -> SampleStats:
        """These counts added.

        >>> SampleStats(steps=2).plus(steps=1, decode_tokens=8).tokens_through_model
        8
        """
        return replace(self, **{name: getattr(self, name) + count for name, count in counts.items()})


@dataclass(slots=True, kw_only=True)
class Draw:
    """One response in the making: `most` tokens may come, and `cut` is why it ends if they do.

    Between its first token and its slot, `joined` holds its prompt's keys and values, from token `start` on.
    """

    request: int
    index: int
    seed: int
    prompt: tuple[int, ...]
    most: int
    cut: StopReason
    joined: Sequence[Tensor] = ()
    start: int = 0
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    log_mass: list[float] = field(default_factory=list)
    stopped: StopReason | None = None

    @property
    def length(self) -> int:
        """Tokens of prompt and response so far."""
        return len(self.prompt) + len(self.tokens)


class Batch:
    """The draws that hold a slot, and the tensors of one decode step over them.

    `state` `[4, slots]` holds each row's next input token, its position, its seed and the index of the token to be
    drawn. A row whose draw is None is computed and thrown away.
    """

    def __init__(
        self,
        decoder: Decoder,
        draws: Sequence[Draw],
        *,
        sampling: SamplingConfig,
        vocabulary: int,
        ends: Callable[[Sequence[int]], bool],
    ) -> None:
        self.decoder, self.sampling, self.vocabulary, self.ends = decoder, sampling, vocabulary, ends
        self.pending, self.ready = deque(draws), deque[Draw]()
        head = decoder.head
        assert head is not None, "a decoder without a language-model head draws no tokens"
        self.head = head
        self.device = decoder.device
        self.cached = decoder.layout == "forest"
        self.least = LEAST_ROWS if self.device.type == "cpu" else 1
        self.capacity = min(sampling.slots, len(draws))
        self.room = max((len(draw.prompt) + draw.most - 1 for draw in draws), default=1)
        self.state = torch.zeros(4, max(self.capacity, self.least), dtype=torch.long, device=self.device)
        self.rows: list[Draw | None] = []
        self.slots: Slots | None = None
        self.stats = SampleStats()

    @property
    def live(self) -> int:
        return sum(draw is not None for draw in self.rows)

    @property
    def over(self) -> bool:
        return not (self.pending or self.ready or self.live)

    def advance(self) -> list[Draw]:
        """Prefill where a slot is free and no draw is ready for it, else one decode step; returns what ended."""
        if self.pending and not self.ready and self.live < self.capacity:
            return self._prefill()
        self._admit()
        self._compact()
        return self._step()

    def _prefill(self) -> list[Draw]:
        """Run the next prompts once each, up to the token budget, and draw the first token of all their draws."""
        groups = _take(self.pending, PREFILL_TOKENS)
        hidden, layers = self._prompt_forward([group[0].prompt for group in groups])
        if self.slots is None:
            self.slots = Slots(layers, count=self.state.shape[1], room=self.room)
        joined, start = self.slots.joined(layers), 0
        for group in groups:
            for draw in group:
                draw.joined, draw.start = joined, start
            start += len(group[0].prompt)
        self.stats = self.stats.plus(prefills=1, prompt_tokens=start)
        owned = [(number, draw) for number, group in enumerate(groups) for draw in group]
        for at in range(0, len(owned), FIRST_ROWS):
            self._first_tokens(owned[at : at + FIRST_ROWS], hidden)
        self.ready.extend(draw for _, draw in owned if draw.stopped is None)
        return [draw for _, draw in owned if draw.stopped is not None]

    def _prompt_forward(self, sequences: Sequence[tuple[int, ...]]) -> tuple[Tensor, Layers]:
        """Last hidden state of each sequence `[P, h]`, and all keys and values where the model keeps them for us."""
        missing = max(0, self.least - sum(map(len, sequences)))
        padding = [sequences[-1]] * (-(-missing // len(sequences[-1])))
        rollouts = [
            Rollout(task_id="", tokens=tokens, mask=(False,) * len(tokens), source=("prompt",) * len(tokens))
            for tokens in (*sequences, *padding)
        ]
        batch = pack([Tree(rollouts=(rollout,)) for rollout in rollouts])
        plan = self.decoder.plan(batch, keep=True) if self.cached else None
        hidden = self.decoder.hidden(batch, plan=plan)
        return hidden[batch.last[: len(sequences)].to(self.device)], {} if plan is None else plan.kept

    def _first_tokens(self, owned: Sequence[tuple[int, Draw]], hidden: Tensor) -> None:
        """The draws of one prompt share its row of logits."""
        first, last = owned[0][0], owned[-1][0]
        owner = torch.tensor([number - first for number, _ in owned], device=self.device)
        seed = torch.tensor([draw.seed for _, draw in owned], device=self.device)
        scores = self._scores(hidden[first : last + 1])[owner]
        self._extend([draw for _, draw in owned], scores, seed, torch.zeros_like(seed))

    def _admit(self) -> None:
        """Give free slots to the draws that wait: holes first, then the end."""
        holes = [row for row, draw in enumerate(self.rows) if draw is None]
        holes += range(len(self.rows), self.capacity)
        rows = holes[: len(self.ready)]
        if not rows:
            return
        assert self.slots is not None
        columns: list[tuple[int, int, int, int]] = []
        for row in rows:
            draw = self.ready.popleft()
            self.slots.fill(row, draw.joined, draw.start, draw.start + len(draw.prompt))
            draw.joined = ()
            self.rows[row : row + 1] = [draw]
            columns.append((draw.tokens[-1], len(draw.prompt), draw.seed, len(draw.tokens)))
        self.state[:, rows] = torch.tensor(columns, device=self.device).T

    def _compact(self) -> None:
        """Move the last rows into holes once an eighth of the rows is dead, which is where no draw waits for them."""
        while self.rows and self.rows[-1] is None:
            self.rows.pop()
        holes = [row for row, draw in enumerate(self.rows) if draw is None]
        if len(self.rows) <= self.least or 8 * len(holes) < len(self.rows):
            return
        assert self.slots is not None
        live = len(self.rows) - len(holes)
        sources = [row for row in range(live, len(self.rows)) if self.rows[row] is not None]
        targets = holes[: len(sources)]
        for source, target in zip(sources, targets, strict=True):
            draw = self.rows[target] = self.rows[source]
            assert draw is not None
            self.slots.move(source, target, draw.length - 1)
        self.state[:, targets] = self.state[:, sources]
        del self.rows[live:]

    def _step(self) -> list[Draw]:
        """Feed every row's last token, draw its next; returns the draws that ended."""
        live = [draw for draw in self.rows if draw is not None]
        if not live:
            return []
        rows = max(len(self.rows), self.least)
        token, position, seed, index = self.state[:, :rows]
        hidden = self._decode(token, position) if self.cached else self._recompute(rows)
        token.copy_(self._extend(self.rows, self._scores(hidden), seed, index))
        position.add_(1).clamp_(max=self.room - 1)  # a dead row goes on writing, inside its own slot
        index.add_(1)
        self.rows = [None if draw is None or draw.stopped is not None else draw for draw in self.rows]
        return [draw for draw in live if draw.stopped is not None]

    def _decode(self, token: Tensor, position: Tensor) -> Tensor:
        """Last hidden state of every row `[n, h]` from its newest token and the keys and values in its slot."""
        assert self.slots is not None
        lengths = [draw.length for draw in self.rows if draw is not None]
        plan = DecodePlan(self.slots, position, max(lengths))
        out = self.decoder.backbone(input_ids=token[None], position_ids=position[None], plan=plan, use_cache=False)
        idle = token.numel() - len(lengths)
        self.stats = self.stats.plus(steps=1, decode_tokens=len(lengths), idle_rows=idle)
        return out.last_hidden_state[0]

    def _recompute(self, rows: int) -> Tensor:
        """The same from the whole sequence again: for models whose keys and values are not ours to keep."""
        where = [row for row, draw in enumerate(self.rows) if draw is not None]
        sequences = [(*draw.prompt, *draw.tokens) for draw in self.rows if draw is not None]
        last, _ = self._prompt_forward(sequences)
        hidden = last.new_zeros(rows, last.shape[1])
        hidden[where] = last
        self.stats = self.stats.plus(steps=1, decode_tokens=sum(map(len, sequences)))
        return hidden

    def _scores(self, hidden: Tensor) -> Tensor:
        """Logits over temperature, float32, `[n, V]`."""
        head, rows = self.head, hidden.shape[0]
        if rows < self.least:
            hidden = torch.cat((hidden, hidden.new_zeros(self.least - rows, hidden.shape[1])))
        scores = head_logits(
            hidden,
            head.weight,
            bias=head.bias,
            scale=head.scale,
            softcap=head.softcap,
            temperature=self.sampling.temperature,
        )
        return scores[:rows]

    def _extend(self, draws: Sequence[Draw | None], scores: Tensor, seed: Tensor, index: Tensor) -> Tensor:
        """Draw a token for every row, give each living draw its own, and see which of them end; the ids `[n]`."""
        drawn, logprob, log_mass = draw_tokens(scores, seed, index, sampling=self.sampling, vocabulary=self.vocabulary)
        size = len(draws)
        tokens, logprobs = drawn[:size].tolist(), logprob[:size].tolist()
        masses = [0.0] * size if log_mass is None else log_mass[:size].tolist()
        for draw, token, value, mass in zip(draws, tokens, logprobs, masses, strict=True):
            if draw is None:
                continue
            draw.tokens.append(token)
            draw.logprobs.append(value)
            draw.log_mass.append(mass)
            if not math.isfinite(value):
                raise NumericsError(_diverged(draw, value))
            if self.ends(draw.tokens):
                draw.stopped = "stop"
            elif len(draw.tokens) == draw.most:
                draw.stopped = draw.cut
        return drawn


def _diverged(draw: Draw, value: float) -> str:
    return (
        f"token {len(draw.tokens)} of draw {draw.index} of request {draw.request} has log-probability {value}: the "
        "model's logits are not finite, so its weights have diverged; resume from an earlier checkpoint with a lower "
        "learning rate"
    )


def _take(pending: deque[Draw], budget: int) -> list[list[Draw]]:
    """Whole groups from the front of the queue: as many as the budget of prompt tokens holds, one at least."""
    groups: list[list[Draw]] = []
    while pending and (not groups or len(pending[0].prompt) <= budget):
        request = pending[0].request
        budget -= len(pending[0].prompt)
        groups.append([])
        while pending and pending[0].request == request:
            groups[-1].append(pending.popleft())
    return groups
