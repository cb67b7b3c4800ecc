"""How many responses are drawn side by side, from a budget for keys and values; and who keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from whet.errors import ConfigError
from whet.rollout.cache import Cache
from whet.rollout.config import SamplingConfig
from whet.rollout.decode import Copies
from whet.rollout.draws import Draw
from whet.rollout.own import rooms
from whet.rollout.shared import Shared

MIB = 1 << 20


def allot(draws: Sequence[Draw], *, sampling: SamplingConfig, token_bytes: int, shared: bool) -> tuple[Cache, int]:
    """Where keys and values of `token_bytes` a token will be, and the slots that `sampling.kv_mib` has room for.

    A response's last token is never fed, so it needs no room.
    """
    wanted = min(sampling.slots, len(draws))
    budget = None if sampling.kv_mib is None else sampling.kv_mib * MIB
    if not shared:
        return _copies(draws, wanted, sampling.kv_mib, token_bytes)
    lengths = [len(next(group).prompt) for _, group in groupby(draws, key=lambda draw: draw.request)]
    longest = max(1, max(draw.most - 1 for draw in draws))
    if budget is None:
        return Shared(count=wanted, longest=longest, lengths=lengths), wanted
    for sizes, fewest in ((rooms(longest), wanted), ([longest], 1)):
        # with room in every block for all responses none can lack it; where that is too much, one block serves all
        for slots in range(wanted, fewest - 1, -1):
            own = slots * sum(sizes) * token_bytes
            if own + _prompts(slots, len(draws), len(lengths)) * max(lengths) * token_bytes <= budget:
                return Shared(count=slots, longest=longest, lengths=lengths, sizes=sizes, budget=budget - own), slots
    raise _too_little(sampling.kv_mib, max(lengths), longest + 1, (max(lengths) + longest) * token_bytes)


def _copies(draws: Sequence[Draw], wanted: int, mib: int | None, token_bytes: int) -> tuple[Cache, int]:
    room = max(len(draw.prompt) + draw.most - 1 for draw in draws)
    fit = wanted if mib is None else mib * MIB // max(1, room * token_bytes)
    if not fit:
        prompt = max(len(draw.prompt) for draw in draws)
        raise _too_little(mib, prompt, room + 1 - prompt, room * token_bytes)
    slots = min(wanted, fit)
    return Copies(count=slots, room=room), slots


def _prompts(slots: int, draws: int, prompts: int) -> int:
    """Prompts to keep at once: twice as many as the slots' responses have where they are of whole groups."""
    return min(prompts, slots, 2 * -(-slots * prompts // draws))


def _too_little(mib: int | None, prompt: int, response: int, need: int) -> ConfigError:
    return ConfigError(
        f"sampling.kv_mib is {mib}, too little for a single slot: a prompt of {prompt} tokens and a response of up to "
        f"{response} need {-(-need // MIB)} MiB of keys and values; raise it, or lower sampling.max_new_tokens"
    )
