"""Before a model trains as a forest it must prove that it can; what cannot falls back to padding, said aloud.

Three dangers are silent otherwise: a family that ignores the replaced attention, layers that carry state along the
sequence (short convolutions, linear attention, state spaces), and a sliding window or head function that is not what
its attention or configuration says. So on a canary forest every attention layer must have asked the plan, with the
window its configuration names, and every hidden state and logit must equal the stock model's, one sequence at a time.
"""

from __future__ import annotations

import logging
import re

import torch
from torch import Tensor

from whet.batch import TokenBatch, Tree, pack
from whet.errors import ModelError
from whet.models.attention import ForestPlan, register
from whet.models.padded import padded_hidden
from whet.models.policy import Decoder
from whet.types import Rollout

log = logging.getLogger("whet")

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 6e-2, torch.float16: 1e-2}
"""Largest difference allowed, relative to the largest hidden state, by precision."""

LAYER_TYPES = {"full_attention", "sliding_attention", "attention"}
STATEFUL = re.compile("Conv(?!1D)|Mamba|SSM|Delta|LinearAttention|Recurrent|Rwkv|Retention")


class ForestUnsupported(ModelError):
    """A model cannot be laid out as a forest; the text says why."""


def prove(decoder: Decoder, layout: str = "auto") -> Decoder:
    """Choose the decoder's layout: forest where it proves itself, else padded with the reason in the log.

    Raises `ForestUnsupported` for layout="forest" where it does not hold, `ModelError` where padding fails too.
    """
    batch = canary(decoder)
    alone = _one_at_a_time(decoder, batch)
    _check_head(decoder, batch, alone)
    if layout != "padded":
        try:
            _prove_forest(decoder, batch, alone)
        except ForestUnsupported as reason:
            if layout == "forest":
                raise
            decoder.layout_reason = str(reason)
            log.warning("%s; layout=padded is used, which computes a shared prompt once per response", reason)
        else:
            decoder.layout, decoder.layout_reason = "forest", "proved on a canary batch"
            return decoder
    else:
        decoder.layout_reason = "asked for"
    decoder.layout = "padded"
    _use_stock(decoder)
    with torch.no_grad():
        _compare(padded_hidden(decoder.backbone, batch, device=decoder.device), alone, decoder, "padded to the right")
    return decoder


def canary(decoder: Decoder) -> TokenBatch:
    """Two siblings of one prompt and a lone sequence, of tokens the model knows, at most seven long."""
    rows = int(decoder.backbone.get_input_embeddings().weight.shape[0])
    ids = [(7 * i + 1) % rows for i in range(14)]

    def rollout(prompt: list[int], answer: list[int]) -> Rollout:
        size = len(prompt), len(answer)
        return Rollout(
            task_id="canary",
            tokens=(*prompt, *answer),
            mask=(False,) * size[0] + (True,) * size[1],
            source=("prompt",) * size[0] + ("sampled",) * size[1],
        )

    twins = Tree(rollouts=(rollout(ids[:4], ids[4:7]), rollout(ids[:4], ids[7:9])))
    return pack([twins, Tree(rollouts=(rollout(ids[9:11], ids[11:14]),))]).to(decoder.device)


def _one_at_a_time(decoder: Decoder, batch: TokenBatch) -> Tensor:
    """Hidden states `[T, h]` of the stock model, each response alone with its prompt."""
    _use_stock(decoder)
    states: dict[int, Tensor] = {}
    with torch.no_grad():
        for row in range(batch.rows):
            path = _path(batch, row)
            hidden = decoder.backbone(input_ids=batch.tokens[path][None], use_cache=False).last_hidden_state[0]
            for token, state in zip(path.tolist(), hidden, strict=True):
                if token in states and not _near(state, states[token]):
                    raise ModelError(
                        f"{type(decoder.hf).__name__} lets a token see what comes after it, so it is no causal "
                        "decoder; use a language model"
                    )
                states[token] = state
    return torch.stack([states[t] for t in range(batch.tokens.numel())])


def _path(batch: TokenBatch, row: int) -> Tensor:
    at, path = int(batch.last[row]), []
    while at >= 0:
        path.append(at)
        at = int(batch.previous[at])
    return torch.tensor(path[::-1], device=batch.tokens.device)


