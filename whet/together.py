"""Which rows stay together: those of one key, of linked keys, of linked rows. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def by_key(rows: Sequence[int], key: Sequence[int]) -> list[list[int]]:
    """Rows with equal keys together, in order of first appearance."""
    out: dict[int, list[int]] = {}
    for row in rows:
        out.setdefault(key[row], []).append(row)
    return list(out.values())


def joined(group: Sequence[int], unit: Sequence[int]) -> list[list[int]]:
    """Rows of each group, groups joined where a unit spans two of them (KTO's mismatched pairs)."""
    links = [(("group", g), ("unit", u)) for g, u in zip(group, unit, strict=True)]
    names = {node: i for i, node in enumerate(dict.fromkeys(node for link in links for node in link))}
    block = components(len(names), [(names[a], names[b]) for a, b in links])
    return by_key(range(len(group)), [block[names[a]] for a, _ in links])


def components(count: int, links: Iterable[tuple[int, int]]) -> list[int]:
    """The component of each of `count` nodes; numbered from 0 in order of first appearance.

    >>> components(4, [(0, 2)])
    [0, 1, 0, 2]
    """
    parent = list(range(count))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in links:
        parent[max(find(a), find(b))] = min(find(a), find(b))
    names = {root: n for n, root in enumerate(dict.fromkeys(find(i) for i in range(count)))}
    return [names[find(i)] for i in range(count)]
