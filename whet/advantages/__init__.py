"""The shelf of advantages: `advantage(returns, *, …) → [N]`, one file a method. Importing this imports no torch."""

from __future__ import annotations

from whet.registry import Shelf

advantage = Shelf("advantage", "whet.advantages")
