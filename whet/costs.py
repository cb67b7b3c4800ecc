"""What a loss over a dataset costs beside the policy's forward and backward: read off its declarations, never typed."""

from __future__ import annotations

from whet.losses import offline_loss, statistic
from whet.members import Entry

FREE = "nothing"


def is_priced(kind: str) -> bool:
    """Whether the members of a shelf have a price: the losses that a policy learns from a dataset with."""
    return kind in [shelf.kind for shelf in offline_loss.shelves]


def cost(entry: Entry) -> str:
    """What a step needs beyond the policy's own forward and backward.

    >>> from whet.losses import preference_loss
    >>> cost(preference_loss.entry("orpo")), cost(preference_loss.entry("dpo"))
    ('nothing', "the reference's forward, once if cached")
    >>> cost(preference_loss.entry("tdpo1"))
    "the reference's forward in every step, statistics over both vocabularies"
    """
    declared = entry.declarations
    needs = frozenset(declared.get("needs", ()))
    looked = [name for name in needs if name in statistic.names()]
    both = any("reference" in statistic.entry(name).declarations.get("needs", ()) for name in looked)
    parts = {
        "the reference's forward in every step": both,
        "the reference's forward, once if cached": "reference" in needs and not both,
        "statistics over both vocabularies": both,
        "statistics over the policy's vocabulary": bool(looked) and not both,
        "one more forward where a step is cut into pieces": declared.get("couples") == "step",
        "every answer also behind another prompt": bool(declared.get("mismatched")),
        "a value head": "value" in needs,
    }
    return ", ".join(words for words, there in parts.items() if there) or FREE
