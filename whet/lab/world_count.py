"""W-COUNT: reach a target with each given number used once (the countdown game)."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from whet.lab.text import listing, pieces
from whet.lab.world import Draft, Gold, World
from whet.types import Task

SIGNS = "+-*"
TARGETS = range(1, 100)
FORMAT_VALUE = 0.1
LONGEST = 64
"""Pieces of text that are read at all: no honest answer comes near it, and brackets cannot nest without end."""


def evaluate(text: str) -> tuple[Fraction, list[int]] | None:
    """Value and numbers of an expression with + - * / and round brackets; None where the text is not one.

    >>> evaluate("(3 + 5) * 7")
    (Fraction(56, 1), [3, 5, 7])
    >>> evaluate("3 +") is None, evaluate("3 / 0") is None
    (True, True)
    """
    found, used = _numbers(pieces(text)[:LONGEST]), []

    def atom() -> Fraction:
        token = found.pop(0)
        if token == "(":
            inside = chain("+-")
            if found.pop(0) != ")":
                raise ValueError
            return inside
        used.append(int(token))
        return Fraction(used[-1])

    def chain(signs: str) -> Fraction:
        below = atom if signs == "*/" else lambda: chain("*/")
        value = below()
        while found and found[0] in signs:
            sign, right = found.pop(0), below()
            value = {"+": value.__add__, "-": value.__sub__, "*": value.__mul__, "/": value.__truediv__}[sign](right)
        return value

    try:
        value = chain("+-")
    except (ValueError, IndexError, ZeroDivisionError):
        return None
    return None if found else (value, used)


def _numbers(found: list[str]) -> list[str]:
    joined: list[str] = []
    for piece in found:
        if piece.isdigit() and joined and joined[-1].isdigit():
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def expression(numbers: list[int], rng: Random) -> str:
    """A random expression that uses the numbers in a random order, now and then with brackets."""
    order = rng.sample(numbers, len(numbers))
    signs = rng.choices(SIGNS, weights=(3, 2, 2), k=len(order) - 1)
    if len(order) == 3 and rng.random() < 0.3:
        left, right = f"{order[0]} {signs[0]} {order[1]}", f"{signs[1]} {order[2]}"
        return f"({left}) {right}"
    return " ".join([str(order[0]), *(f"{sign} {n}" for sign, n in zip(signs, order[1:], strict=True))])


def draw(rng: Random) -> Draft:
    """Two to four numbers from 1 to 9 and a target that some expression of them reaches."""
    numbers = [rng.randint(1, 9) for _ in range(rng.choices((2, 3, 4), weights=(2, 6, 1))[0])]
    while True:
        solution = expression(numbers, rng)
        reached = evaluate(solution)
        assert reached is not None
        if reached[0] in TARGETS:
            break
        numbers = [rng.randint(1, 9) for _ in numbers]
    target = int(reached[0])
    meta = {"numbers": tuple(numbers), "target": target, "solution": solution}
    key = f"{','.join(map(str, sorted(numbers)))}>{target}"
    return Draft(key=key, prompt=f"Use {listing([str(n) for n in numbers])} to make {target}.", meta=meta)


def gold(task: Task, text: str) -> Gold:
    """1 when the expression uses each number once and makes the target, 0.1 when it only uses each number once, else 0.

    Parts, not summed: parses, uses_numbers, solved.
    """
    read = evaluate(text)
    parts = {"parses": float(read is not None), "uses_numbers": 0.0, "solved": 0.0}
    if read is not None and sorted(read[1]) == sorted(task.meta["numbers"]):
        parts["uses_numbers"] = 1.0
        parts["solved"] = float(read[0] == task.meta["target"])
    return max(parts["solved"], FORMAT_VALUE * parts["uses_numbers"]), parts


def write(task: Task, rng: Random, skill: float) -> str:
    """The stored solution with probability 0.2 + 0.8 × skill, else another expression, perhaps with a wrong number."""
    if rng.random() < 0.2 + 0.8 * skill:
        return task.meta["solution"]
    numbers = list(task.meta["numbers"])
    if rng.random() < 0.3 * (1.0 - skill):
        numbers[rng.randrange(len(numbers))] = rng.randint(1, 9)
    return expression(numbers, rng)


def repairs(task: Task, text: str) -> list[str]:
    """The stored solution."""
    return [task.meta["solution"]]


def aspects(task: Task, text: str) -> dict[str, float]:
    """Five judgements in [0, 1]: solved, numbers used, parses, operators, length."""
    value, parts = gold(task, text)
    found = pieces(text)
    return {
        "helpfulness": value,
        "correctness": parts["uses_numbers"],
        "coherence": parts["parses"],
        "complexity": min(1.0, len({piece for piece in found if piece in "+-*/("}) / 3),
        "verbosity": min(1.0, len(found) / 16),
    }


def vocabulary() -> tuple[str, ...]:
    """Every word this world's prompts and answers can hold."""
    return tuple(dict.fromkeys((*"0123456789", "+", "-", "*", "/", "(", ")", *pieces("Use and to make . ,"))))


WORLD = World(
    name="count",
    sentence="make a target from two to four numbers, each used once",
    words=vocabulary(),
    best=1.0,
    worst=0.0,
    demonstration_skill=0.5,
    draw=draw,
    gold=gold,
    write=write,
    repairs=repairs,
    aspects=aspects,
)
