"""vLLM on the CPU, in an interpreter of its own: token ids in and out, the engine in this very process.

The setting's `block` is the tokens of one block of its cache (None: its default). Prompts that an earlier step left in
the cache are forgotten before the next: in training the weights have changed by then.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.material import CONTEXT, ids_of, read_rows
from benchmarks.workloads import Workload

if TYPE_CHECKING:
    from benchmarks.side import Clock

ENDLESS = 1_000_000


def libraries() -> None:
    """Everything that a step may import, before memory is counted."""
    from vllm import LLM, SamplingParams  # noqa: F401  # pyright: ignore[reportMissingImports]


def work(workload: Workload, folder: Path, clock: Clock, setting: Mapping[str, Any]) -> None:
    """Draw the workload's responses for as long as the clock asks."""
    import torch
    import vllm  # pyright: ignore[reportMissingImports]

    given = {} if setting["block"] is None else {"block_size": setting["block"]}
    engine = vllm.LLM(
        model=str(folder / "model"), dtype="float32", enforce_eager=True, max_model_len=CONTEXT, seed=0, **given
    )
    drawing = vllm.SamplingParams(n=workload.group, temperature=1.0, max_tokens=workload.most, detokenize=False)
    prompts = [{"prompt_token_ids": ids_of(row["prompt"])} for row in read_rows(folder)]
    tokens = sum(len(prompt["prompt_token_ids"]) for prompt in prompts) * workload.group
    config = engine.llm_engine.vllm_config
    clock.ready(
        {
            "version": vllm.__version__,
            "threads": torch.get_num_threads(),
            "preloaded": os.environ.get("LD_PRELOAD", "nothing").rpartition("/")[2],
            "block": config.cache_config.block_size,
            "prefix caching": config.cache_config.enable_prefix_caching,
            "max_num_seqs": config.scheduler_config.max_num_seqs,
            "cache GiB": os.environ["VLLM_CPU_KVCACHE_SPACE"],
            "prompt tokens": tokens,
        }
    )
    for _ in range(ENDLESS):
        engine.reset_prefix_cache()
        clock.start()
        outputs = engine.generate(prompts, drawing, use_tqdm=False)
        clock.stop()
        lengths = [len(answer.token_ids) for output in outputs for answer in output.outputs]
        clock.tell(tokens=float(sum(lengths)), **{"mean length": sum(lengths) / len(lengths)})
