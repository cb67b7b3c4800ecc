"""TRL's side of the quality row: its GRPO trainer, a step's answers generated at once, nothing logged or saved."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.quality_job import REWARDS, Job, Stopwatch, train_rows
from benchmarks.trl_side import PLAIN


def arguments_of(job: Job, folder: Path) -> dict[str, Any]:
    """What its configuration is given: the same work as Whet's, and what its documentation advises on a CPU."""
    whole = job.prompts * job.group
    micro = min(job.micro, whole)
    assert whole % micro == 0, "TRL's micro-batches are equal"
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": whole // micro,
        "num_generations": job.group,
        "max_completion_length": job.limit,
        "temperature": 1.0,
        "loss_type": "grpo",
        "beta": 0.0,
        "max_steps": job.most,
        "learning_rate": job.rate,
        "max_grad_norm": job.clip,
        "seed": job.seed,
        **PLAIN,
    }


def trainer_of(job: Job, start: Path, folder: Path, rows: list[dict[str, Any]]) -> Any:
    """The trainer on the start's weights in float32."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    return GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(str(start), dtype=torch.float32),
        args=GRPOConfig(**arguments_of(job, folder)),
        reward_funcs=REWARDS[job.reward],
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(str(start)),
    )


def learn(job: Job, start: Path, watch: Stopwatch) -> dict[str, Any]:
    """Train until the stopwatch has seen enough; the weights as they are then."""
    from transformers import TrainerCallback

    class Timed(TrainerCallback):
        """Tells the stopwatch of each step."""

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            watch.begin()

        def on_step_end(self, args: Any, state: Any, control: Any, **__: Any) -> Any:
            control.should_training_stop = watch.step(trainer.model.state_dict)
            return control

    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(job, start, Path(folder), train_rows())
        trainer.add_callback(Timed())
        trainer.train()
    return trainer.model.state_dict()
