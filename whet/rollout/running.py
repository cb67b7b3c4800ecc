"""The responses being drawn: who holds a slot, and one decode step over all of them.

A prompt goes through the model once and the first token of all its draws is drawn there; a draw that goes on then takes
a slot, where every step feeds its last token and draws the next. Nothing here decides what is drawn: that is the
draw's seed and the index of the token.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from whet.batch import Tree, pack
from whet.errors import NumericsError
from whet.losses.tokens import head_logits
from whet.rollout.cache import Cache, Held, Reading
from whet.rollout.config import SamplingConfig
from whet.rollout.decode import Copies, DecodePlan
from whet.rollout.draw import draw_tokens
from whet.rollout.draws import PREFILL_LEAST, Draw, SampleStats, take
from whet.rollout.graphs import Capture, Graphs, padded_sizes
from whet.rollout.memory import allot
from whet.rollout.slots import Layers, token_bytes
from whet.types import Rollout

if TYPE_CHECKING:
    from whet.models.policy import Decoder

LEAST_ROWS = 8
"""On a CPU a linear layer's bits depend on the number of rows below this many, and not from here up."""
PREFILL_TOKENS = 4096
"""Prompt tokens in one forward at most, unless a single prompt has more."""
FIRST_ROWS = 64
"""Draws whose first token is drawn at once: bounds the logits in memory."""


