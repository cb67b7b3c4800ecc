"""What both sides are given: a model folder with a tokenizer of whole words, and one step's rows as text."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from benchmarks.workloads import Shape, Workload

STOP, PAD = "<stop>", "<pad>"
CONTEXT = 1024


def make(workload: Workload, folder: Path) -> None:
    """Write `folder/model` and `folder/rows.jsonl`; the same workload gives the same files."""
    _make_model(workload, folder / "model")
    with (folder / "rows.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in make_rows(workload))


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a step as `make` wrote them."""
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def make_rows(workload: Workload) -> list[dict[str, Any]]:
    """The rows of one step, in the field's usual columns; every word is one token, a stop token ends each answer.

    >>> from benchmarks.workloads import workloads
    >>> row = make_rows(workloads(small=True)["reward"])[0]
    >>> sorted(row), len(row["prompt"].split())
    (['chosen', 'prompt', 'rejected'], 64)
    """
    rng = random.Random(f"{workload.seed} words")
    vocabulary = workload.shape.vocabulary

    def text(count: int) -> str:
        return " ".join(f"w{rng.randrange(2, vocabulary)}" for _ in range(count))

    if workload.kind == "sft":
        # the stop token is the last of the length
        return [{"text": text(count - 1)} for count in workload.lengths(workload.rows)]
    prompts = [text(workload.prompt) for _ in range(workload.rows)]
    if workload.kind in ("sample", "grpo"):
        return [{"prompt": prompt} for prompt in prompts]
    # the stop token is the last of the length
    answers = iter([" " + text(length - 1) for length in workload.answers()])
    return [{"prompt": prompt, "chosen": next(answers), "rejected": next(answers)} for prompt in prompts]


def ids_of(text: str) -> list[int]:
    """The tokens of a text of `make_rows`, for a side without the tokenizer.

    >>> ids_of("w7 w12")
    [7, 12]
    """
    return [int(word.removeprefix("w")) for word in text.split()]


def _make_model(workload: Workload, folder: Path) -> None:
    import torch
    from transformers import LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(workload.seed)
    tokenizer = _tokenizer(workload.shape.vocabulary)
    model = LlamaForCausalLM(llama_config(workload.shape))
    with torch.no_grad():
        set_stop_probability(model, workload.stop)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 0, 1
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def llama_config(shape: Shape, *, context: int = CONTEXT, **more: Any) -> Any:
    """The configuration of a shape, token 0 the stop and token 1 the padding."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=context,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
        **more,
    )


def set_stop_probability(model: Any, stop: float) -> None:
    """Make token 0 come with probability `stop` (0: never) at every place, and all others about equally often.

    One entry of every embedding is a large constant, so one entry of every last hidden state is nearly constant too;
    the head reads only that one, and only for the stop token, beside a little noise.
    """
    import torch

    head, embedding = model.lm_head.weight, model.model.embed_tokens.weight
    vocabulary, width = embedding.shape
    embedding[:, 0] = math.sqrt(width) * 0.02
    head.normal_(std=0.1 / math.sqrt(width))
    head[0] = 0.0
    head[:, 0] = 0.0
    tokens = torch.randint(2, vocabulary, (8, 64))
    hidden = model.model(input_ids=tokens).last_hidden_state
    others = torch.logsumexp(hidden @ head[1:].T, dim=-1).mean()
    wanted = math.log(stop / (1 - stop)) if stop else -30.0
    head[0, 0] = (wanted + others) / hidden[..., 0].mean()


def _tokenizer(vocabulary: int) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {STOP: 0, PAD: 1} | {f"w{i}": i for i in range(2, vocabulary)}
    words = Tokenizer(models.WordLevel(ids, unk_token=PAD))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token=STOP, pad_token=PAD, padding_side="left", model_max_length=CONTEXT
    )
