"""Which pairs of a prompt's answers are learned from. Importing this imports no torch.

| shelf     | signature                                                  | gives                                  |
|-----------|------------------------------------------------------------|----------------------------------------|
| selection | (group: Group, random: Random, *, …) → list[tuple[int, int]] | (better, worse) places, in any number |

A group comes with its scores: rewards, or rates of wins with who was compared with whom (`Score.against`). A function
is pure: what it draws, it draws with `random.random()`, whose numbers follow from the run's seed, the step and the
task. No pair where nothing differs; the caller counts such groups. `whet.rollout.feedback` reads the scores.
"""

from __future__ import annotations

from whet.registry import Shelf

selection = Shelf("selection", "whet.rollout.selection", declares=())
