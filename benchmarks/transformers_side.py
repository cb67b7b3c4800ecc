"""`transformers` as a sampler: `generate`, all responses in one batch, or continuous batching with one manager.

The setting's `continuous` says which, `page` is the tokens of one page of its cache (None: its default). Prompts that
an earlier step left in the cache are forgotten before the next: in training the weights have changed by then.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.material import read_rows
from benchmarks.workloads import Workload

if TYPE_CHECKING:
    from benchmarks.side import Clock

ENDLESS = 1_000_000
PAGE = 256


def libraries() -> None:
    """Everything that a step may import, before memory is counted."""
    import torch  # noqa: F401
    from transformers import AutoTokenizer, LlamaForCausalLM  # noqa: F401
    from transformers.generation.continuous_batching import continuous_api  # noqa: F401


def work(workload: Workload, folder: Path, clock: Clock, setting: Mapping[str, Any]) -> None:
    """Draw the workload's responses for as long as the clock asks."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    logging.disable(logging.WARNING)
    model: Any = AutoModelForCausalLM.from_pretrained(str(folder / "model"), dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder / "model"))
    prompts = [row["prompt"] for row in read_rows(folder)]
    model.eval()
    if setting["continuous"]:
        _continuous(workload, clock, model, tokenizer(prompts)["input_ids"], setting["page"])
    else:
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
        _generate(workload, clock, model, inputs)


def _drawing(model: Any, workload: Workload, **more: Any) -> Any:
    """Plain sampling, as GRPO's: temperature 1 and nothing cut."""
    from transformers import GenerationConfig

    return GenerationConfig(
        max_new_tokens=workload.most,
        num_return_sequences=workload.group,
        do_sample=True,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        pad_token_id=model.generation_config.pad_token_id,
        eos_token_id=model.generation_config.eos_token_id,
        **more,
    )


def _generate(workload: Workload, clock: Clock, model: Any, inputs: Any) -> None:
    import torch

    config = _drawing(model, workload, disable_compile=True)
    prompt, tokens = inputs["input_ids"].shape[1], int(inputs["attention_mask"].sum()) * workload.group
    clock.ready({"cache": "DynamicCache", "batch": workload.sequences, "prompt tokens": tokens})
    for _ in range(ENDLESS):
        clock.start()
        with torch.no_grad():
            drawn = model.generate(**inputs, generation_config=config)[:, prompt:]
        clock.stop()
        clock.tell(**told(_lengths(drawn, config.eos_token_id)))


def _lengths(drawn: Any, stop: int) -> list[int]:
    """Tokens up to and with the first stop token."""
    ended = drawn == stop
    first = ended.int().argmax(dim=1)
    return [int(at) + 1 if any_ else drawn.shape[1] for at, any_ in zip(first, ended.any(dim=1), strict=True)]


def told(lengths: list[int]) -> dict[str, float]:
    """What every sampler says of a step."""
    return {"tokens": float(sum(lengths)), "mean length": sum(lengths) / len(lengths)}


def _continuous(workload: Workload, clock: Clock, model: Any, prompts: list[list[int]], page: int | None) -> None:
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    size = page or PAGE
    config = ContinuousBatchingConfig(num_blocks=(blocks := pages(workload, size)), page_size=size)
    drawing = _drawing(model, workload)
    clock.ready({"page": size, "blocks": blocks, "prompt tokens": sum(map(len, prompts)) * workload.group})
    for _ in range(ENDLESS):
        _forget(model)
        clock.start()
        outputs = model.generate_batch(
            prompts, generation_config=drawing, continuous_batching_config=config, persistent_manager=True, warmup=False
        ).values()
        clock.stop()
        _check(outputs, workload.sequences)
        clock.tell(**told([len(output.generated_tokens) for output in outputs]))


def pages(workload: Workload, size: int) -> int:
    """Pages of `size` tokens that hold every prompt and response at its longest: nobody waits for another.

    No fewer than its default lets each response have for itself, prompt and all: sharing may be left to later.
    """
    return workload.sequences * (-(-(workload.prompt + workload.most) // size) + 1)


def _forget(model: Any) -> None:
    """Throw away the prompts that the cached manager holds from an earlier step."""
    manager = getattr(model, "_cached_continuous_batching_manager", None)
    if manager is not None:
        manager.batch_processor.cache.evict_cached_blocks()


def _check(outputs: Any, wanted: int) -> None:
    """Its failures are answers: say them."""
    errors = [output.error for output in outputs if output.error is not None]
    if errors or len(outputs) != wanted:
        raise RuntimeError(f"{len(outputs)} of {wanted} responses, {len(errors)} failed: {''.join(errors[:1])}")
