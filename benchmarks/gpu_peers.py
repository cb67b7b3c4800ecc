"""Rows that compare with other libraries on the same weights; what is not installed is named and not guessed."""

from __future__ import annotations

import inspect
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from statistics import median
from typing import Any

import torch

from benchmarks.gpu_models import QwenShape, decoder_of, hf_model, prompts_of, set_stop, workload_of
from benchmarks.gpu_rows import RATE, Bench, Found, engine_of, filling, grpo_step, requests_of
from benchmarks.judge import variety
from benchmarks.material import make_rows
from benchmarks.workloads import Workload

CACHE_SHARE = 0.3
"""Of the free memory, for a peer's cache: by default it would take nine tenths."""
MICRO = 32
"""Sequences that TRL computes at once; all of a step are sampled at once."""
NOT_MEASURED = "stronger peer not measured"


def grpo(bench: Bench, size: str) -> Found:
    """How many times faster a GRPO step is than TRL's with `transformers` generate: sample, reward, one update.

    Each side does its rounds in one go, since TRL's loop cannot take turns; the first step of each is left out.
    """
    missing = [name for name in ("trl", "datasets") if find_spec(name) is None]
    if missing:
        return Found(figure=None, note=f"{' and '.join(missing)} not installed; give a folder of wheels by --wheels")
    shape = bench.shape(size)
    workload = workload_of("grpo", shape, small=bench.tiny)
    decoder = decoder_of(shape, bench.device, bench.dtype, stop=workload.stop)
    step = grpo_step(bench, decoder, prompts_of(workload), workload.group, workload.most)
    drawn: list[int] = []
    ours = bench.seconds(lambda: drawn.append(step()))[0]
    peak = bench.peak(step)
    del decoder, step
    theirs, settings, their_peak = _trl(bench, shape, workload)
    tokens = median(drawn) / workload.sequences
    details = {"whet s": ours, "trl s": theirs, "mean length": tokens, "trl": settings}
    return Found(figure=theirs / ours, details=details | {"whet GiB": peak, "trl GiB": their_peak})


