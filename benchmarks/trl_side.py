"""TRL's side: its trainers as its documentation sets them up for float32 on a processor.

A step is timed from `on_step_begin` to `on_step_end`, which leaves out fetching and collating the batch. Datasets are
tokenized when the trainer is made; nothing is logged or saved; bfloat16 and activation checkpointing, on by default,
are off.

The setting: `parts` micro-batches of like size make a step, `grouped` puts like lengths together, `packing` packs rows
of so many times the longest text, `continuous` samples with continuous batching.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.judge import variety
from benchmarks.material import read_rows
from benchmarks.transformers_side import PAGE, pages, told
from benchmarks.workloads import Workload

if TYPE_CHECKING:
    from benchmarks.side import Clock

ENDLESS = 1_000_000
RATE = 1e-6
LENGTH = "length"
PLAIN: Mapping[str, Any] = {
    "lr_scheduler_type": "constant",
    "bf16": False,
    "gradient_checkpointing": False,
    "use_cpu": True,
    "report_to": "none",
    "logging_strategy": "no",
    "save_strategy": "no",
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
}
"""What every trainer is told: float32 on a processor, a constant rate, nothing logged or saved."""


def libraries() -> None:
    """Everything that a step may import, before memory is counted."""
    import datasets  # noqa: F401
    import torch  # noqa: F401
    from transformers import AutoModelForSequenceClassification, LlamaForCausalLM  # noqa: F401
    from trl.trainer import dpo_trainer, grpo_trainer, reward_trainer, sft_trainer  # noqa: F401


def work(workload: Workload, folder: Path, clock: Clock, setting: Mapping[str, Any]) -> None:
    """Do the workload's steps for as long as the clock asks."""
    import datasets

    logging.disable(logging.WARNING)
    datasets.disable_progress_bars()
    drawn: list[int] = []
    trainer = _trainer(workload, folder, setting, drawn)
    trainer.add_callback(_asked(clock, drawn))
    clock.ready({**_settings(trainer, setting), "tokens": _tokens(workload, trainer)})
    trainer.train()


def _settings(trainer: Any, setting: Mapping[str, Any]) -> dict[str, Any]:
    """What the table says of this side: what was set, and the defaults that matter."""
    names = ["per_device_train_batch_size", "gradient_accumulation_steps", "bf16", "gradient_checkpointing"]
    if setting.get("grouped"):
        names.append("train_sampling_strategy")
    if setting.get("packing"):
        names += ["packing", "packing_strategy", "max_length"]
    names += [name for name in ("loss_type", "beta", "precompute_ref_log_probs") if hasattr(trainer.args, name)]
    names += ["use_transformers_continuous_batching"] if setting.get("continuous") else []
    return {name: getattr(trainer.args, name) for name in names}


def _model(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(folder / "model"), dtype=torch.float32)


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder / "model"))


def _tokens(workload: Workload, trainer: Any) -> int:
    """Tokens of a step, a pair's prompt twice, before padding."""
    data = trainer.train_dataset
    if workload.kind == "grpo":
        return sum(len(trainer.processing_class(prompt)["input_ids"]) for prompt in data["prompt"]) * workload.group
    if workload.packed:
        return sum(sum(ids) for ids in data["seq_lengths"])
    times = {"input_ids": 1, "chosen_ids": 1, "rejected_ids": 1, "prompt_ids": 2}
    return sum(n * sum(map(len, data[name])) for name, n in times.items() if name in data.column_names)


def _asked(clock: Clock, drawn: list[int]) -> Any:
    from transformers import TrainerCallback

    class Asked(TrainerCallback):
        """Lets a step begin only when one is asked for; `drawn` are the lengths of what it sampled."""

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            drawn.clear()
            clock.start()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.stop()
            clock.tell(**told(drawn) if drawn else {})

    return Asked()


