"""How many responses are drawn side by side, from a budget for keys and values; and who keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from whet.errors import ConfigError
from whet.models.attention import AttentionPath
from whet.rollout.cache import Cache
from whet.rollout.config import SamplingConfig
from whet.rollout.decode import Copies
from whet.rollout.draws import PREFILL_LEAST, Draw
from whet.rollout.own import rooms
from whet.rollout.shared import Shared

MIB = 1 << 20


def allot(
    draws: Sequence[Draw],
    *,
    sampling: SamplingConfig,
    token_bytes: int,
    shared: bool,
    attention: AttentionPath,
) -> tuple[Cache, int]:
    """Where keys and values of `token_bytes` a token will be, and the slots that `sampling.kv_mib` has room for.

    A response's last token is never fed, so it needs no room.
    """
    wanted = min(sampling.slots, len(draws))
    budget = None if sampling.kv_mib is None else sampling.kv_mib * MIB
    lengths = [len(next(group).prompt) for _, group in groupby(draws, key=lambda draw: draw.request)]
    longest = max(1, max(draw.most - 1 for draw in draws))
    if not shared:
        room = max(len(draw.prompt) + draw.most - 1 for draw in draws)
        slots = wanted if budget is None else _beside(lengths, room, wanted, budget // token_bytes)
        if not slots:
            raise _too_little(sampling.kv_mib, max(lengths), longest + 1, (max(lengths) + room) * token_bytes)
        return Copies(count=slots, room=room, budget=budget, attention=attention), slots
    if budget is None:
        return Shared(count=wanted, longest=longest, lengths=lengths, attention=attention), wanted
    for sizes, fewest in ((rooms(longest), wanted), ([longest], 1)):
        # with room in every block for all responses none can lack it; where that is too much, one block serves all
        for slots in range(wanted, fewest - 1, -1):
            own = slots * sum(sizes) * token_bytes
            if own + _prompts(slots, len(draws), len(lengths)) * max(lengths) * token_bytes <= budget:
                cache = Shared(
                    count=slots,
                    longest=longest,
                    lengths=lengths,
                    sizes=sizes,
                    budget=budget - own,
                    attention=attention,
                )
                return cache, slots
    raise _too_little(sampling.kv_mib, max(lengths), longest + 1, (max(lengths) + longest) * token_bytes)


def _beside(lengths: Sequence[int], room: int, wanted: int, tokens: int) -> int:
    """Slots of `room` that `tokens` have beside a prefill's prompts, which wait there until they are copied.

    What a prefill would like to have, or else the longest prompt alone.
    """
    for aside in (max(*lengths, min(PREFILL_LEAST, sum(lengths))), max(lengths)):
        if (slots := min(wanted, (tokens - aside) // room)) > 0:
            return slots
    return 0


def _prompts(slots: int, draws: int, prompts: int) -> int:
    """Prompts to keep at once: twice as many as the slots' responses have where they are of whole groups."""
    return min(prompts, slots, 2 * -(-slots * prompts // draws))


def _too_little(mib: int | None, prompt: int, response: int, need: int) -> ConfigError:
    return ConfigError(
        f"sampling.kv_mib is {mib}, too little for a single slot: a prompt of {prompt} tokens and a response of up to "
        f"{response} need {-(-need // MIB)} MiB of keys and values; raise it, or lower sampling.max_new_tokens"
    )