def _trl(bench: Bench, shape: QwenShape, workload: Workload) -> tuple[float, dict[str, Any], float | None]:
    """Median seconds of a GRPOTrainer step, its settings, and the most memory it held."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    took: list[float] = []

    class Timed(TrainerCallback):
        """Seconds of every step but the first."""

        began = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            bench.wait()
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            bench.wait()
            took.append(time.perf_counter() - self.began)

    with tempfile.TemporaryDirectory() as folder:
        model = hf_model(shape, bench.device, bench.dtype)
        with torch.no_grad():
            set_stop(model, workload.stop)
        micro = min(MICRO, workload.sequences)
        settings = {
            "per_device_train_batch_size": micro,
            "gradient_accumulation_steps": workload.sequences // micro,
            "num_generations": workload.group,
            "max_completion_length": workload.most,
            "loss_type": "grpo",
            "beta": 0.0,
            "bf16": bench.device == "cuda",
            "gradient_checkpointing": False,
        }
        arguments = GRPOConfig(
            output_dir=folder,
            max_steps=1 + bench.rounds,
            learning_rate=RATE,
            temperature=1.0,
            use_cpu=bench.device == "cpu",
            report_to="none",
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
            seed=0,
            **settings,
        )
        trainer = GRPOTrainer(
            model=model,
            args=arguments,
            reward_funcs=variety,
            train_dataset=Dataset.from_list(make_rows(workload)),
            processing_class=_tokenizer(shape.vocabulary),
            callbacks=[Timed()],
        )
        peak = bench.peak(trainer.train)
    return median(took[1:]), settings | {"generation": "transformers generate"}, peak


def _tokenizer(vocabulary: int) -> Any:
    """Whole words of the workloads, as the model folders of the other table have them."""
    from benchmarks import material

    return material._tokenizer(vocabulary)


def generate(bench: Bench, size: str) -> Found:
    """How many times faster sampling is than `transformers` generate, all responses in one batch, no stop."""
    shape = bench.shape(size)
    prompts, group, most = filling(bench, shape)
    decoder = decoder_of(shape, bench.device, bench.dtype)
    engine, asked = engine_of(bench, decoder, most), requests_of(prompts, group)
    ids = torch.tensor([prompt for prompt in prompts for _ in range(group)], device=bench.device)
    config = _generation(most)

    def theirs() -> None:
        with stock(decoder.hf), torch.no_grad():
            out = decoder.hf.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
        assert out.shape[1] == ids.shape[1] + most, "no response stops early"

    return _ratio(bench, lambda: engine.sample(asked), theirs, "generate", len(ids) * most)


def continuous(bench: Bench, size: str) -> Found:
    """How many times faster sampling is than `transformers` continuous batching on the same live weights."""
    shape = bench.shape(size)
    prompts, group, most = filling(bench, shape)
    decoder = decoder_of(shape, bench.device, bench.dtype)
    engine, asked = engine_of(bench, decoder, most), requests_of(prompts, group)
    with batching(decoder.hf, [list(prompt) for prompt in prompts for _ in range(group)], most, bench) as theirs:
        return _ratio(bench, lambda: engine.sample(asked), theirs, "generate_batch", len(prompts) * group * most)


@contextmanager
def batching(hf: Any, inputs: list[list[int]], most: int, bench: Bench) -> Iterator[Callable[[], None]]:
    """`generate_batch` on a live model: its manager is kept between calls, its failures raise, its attention goes.

    It reports a failed request as an output with `.error`, switches the model's attention, and takes most of the free
    memory unless told otherwise.
    """
    from transformers import ContinuousBatchingConfig

    fields = inspect.signature(ContinuousBatchingConfig).parameters
    limits: dict[str, Any] = {"max_memory_percent": CACHE_SHARE} if bench.device == "cuda" else {"num_blocks": 64}
    wanted = {"return_logprobs": True, "seed": 0, **limits}
    config = ContinuousBatchingConfig(**{name: value for name, value in wanted.items() if name in fields})
    stays = "persistent_manager" in inspect.signature(hf.generate_batch).parameters
    kept = {"persistent_manager": True} if stays else {}

    def sample() -> None:
        with stock(hf), torch.no_grad():
            out = hf.generate_batch(
                inputs,
                generation_config=_generation(most),
                continuous_batching_config=config,
                progress_bar=False,
                **kept,
            )
        failed = [answer.error for answer in out.values() if answer.error]
        if failed or len(out) != len(inputs):
            why = failed[0] if failed else f"{len(out)} answers to {len(inputs)} requests"
            raise RuntimeError(f"continuous batching failed: {why}")
        assert all(len(answer.generated_tokens) == most for answer in out.values()), "no response stops early"

    try:
        yield sample
    finally:
        if stays and hasattr(hf, "destroy_cached_continuous_batching_manager"):
            hf.destroy_cached_continuous_batching_manager()


@contextmanager
def stock(hf: Any) -> Iterator[None]:
    """The family's own attention for as long as the block lasts, and then the one that was there."""
    ours = hf.config._attn_implementation
    hf.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        hf.set_attn_implementation(ours)


def vllm(bench: Bench, size: str) -> Found:
    """How many times faster sampling is than vLLM's, on a copy of the weights in a folder."""
    if find_spec("vllm") is None:
        return Found(figure=None, note=NOT_MEASURED)
    peer = import_module("vllm")
    shape = bench.shape(size)
    prompts, group, most = filling(bench, shape)
    decoder = decoder_of(shape, bench.device, bench.dtype)
    engine, asked = engine_of(bench, decoder, most), requests_of(prompts, group)
    with tempfile.TemporaryDirectory() as folder:
        decoder.hf.save_pretrained(folder)
        model = peer.LLM(
            model=folder,
            dtype=str(bench.dtype).removeprefix("torch."),
            skip_tokenizer_init=True,
            seed=0,
            gpu_memory_utilization=CACHE_SHARE,
            max_num_seqs=bench.slots,
        )
        drawn: dict[str, Any] = {"n": group, "max_tokens": most, "temperature": 1.0, "logprobs": 0}
        how = peer.SamplingParams(ignore_eos=True, detokenize=False, **drawn)
        inputs = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        return _ratio(
            bench,
            lambda: engine.sample(asked),
            lambda: model.generate(inputs, how, use_tqdm=False),
            "vllm",
            len(prompts) * group * most,
        )


def _generation(most: int) -> Any:
    from transformers import GenerationConfig

    return GenerationConfig(
        max_new_tokens=most,
        do_sample=True,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        pad_token_id=1,
        eos_token_id=None,
        disable_compile=True,
    )


def _ratio(bench: Bench, ours: Callable[[], object], theirs: Callable[[], object], name: str, tokens: int) -> Found:
    """Their median time over ours, taking turns."""
    mine, other = bench.seconds(ours, theirs)
    details: Mapping[str, Any] = {"whet s": mine, f"{name} s": other, "tokens a second": tokens / mine}
    return Found(figure=other / mine, details=details)
