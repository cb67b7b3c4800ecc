"""TRL's side: its trainers as its documentation sets them up for float32 on a processor.

A step is timed from `on_step_begin` to `on_step_end`, which leaves out fetching and collating the batch. Datasets are
tokenized when the trainer is made; nothing is logged or saved; bfloat16 and activation checkpointing, on by default,
are off.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.judge import variety
from benchmarks.material import read_rows
from benchmarks.workloads import Workload

if TYPE_CHECKING:
    from benchmarks.side import Clock

ENDLESS = 1_000_000
RATE = 1e-6


def libraries() -> None:
    """Everything that a step may import, before memory is counted."""
    import datasets  # noqa: F401
    import torch  # noqa: F401
    from transformers import AutoModelForSequenceClassification, LlamaForCausalLM  # noqa: F401
    from trl.trainer import dpo_trainer, grpo_trainer, reward_trainer, sft_trainer  # noqa: F401


def work(workload: Workload, folder: Path, clock: Clock) -> None:
    """Do the workload's steps for as long as the clock asks."""
    import datasets

    logging.disable(logging.WARNING)
    datasets.disable_progress_bars()
    if workload.kind == "sample":
        _sample(workload, folder, clock)
    else:
        _train(workload, folder, clock)


def _sample(workload: Workload, folder: Path, clock: Clock) -> None:
    """`generate` with the arguments that GRPOTrainer gives it, all responses at once."""
    import torch
    from transformers import GenerationConfig

    model, tokenizer = _model(folder), _tokenizer(folder)
    model.eval()
    rows = [row["prompt"] for row in read_rows(folder) for _ in range(workload.group)]
    inputs = tokenizer(rows, return_tensors="pt", padding=True, return_token_type_ids=False)
    generation = GenerationConfig(
        max_new_tokens=workload.most,
        do_sample=True,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=[tokenizer.eos_token_id],
        disable_compile=True,
    )
    prompt = inputs["input_ids"].shape[1]
    tokens = int(inputs["attention_mask"].sum())
    clock.ready({"generate": "DynamicCache, all responses in one batch", "prompt tokens": tokens})
    for _ in range(ENDLESS):
        clock.start()
        with torch.no_grad():
            drawn = model.generate(**inputs, generation_config=generation)[:, prompt:]
        lengths = _lengths(drawn, tokenizer.eos_token_id)
        clock.stop(**{"tokens": float(sum(lengths)), "mean length": sum(lengths) / len(lengths)})


def _lengths(drawn: Any, stop: int) -> list[int]:
    """Tokens up to and with the first stop token."""
    ended = drawn == stop
    first = ended.int().argmax(dim=1)
    return [int(at) + 1 if any_ else drawn.shape[1] for at, any_ in zip(first, ended.any(dim=1), strict=True)]


def _model(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(folder / "model"), dtype=torch.float32)


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder / "model"))


def _train(workload: Workload, folder: Path, clock: Clock) -> None:
    trainer = _trainer(workload, folder)
    trainer.add_callback(_asked(clock))
    micro = trainer.args.per_device_train_batch_size
    settings = {
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": trainer.args.gradient_accumulation_steps,
        "bf16": trainer.args.bf16,
        "gradient_checkpointing": trainer.args.gradient_checkpointing,
        "optim": str(trainer.args.optim.value),
    }
    if workload.kind == "grpo":
        loss = {"loss_type": trainer.args.loss_type, "beta": trainer.args.beta}
        settings |= loss | {"generation": "transformers generate"}
    clock.ready(settings | {"tokens": _tokens(workload, trainer)})
    trainer.train()


def _tokens(workload: Workload, trainer: Any) -> int:
    """Tokens of a step, a pair's prompt twice, before padding."""
    data = trainer.train_dataset
    if workload.kind == "grpo":
        return sum(len(trainer.processing_class(prompt)["input_ids"]) for prompt in data["prompt"]) * workload.group
    times = {"input_ids": 1, "chosen_ids": 1, "rejected_ids": 1, "prompt_ids": 2}
    return sum(n * sum(map(len, data[name])) for name, n in times.items() if name in data.column_names)


def _asked(clock: Clock) -> Any:
    from transformers import TrainerCallback

    class Asked(TrainerCallback):
        """Lets a step begin only when one is asked for."""

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            clock.start()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.stop()

    return Asked()


def _trainer(workload: Workload, folder: Path) -> Any:
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer
    from trl.trainer.reward_config import RewardConfig
    from trl.trainer.reward_trainer import RewardTrainer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    data = Dataset.from_list(read_rows(folder))
    model, tokenizer = _model(folder), _tokenizer(folder)
    given: dict[str, Any] = {"train_dataset": data, "processing_class": tokenizer}
    common = _arguments(workload, folder)
    match workload.kind:
        case "sft":
            return SFTTrainer(model=model, args=SFTConfig(max_length=None, **common), **given)
        case "reward":
            return RewardTrainer(model=_classifier(folder), args=RewardConfig(max_length=None, **common), **given)
        case "dpo":
            return DPOTrainer(model=model, args=DPOConfig(max_length=None, **common), **given)
        case "grpo":
            arguments = GRPOConfig(
                num_generations=workload.group,
                max_completion_length=workload.most,
                loss_type="grpo",
                beta=workload.kl,
                temperature=1.0,
                model_init_kwargs={"dtype": "float32"} if workload.kl else None,
                **common,
            )
            return GRPOTrainer(model=model, args=arguments, reward_funcs=variety, **given)
        case _:
            raise ValueError(f"no trainer for {workload.kind}")


def _classifier(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(str(folder / "model"), dtype=torch.float32, num_labels=1)


def _arguments(workload: Workload, folder: Path) -> dict[str, Any]:
    micro = workload.micro or workload.sequences
    assert workload.sequences % micro == 0, "TRL's micro-batches are equal"
    return {
        "output_dir": str(folder / "trl"),
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": workload.sequences // micro,
        "max_steps": ENDLESS,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "report_to": "none",
        "logging_strategy": "no",
        "save_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "seed": 0,
    }
