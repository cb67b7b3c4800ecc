"""Models of Qwen2.5's shapes with random weights, what a pass over them costs, and batches of the table's workloads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.material import make_rows
from benchmarks.workloads import Workload, workloads
from whet.batch import TokenBatch, Tree, pack
from whet.models.config import LoraConfig
from whet.models.lora import add_adapter
from whet.models.policy import Decoder
from whet.models.prove import prove
from whet.models.recompute import recompute_layers
from whet.types import Rollout

STOP = 0
CONTEXT = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class QwenShape:
    """A Qwen2 with grouped key heads and one matrix for embedding and head."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def block_weights(self) -> int:
        """Weights of all layers' matrices."""
        keys = 2 * self.kv_heads * self.head_width
        return self.layers * (self.width * (2 * self.width + keys) + 3 * self.width * self.inner)

    @property
    def head_weights(self) -> int:
        return self.width * self.vocabulary

    @property
    def token_cache(self) -> int:
        """Numbers that one token's keys and values are."""
        return 2 * self.layers * self.kv_heads * self.head_width


SHAPES: Mapping[str, QwenShape] = {
    "0.5B": QwenShape(layers=24, width=896, heads=14, kv_heads=2, inner=4864, vocabulary=151_936),
    "1.5B": QwenShape(layers=28, width=1536, heads=12, kv_heads=2, inner=8960, vocabulary=151_936),
}
TINY = QwenShape(layers=2, width=64, heads=4, kv_heads=2, inner=96, vocabulary=96)


def forward_operations(shape: QwenShape, batch: TokenBatch, *, counted: int, outputs: int | None = None) -> float:
    """Operations of matrix products in one pass, each token once: blocks, visible pairs, head on the counted tokens.

    2 · block weights · tokens + 4 · width · layers · pairs + 2 · width · outputs · counted; a token at position p sees
    p + 1 keys.
    """
    pairs = float((batch.positions + 1).sum())
    attention = 4.0 * shape.width * shape.layers * pairs
    head = 2.0 * shape.width * (shape.vocabulary if outputs is None else outputs) * counted
    return 2.0 * shape.block_weights * batch.tokens.numel() + attention + head


def hf_model(shape: QwenShape, device: str, dtype: torch.dtype) -> Any:
    """The model as `transformers` has it, weights drawn on the device."""
    from transformers import AutoModelForCausalLM, Qwen2Config

    config = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=STOP,
        pad_token_id=1,
    )
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype)


def decoder_of(
    shape: QwenShape,
    device: str,
    dtype: torch.dtype,
    *,
    stop: float | None = None,
    lora: bool = False,
    recompute: bool = False,
    head: str | None = None,
) -> Decoder:
    """A decoder proved as a forest; `stop` makes the stop token come with that probability at every place."""
    hf = hf_model(shape, device, dtype)
    if stop is not None:
        with torch.no_grad():
            set_stop(hf, stop)
    decoder = prove(Decoder(hf), "forest")
    if recompute:
        recompute_layers(decoder.backbone)
    if head is not None:
        decoder.heads[head] = torch.nn.Linear(shape.width, 1, bias=False, device=device, dtype=dtype)
    return add_adapter(decoder, LoraConfig(), seed=0) if lora else decoder


def set_stop(model: Any, stop: float) -> None:
    """Let token 0 come with probability `stop` and all others about equally often, where embedding and head are one.

    Every other embedding begins with the same large number and the last norm keeps only that entry, so all other
    logits are nearly equal; the stop token's own first entry says how far it stands above them.
    """
    embedding, norm = model.get_input_embeddings().weight, model.model.norm.weight
    vocabulary, width = embedding.shape
    embedding[:, 0] = math.sqrt(width) * 0.02
    norm.fill_(1e-3)
    norm[0] = 1.0
    tokens = torch.randint(2, vocabulary, (4, 64), device=embedding.device)
    first = model.model(input_ids=tokens, use_cache=False).last_hidden_state[..., 0].float().mean()
    above = math.log(stop / (1 - stop)) + math.log(vocabulary - 1)
    embedding[STOP] = 0.0
    embedding[STOP, 0] = embedding[2, 0] + above / float(first)


def workload_of(kind: str, shape: QwenShape, *, small: bool) -> Workload:
    """The table's first ragged workload of that kind, with this vocabulary."""
    row = next(row for row in workloads(small=small).values() if row.kind == kind)
    return replace(row, shape=replace(row.shape, vocabulary=shape.vocabulary))


def prompts_of(workload: Workload) -> list[tuple[int, ...]]:
    """The prompts of a workload's step as tokens."""
    return [_ids(row["prompt"]) for row in make_rows(workload)]


def batch_of(workload: Workload) -> TokenBatch:
    """One step's data of a workload whose answers are given: pairs, or whole texts; a stop token ends each."""
    rows = make_rows(workload)
    if workload.kind == "sft":
        texts = [(*_ids(row["text"]), STOP) for row in rows]
        return pack([Tree(rollouts=[rollout(text[:1], text[1:])]) for text in texts])
    trees = []
    for row in rows:
        prompt = _ids(row["prompt"])
        both = [rollout(prompt, (*_ids(row[side]), STOP)) for side in ("chosen", "rejected")]
        trees.append(Tree(rollouts=both, pairs=[(0, 1)], pair={"margin": [0.0]}))
    return pack(trees)


def rollout(prompt: Sequence[int], answer: Sequence[int], logprobs: Sequence[float] = ()) -> Rollout:
    """A response behind its prompt."""
    return Rollout(
        task_id="",
        tokens=(*prompt, *answer),
        mask=(False,) * len(prompt) + (True,) * len(answer),
        source=("prompt",) * len(prompt) + ("sampled",) * len(answer),
        logprobs=tuple(logprobs),
    )


def _ids(text: str) -> tuple[int, ...]:
    """The words of the workloads are numbered by their tokens."""
    return tuple(int(word[1:]) for word in text.split())
