"""The lab's worlds by name."""

from __future__ import annotations

import difflib
from types import MappingProxyType

from whet.errors import ConfigError
from whet.lab import world_chat, world_count, world_math, world_safe
from whet.lab.world import Gold, World
from whet.types import Task

WORLDS = MappingProxyType(
    {
        world.name: world
        for world in (world_chat.WORLD, world_safe.WORLD, world_math.WORLD, world_math.THINKING, world_count.WORLD)
    }
)


def world(name: str) -> World:
    """The world of this name; an unknown name is an error that lists the known ones.

    >>> world("chat").name
    'chat'
    """
    if name not in WORLDS:
        near = difflib.get_close_matches(name, WORLDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"there is no lab world {name!r}: choose one of {', '.join(WORLDS)}{hint}")
    return WORLDS[name]


def gold(task: Task, text: str) -> Gold:
    """The exact value and parts of an answer to any lab task; `task.meta["world"]` says which world judges."""
    return world(task.meta["world"]).gold(task, text)