class Batch:
    """The draws that hold a slot, and the tensors of one decode step over them.

    `state` `[4, slots]` holds each row's next input token, its position, its seed and the index of the token to be
    drawn. `rows` are the draws of the last step, ended ones too until the next is arranged.
    """

    def __init__(
        self,
        decoder: Decoder,
        draws: Sequence[Draw],
        *,
        sampling: SamplingConfig,
        vocabulary: int,
        ends: Callable[[Sequence[int]], bool],
        capture: Capture | None = None,
    ) -> None:
        self.decoder, self.sampling, self.vocabulary, self.ends = decoder, sampling, vocabulary, ends
        # the longest responses first, as far as that is known: one that begins late would be drawn alone at the end
        self.pending, self.ready = deque(sorted(draws, key=lambda draw: -draw.most)), deque[Draw]()
        self.draws = tuple(self.pending)
        head = decoder.head
        assert head is not None, "a decoder without a language-model head draws no tokens"
        self.head = head
        self.device = decoder.device
        self.cached = decoder.layout == "forest"
        self.least = LEAST_ROWS if self.device.type == "cpu" else 1
        self.capacity = min(sampling.slots, len(draws))
        self.state = torch.zeros(4, max(self.capacity, self.least), dtype=torch.long, device=self.device)
        self.cache: Cache | None = None
        self.graphs = None if capture is None else Graphs(capture)
        self.rows: list[Draw] = []
        self.stats = SampleStats(slots=self.capacity)

    @property
    def live(self) -> int:
        """Rows whose draw has not ended."""
        return sum(draw.stopped is None for draw in self.rows)

    @property
    def over(self) -> bool:
        return not (self.pending or self.ready or self.live)

    def advance(self) -> list[Draw]:
        """Prefill where more slots are free than draws are ready for them, else one step; returns what ended."""
        if self.pending and len(self.ready) < self.capacity - self.live and self._fits([len(self.pending[0].prompt)]):
            return self._prefill()
        self._arrange()
        return self._step()

    def _prefill(self) -> list[Draw]:
        """Run the next prompts once each, up to the token budget, and draw the first token of all their draws."""
        wanted = self.capacity - self.live - len(self.ready)
        groups = take(self.pending, draws=wanted, least=PREFILL_LEAST, most=PREFILL_TOKENS, fits=self._fits)
        hidden, layers = self._prompt_forward([group[0].prompt for group in groups])
        prompts = sum(len(group[0].prompt) for group in groups)
        self.stats = self.stats.plus(prefills=1, prompt_tokens=prompts)
        owned = [(number, draw) for number, group in enumerate(groups) for draw in group]
        for at in range(0, len(owned), FIRST_ROWS):
            self._first_tokens(owned[at : at + FIRST_ROWS], hidden)
        self._hold(groups, layers)
        self.ready.extend(draw for _, draw in owned if draw.stopped is None)
        return [draw for _, draw in owned if draw.stopped is not None]

    def _hold(self, groups: Sequence[Sequence[Draw]], layers: dict[int, tuple[Tensor, Tensor]]) -> None:
        """Keep the keys and values of the prompts whose draws go on."""
        prompts, start = [], 0
        for group in groups:
            end, draws = start + len(group[0].prompt), sum(draw.stopped is None for draw in group)
            if draws:
                prompts.append(Held(request=group[0].request, start=start, end=end, draws=draws))
            start = end
        if prompts:
            self._cache(layers).hold(prompts, layers)

    def _fits(self, lengths: Sequence[int]) -> bool:
        """Whether prompts of these lengths may be held; what the first one needs tells how much room there is."""
        if self.cache is None:
            return self.sampling.kv_mib is None or len(lengths) == 1
        return self.cache.fits(lengths)

    def _cache(self, layers: Layers) -> Cache:
        """Where keys and values are kept, made when their shapes are known."""
        if self.cache is None:
            self.cache, self.capacity = allot(
                self.draws,
                sampling=self.sampling,
                token_bytes=token_bytes(layers),
                shared=self.sampling.share_prompts and self.device.type == "cpu",
                attention=self.decoder.attention,
            )
            self.stats = replace(self.stats, slots=self.capacity)
        return self.cache

    def _prompt_forward(self, sequences: Sequence[tuple[int, ...]]) -> tuple[Tensor, dict[int, tuple[Tensor, Tensor]]]:
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

    def _arrange(self) -> None:
        """Free slots go to the draws that wait; the state follows the rows to where the cache wants them."""
        if self.cache is None:  # every draw has ended with its first token
            return
        new = [self.ready.popleft() for _ in range(min(len(self.ready), self.capacity - self.live))]
        before = {id(draw): row for row, draw in enumerate(self.rows)}
        self.rows, old = self.cache.arrange(self.rows, new), self.rows
        self.stats = replace(self.stats, kv_bytes=max(self.stats.kv_bytes, self.cache.kv_bytes))
        if self.rows == old:
            return
        count = len(self.rows)
        self.state[:, :count] = self.state[:, [before.get(id(draw), 0) for draw in self.rows]]
        if new:
            fresh = {id(draw): [draw.tokens[-1], len(draw.prompt), draw.seed, len(draw.tokens)] for draw in new}
            places = [row for row, draw in enumerate(self.rows) if id(draw) in fresh]
            columns = [fresh[id(self.rows[row])] for row in places]
            self.state[:, places] = torch.tensor(columns, device=self.device).T
        self.state[:, count:] = 0  # what pads the rows writes to the front of a free slot

    def _step(self) -> list[Draw]:
        """Feed every row's last token, draw its next; returns the draws that ended."""
        live = self.rows
        if not live or self.cache is None:
            return []
        scores = self._decode(live) if self.cached else self._scores(self._recompute(live))
        token, _, seed, index = self.state[:, : len(scores)]
        token.copy_(self._extend(live, scores, seed, index))
        self.state[1::2, : len(live)].add_(1)  # position and index; the rows of padding stay where they are
        ended = [draw for draw in live if draw.stopped is not None]
        for draw in ended:
            self.cache.end(draw)
        return ended

    def _decode(self, live: Sequence[Draw]) -> Tensor:
        """Scores of every row from its newest token and the keys and values that are kept; `[n, V]`, padding too."""
        assert self.cache is not None
        rows = max(len(live), self.least)
        if self.graphs is None or not isinstance(self.cache, Copies):
            plan = self.cache.plan(live, self.state[1, :rows], self.state[3, :rows])
            scores = self._forward(plan, rows)
        else:
            rows, plan, scores = self._replayed(self.graphs, self.cache, live)
        idle = rows - len(live)
        self.stats = self.stats.plus(steps=1, decode_tokens=len(live), idle_rows=idle, kv_read=plan.kv_read)
        return scores

    def _replayed(self, graphs: Graphs, cache: Copies, live: Sequence[Draw]) -> tuple[int, Reading, Tensor]:
        longest = max(draw.length for draw in live)
        rows, columns = padded_sizes(max(len(live), self.least), longest, slots=cache.count, room=cache.room)

        def plan() -> DecodePlan:
            return cache.static(self.state[1, :rows], columns)

        scores = graphs.run(rows, columns, lambda: self._forward(plan(), rows))
        self.stats = replace(self.stats, recordings=len(graphs.recorded))
        return rows, plan(), scores

    def _forward(self, plan: Reading, rows: int) -> Tensor:
        token, position = self.state[:2, :rows]
        out = self.decoder.backbone(input_ids=token[None], position_ids=position[None], plan=plan, use_cache=False)
        return self._scores(out.last_hidden_state[0])

    def _recompute(self, live: Sequence[Draw]) -> Tensor:
        """Last hidden states `[n, h]` from the whole sequences again: where keys and values are not ours to keep."""
        sequences = [(*draw.prompt, *draw.tokens) for draw in live]
        last, _ = self._prompt_forward(sequences)
        self.stats = self.stats.plus(steps=1, decode_tokens=sum(map(len, sequences)))
        return last

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

    def _extend(self, draws: Sequence[Draw], scores: Tensor, seed: Tensor, index: Tensor) -> Tensor:
        """Draw a token for every row, give each draw its own, and see which of them end; the ids `[n]`."""
        drawn, logprob, log_mass = draw_tokens(scores, seed, index, sampling=self.sampling, vocabulary=self.vocabulary)
        size = len(draws)
        tokens, logprobs = drawn[:size].tolist(), logprob[:size].tolist()
        masses = [0.0] * size if log_mass is None else log_mass[:size].tolist()
        for draw, token, value, mass in zip(draws, tokens, logprobs, masses, strict=True):
            draw.tokens.append(token)
            draw.logprobs.append(value)
            draw.log_mass.append(mass)
            if not math.isfinite(value):
                raise NumericsError(diverged(draw, value))
            if self.ends(draw.tokens):
                draw.stopped = "stop"
            elif len(draw.tokens) == draw.most:
                draw.stopped = draw.cut
        return drawn


def diverged(draw: Draw, value: float) -> str:
    """What to say of a token whose log-probability is no number."""
    return (
        f"token {len(draw.tokens)} of draw {draw.index} of request {draw.request} has log-probability {value}: the "
        "model's logits are not finite, so its weights have diverged; resume from an earlier checkpoint with a lower "
        "learning rate"
    )