def _check_head(decoder: Decoder, batch: TokenBatch, hidden: Tensor) -> None:
    """The LM head as we compute it must be the family's own function."""
    head = decoder.head
    if head is None:
        return
    path = _path(batch, 0)
    with torch.no_grad():
        own = decoder.hf(input_ids=batch.tokens[path][None], use_cache=False).logits[0]
        ours = torch.nn.functional.linear(hidden[path], head.weight, head.bias) * head.scale
        ours = ours if head.softcap is None else head.softcap * torch.tanh(ours / head.softcap)
    if not _near(ours, own):
        raise ModelError(
            f"the logits of {type(decoder.hf).__name__} are not a linear head with the scale and soft-cap its "
            "configuration names, so its log-probabilities cannot be computed in chunks; use another family"
        )


def _prove_forest(decoder: Decoder, batch: TokenBatch, alone: Tensor) -> None:
    name = type(decoder.hf).__name__
    _check_layers(decoder, name)
    if not decoder.hf._can_set_attn_implementation():
        raise ForestUnsupported(f"{name} does not let its attention be replaced")
    decoder.hf.set_attn_implementation(register())
    plan = decoder.plan(batch)
    decoder.layout = "forest"
    try:
        with torch.no_grad():
            together = decoder.hidden(batch, plan=plan)
    except Exception as error:
        raise ForestUnsupported(f"{name} fails as a forest ({type(error).__name__}: {error})") from error
    layers = int(decoder.config.num_hidden_layers)
    if plan.called != set(range(layers)):
        missing = sorted(set(range(layers)) - plan.called)
        raise ForestUnsupported(f"{len(missing)} of {layers} layers of {name} did not ask the forest's attention")
    _check_windows(decoder, plan, name)
    try:
        _compare(together, alone, decoder, "as a forest")
    except ModelError as error:
        raise ForestUnsupported(str(error)) from error


def _check_layers(decoder: Decoder, name: str) -> None:
    kinds = set(getattr(decoder.config, "layer_types", None) or ()) - LAYER_TYPES
    if kinds:
        raise ForestUnsupported(f"{name} has layers of kind {', '.join(sorted(kinds))}, which a forest cannot serve")
    for at, module in decoder.backbone.named_modules():
        kind = type(module).__name__
        if STATEFUL.search(kind):
            raise ForestUnsupported(f"{name} carries state along the sequence ({at} is a {kind})")


def _check_windows(decoder: Decoder, plan: ForestPlan, name: str) -> None:
    """A layer that its configuration calls sliding must have named that window to the attention, and no other layer."""
    kinds = getattr(decoder.config, "layer_types", None)
    window = getattr(decoder.config, "sliding_window", None)
    if not kinds:
        return
    for layer, kind in enumerate(kinds):
        expected = window if kind == "sliding_attention" else None
        if plan.windows[layer] != expected:
            raise ForestUnsupported(
                f"layer {layer} of {name} is {kind} with window {expected}, but named "
                f"{plan.windows[layer]} to its attention"
            )


def _use_stock(decoder: Decoder) -> None:
    """The family's own attention: fused where that computes the same thing."""
    if not decoder.hf._can_set_attn_implementation():
        return
    config = decoder.config
    plain = getattr(config, "attn_logit_softcapping", None) is None and decoder.hf._supports_sdpa
    wanted = "sdpa" if plain and decoder.attention == "fast" else "eager"
    if decoder.hf.config._attn_implementation != wanted:
        decoder.hf.set_attn_implementation(wanted)


def _compare(ours: Tensor, theirs: Tensor, decoder: Decoder, how: str) -> None:
    if not _near(ours, theirs):
        gap = (ours - theirs).abs().max().item()
        raise ModelError(
            f"{type(decoder.hf).__name__} gives other hidden states {how} than one sequence at a time "
            f"(largest difference {gap:.2g})"
        )


def _near(ours: Tensor, theirs: Tensor) -> bool:
    scale = theirs.abs().max().clamp(min=1e-6)
    return bool((ours - theirs).abs().max() <= TOLERANCE[theirs.dtype] * scale)
