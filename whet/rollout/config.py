"""What a user may say about sampling; importing this imports no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from whet.config import Config


class SamplingConfig(Config):
    """How responses are drawn: temperature, then top-k, top-p and min-p, until a stop or `max_new_tokens`.

    >>> SamplingConfig(temperature=0.6, top_p=0.95).truncates
    True
    """

    max_new_tokens: int = Field(default=64, ge=1, description="most tokens of a response, its stop token included")
    temperature: float = Field(
        default=1.0, gt=0.0, allow_inf_nan=False, description="logits are divided by it, also in log-probabilities"
    )
    top_p: float = Field(
        default=1.0,
        gt=0.0,
        le=1.0,
        description="keep the likeliest tokens up to this probability, with the one that crosses it",
    )
    top_k: int = Field(default=0, ge=0, description="keep this many of the likeliest tokens, and ties; 0 keeps all")
    min_p: float = Field(
        default=0.0, ge=0.0, le=1.0, description="keep tokens with this share of the likeliest one's probability"
    )
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        description="strings that end a response; the token completing one is its last, and the text keeps it",
    )
    slots: int = Field(default=64, ge=1, description="responses drawn side by side; costs memory and changes no token")
    kv_mib: int | None = Field(
        default=None,
        ge=1,
        description="MiB for the keys and values of prompts and responses; as many slots as fit are used, at most "
        "`slots`; none sets no limit",
    )
    share_prompts: bool = Field(
        default=True,
        description="on a CPU, keep a prompt's keys and values once for all its responses, not once for each; less "
        "memory and time, the same tokens",
    )
    graphs: bool = Field(
        default=False,
        description="on a GPU, record decode steps as CUDA graphs and replay them; for models whose forward never "
        "waits for the GPU",
    )
    greedy: bool = Field(
        default=False, description="take the likeliest token, without noise; the smallest id among equals"
    )

    @property
    def truncates(self) -> bool:
        """True where some tokens are cut from the distribution before drawing."""
        return self.top_p < 1.0 or self.top_k > 0 or self.min_p > 0.0

    def refused(self, layout: str) -> str | None:
        """Why a model of this layout cannot be sampled so; None where it can."""
        if self.kv_mib is None or layout != "padded":
            return None
        return (
            f"sampling.kv_mib is {self.kv_mib}, but with layout=padded a sampler keeps no keys and values, only with "
            "layout=forest: leave sampling.kv_mib out, and lower sampling.slots where memory is short"
        )