def _trainer(workload: Workload, folder: Path, setting: Mapping[str, Any], drawn: list[int]) -> Any:
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.reward_config import RewardConfig
    from trl.trainer.reward_trainer import RewardTrainer

    given: dict[str, Any] = {"train_dataset": _data(workload, folder), "processing_class": _tokenizer(folder)}
    common = _arguments(workload, folder, setting)
    match workload.kind:
        case "sft":
            return _sft(workload, folder, setting, given, common)
        case "reward":
            return RewardTrainer(model=_classifier(folder), args=RewardConfig(max_length=None, **common), **given)
        case "dpo":
            args = DPOConfig(max_length=None, precompute_ref_log_probs=workload.cached, **common)
            return DPOTrainer(model=_model(folder), args=args, **given)
        case "grpo":
            return _grpo(workload, folder, setting, given, common, drawn)
        case _:
            raise ValueError(f"no trainer for {workload.kind}")


def _data(workload: Workload, folder: Path) -> Any:
    """The rows, and for pairs the length that its sampler may group by (texts bring their own)."""
    from datasets import Dataset

    data = Dataset.from_list(read_rows(folder))
    if workload.kind not in ("dpo", "reward"):
        return data
    answers = workload.answers()
    return data.add_column(LENGTH, [workload.prompt + max(pair) for pair in zip(*[iter(answers)] * 2, strict=True)])


def _sft(workload: Workload, folder: Path, setting: Mapping[str, Any], given: Any, common: Any) -> Any:
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    packing = setting.get("packing")
    if packing:
        wide = packing * workload.cap
        rows = packed_rows(workload.lengths(workload.rows), wide)
        common |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": rows, "packing": True}
    config = SFTConfig(max_length=packing * workload.cap if packing else None, **common)
    return SFTTrainer(model=_model(folder), args=config, **given)


def packed_rows(lengths: list[int], size: int) -> int:
    """Rows that TRL packs texts of these lengths into: all of them are to be one step."""
    from datasets import Dataset
    from trl.data_utils import pack_dataset

    texts = Dataset.from_list([{"input_ids": [0] * length} for length in lengths])
    return len(pack_dataset(texts, size, "bfd"))


def _grpo(
    workload: Workload, folder: Path, setting: Mapping[str, Any], given: Any, common: Any, drawn: list[int]
) -> Any:
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    def reward(completions: list[str], completion_ids: list[list[int]], **columns: Any) -> list[float | None]:
        drawn.extend(map(len, completion_ids))
        return variety(completions, **columns)

    more: dict[str, Any] = {}
    if setting.get("continuous"):
        blocks = pages(workload, PAGE)
        batching = {"num_blocks": blocks, "page_size": PAGE}
        more = {
            "use_transformers_continuous_batching": True,
            "transformers_continuous_batching_config": batching,
        }
    arguments = GRPOConfig(
        num_generations=workload.group,
        max_completion_length=workload.most,
        loss_type="grpo",
        beta=workload.kl,
        temperature=1.0,
        model_init_kwargs={"dtype": "float32"} if workload.kl else None,
        **more,
        **common,
    )
    return GRPOTrainer(model=_model(folder), args=arguments, reward_funcs=reward, **given)


def _classifier(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(str(folder / "model"), dtype=torch.float32, num_labels=1)


def _arguments(workload: Workload, folder: Path, setting: Mapping[str, Any]) -> dict[str, Any]:
    parts = setting.get("parts", 1)
    micro = (workload.micro if parts > 1 else None) or workload.sequences // parts
    assert workload.sequences % micro == 0, "TRL's micro-batches are equal"
    grouped: dict[str, Any] = {"train_sampling_strategy": "group_by_length", "length_column_name": LENGTH}
    if workload.kind in ("dpo", "reward"):
        grouped["remove_unused_columns"] = False  # the sampler reads the length, the collators leave it alone
    return {
        "output_dir": str(folder / f"trl-{os.getpid()}"),
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": workload.sequences // micro,
        "max_steps": ENDLESS,
        "learning_rate": RATE,
        "seed": 0,
        **PLAIN,
        **(grouped if setting.get("grouped") else {}),
    }
