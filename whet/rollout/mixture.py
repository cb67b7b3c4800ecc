"""Answers of another model: of a reference, or token by token of a mixture of policy and reference.

    log π'(t | ·) = (1 − mix) log π(t | ·) + mix log ref(t | ·) + const

It is the opponent of Nash-MD (Munos et al. 2023, arXiv:2312.00886). The mixture is normalised anew at every token, so
it is no mixture of sequences. Both models are at the sampling's temperature, and what the sampling cuts is cut from the
mixture. Simple and slow: every step runs all sequences through both models again. Noise is keyed as in `TorchEngine`,
so a draw is the same in any batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from whet.batch import Tree, pack
from whet.errors import NumericsError
from whet.losses.tokens import head_logits
from whet.rollout.draw import draw_tokens
from whet.rollout.draws import Draw
from whet.rollout.running import diverged
from whet.rollout.torch_engine import TorchEngine, evaluating
from whet.types import Completion, Request, Rollout

if TYPE_CHECKING:
    from whet.models.policy import Decoder

ROWS = 64
"""Sequences in one forward: bounds the logits in memory."""


class ReferenceEngine:
    """Draws of a model that is only looked at; with `adapter_off`, of the policy without its adapter."""

    def __init__(self, engine: TorchEngine, *, adapter_off: bool) -> None:
        self.engine, self.adapter_off = engine, adapter_off

    def sample(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """As the engine's, all at once: the adapter is on again when it returns."""
        with self.engine.decoder.adapter_off() if self.adapter_off else nullcontext():
            return self.engine.sample(requests)


class MixtureEngine:
    """Draws of policy and reference mixed by the share `mix` of the reference, 0 < mix < 1.

    `policy` says how is sampled (its limits, stops and vocabulary are the mixture's); `reference` may be the same
    decoder, whose adapter is then off for its part.
    """

    def __init__(self, policy: TorchEngine, reference: Decoder, *, mix: float, adapter_off: bool) -> None:
        self.policy, self.reference, self.mix, self.adapter_off = policy, reference, mix, adapter_off

    def sample(self, requests: Sequence[Request]) -> list[list[Completion]]:
        """One list of `n` completions per request, in the order of the requests."""
        draws = [draw for number, request in enumerate(requests) for draw in self.policy.draws(number, request)]
        modules = [*self.policy.decoder.modules(), *self.reference.modules()]
        with evaluating(tuple(modules)):
            while live := [draw for draw in draws if draw.stopped is None]:
                for at in range(0, len(live), ROWS):
                    self._extend(live[at : at + ROWS])
        done = iter(draws)
        return [[self.policy.completion(next(done)) for _ in range(request.n)] for request in requests]

    def scores(self, sequences: Sequence[tuple[int, ...]]) -> Tensor:
        """(1 − mix) z_π / T + mix z_ref / T after each sequence, `[n, V]`: the mixture's logits, up to a constant."""
        sampling = self.policy.sampling
        own = next_scores(self.policy.decoder, sequences, temperature=sampling.temperature)
        with self.reference.adapter_off() if self.adapter_off else nullcontext():
            theirs = next_scores(self.reference, sequences, temperature=sampling.temperature)
        return (1 - self.mix) * own + self.mix * theirs[:, : own.shape[1]].to(own.device)

    def _extend(self, draws: Sequence[Draw]) -> None:
        scores = self.scores([(*draw.prompt, *draw.tokens) for draw in draws])
        seed = torch.tensor([draw.seed for draw in draws], device=scores.device)
        index = torch.tensor([len(draw.tokens) for draw in draws], device=scores.device)
        sampling, vocabulary = self.policy.sampling, self.policy.vocabulary
        tokens, logprobs, masses = draw_tokens(scores, seed, index, sampling=sampling, vocabulary=vocabulary)
        for row, draw in enumerate(draws):
            draw.tokens.append(int(tokens[row]))
            draw.logprobs.append(float(logprobs[row]))
            draw.log_mass.append(0.0 if masses is None else float(masses[row]))
            if not math.isfinite(draw.logprobs[-1]):
                raise NumericsError(diverged(draw, draw.logprobs[-1]))
            self.policy.end(draw)


def next_scores(decoder: Decoder, sequences: Sequence[tuple[int, ...]], *, temperature: float) -> Tensor:
    """A decoder's logits over temperature after each sequence, float32, `[n, V]`, from the whole sequences."""
    head = decoder.head
    assert head is not None, "a decoder without a language-model head draws no tokens"
    rollouts = [
        Rollout(task_id="", tokens=tokens, mask=(False,) * len(tokens), source=("prompt",) * len(tokens))
        for tokens in sequences
    ]
    batch = pack([Tree(rollouts=(rollout,)) for rollout in rollouts])
    hidden = decoder.hidden(batch)[batch.last.to(decoder.device)]
    form = {"bias": head.bias, "scale": head.scale, "softcap": head.softcap}
    return head_logits(hidden, head.weight, **form, temperature=temperature)


def opponent_engine(
    policy: TorchEngine, reference: Decoder, *, adapter_off: bool, mix: float | None
) -> ReferenceEngine | MixtureEngine:
    """Who answers beside the policy, sampled as it is: the reference, or with `mix` a mixture of both."""
    if mix is not None:
        return MixtureEngine(policy, reference, mix=mix, adapter_off=adapter_off)
    vocabulary, limit = policy.vocabulary, policy.context
    engine = TorchEngine(reference, policy.sampling, sorted(policy.stop_ids), vocabulary=vocabulary, max_length=limit)
    return ReferenceEngine(engine, adapter_off=adapter_off)
