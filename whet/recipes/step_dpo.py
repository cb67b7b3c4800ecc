"""Direct preference optimisation of single reasoning steps on your own pairs."""

from __future__ import annotations

from whet.data.config import DataConfig
from whet.recipes import recipe
from whet.recipes.params import OwnPass
from whet.recipes.stage import Stage, Stages
from whet.registry import Choice
from whet.train.config import OfflineConfig, OptimConfig


class StepParams(OwnPass):
    """… with the column of the correct steps so far."""

    prefix: str = "initial_reason_steps"
    """Column of the correct steps so far, behind which `chosen` and `rejected` are the next one; null is none."""

    def dataset(self, *, holdout: float = 0.05) -> DataConfig:
        """The data, its answers begun by that column."""
        return super().dataset(holdout=holdout).model_copy(update={"prefix": self.prefix})


@recipe
def step_dpo(params: StepParams) -> Stages:
    """DPO of a right next step against a wrong one, earlier steps being prompt (Lai et al., 2024, arXiv:2406.18629).

    whet run step_dpo model=Qwen/Qwen2.5-1.5B-Instruct data=steps.jsonl
    """
    config = OfflineConfig(
        **params.shared(),
        loss=Choice("dpo", {"beta": 0.5}),
        optim=OptimConfig(lr=1e-5 if params.lora else 5e-7, schedule="cosine", warmup=10),
    )
    yield Stage(name="step_dpo", config=config)
