"""Reward names → one reward: functions, built-ins, reward models and lab worlds, weighted and added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from whet.rewards.config import RewardConfig
from whet.types import Reward


def build_rewards(configs: Sequence[RewardConfig], objects: Mapping[str, Any], *, seed: int, budget: int) -> Reward:
    """The weighted sum of all rewards."""
    raise NotImplementedError
