"""W-MATH: arithmetic with small whole numbers, answered directly or with a scratchpad in think and answer tags."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from random import Random

from whet.lab.text import pieces
from whet.lab.world import Draft, Gold, World
from whet.types import Task

ASK = ("What is", "Compute")
THINK = "Think first."
_TAGGED = re.compile(r"\s*<think>[^<>]+</think>\s*<answer>\s*(\d(?:\s*\d)*)\s*</answer>\s*")
_DIRECT = re.compile(r"\s*(\d(?:\s*\d)*)\s*")


def _sum(low: int, high: int, second: int) -> Callable[[Random], tuple[int, str, int]]:
    return lambda rng: (rng.randint(low, high), "+", rng.randint(second // 10 + 1, second))


def _difference(high: int, second: int) -> Callable[[Random], tuple[int, str, int]]:
    def pick(rng: Random) -> tuple[int, str, int]:
        b = rng.randint(1, second)
        return rng.randint(b, high), "-", b

    return pick


def _product(high: int) -> Callable[[Random], tuple[int, str, int]]:
    return lambda rng: (rng.randint(2, high), "*", rng.randint(2, 9))


LEVELS: tuple[tuple[str, float, Callable[[Random], tuple[int, str, int]]], ...] = (
    ("add_2_1", 2.0, _sum(10, 99, 9)),
    ("add_2_2", 4.0, _sum(10, 99, 99)),
    ("sub_2_1", 1.0, _difference(99, 9)),
    ("sub_2_2", 2.0, _difference(99, 99)),
    ("mul_2_1", 1.0, _product(30)),
)
"""Name, share and generator of each difficulty; the mix keeps pass@1 away from 0 and 1."""


def value_of(a: int, sign: str, b: int) -> int:
    """a sign b for + - *.

    >>> value_of(7, "-", 3)
    4
    """
    return {"+": a + b, "-": a - b, "*": a * b}[sign]


def _draw(rng: Random, *, think: bool) -> Draft:
    name, _, pick = rng.choices(LEVELS, weights=[share for _, share, _ in LEVELS])[0]
    a, sign, b = pick(rng)
    ask = rng.choice(ASK)
    prompt = f"{ask} {a} {sign} {b}{'?' if ask == ASK[0] else '.'}" + (f" {THINK}" if think else "")
    first, second = (min(a, b), max(a, b)) if sign in "+*" else (a, b)
    meta = {"level": name, "a": a, "sign": sign, "b": b, "think": think}
    return Draft(key=f"{first}{sign}{second}", prompt=prompt, answer=str(value_of(a, sign, b)), meta=meta)


def draw(rng: Random) -> Draft:
    """'What is 37 + 48?', answered by the number alone."""
    return _draw(rng, think=False)


def draw_think(rng: Random) -> Draft:
    """'What is 37 + 48? Think first.', answered with tags."""
    return _draw(rng, think=True)


def answer_in(text: str, *, think: bool) -> str | None:
    """The number the text gives in the asked form, or None when it does not keep to the form.

    >>> answer_in("85", think=False), answer_in("<think> 8 </think> <answer> 85 </answer>", think=True)
    ('85', '85')
    >>> answer_in("It is 85.", think=False) is None
    True
    """
    match = (_TAGGED if think else _DIRECT).fullmatch(text)
    return "".join(match.group(1).split()) if match else None


def gold(task: Task, text: str) -> Gold:
    """1 when the text is the right number in the asked form, else 0; parts: correct, and format (not summed)."""
    given = answer_in(text, think=task.meta["think"])
    correct = float(given is not None and given == task.answer)
    return correct, {"correct": correct, "format": float(given is not None)}


def slip_of(answer: int, rng: Random) -> int:
    """A near miss: a unit or a ten off, two digits swapped, a digit changed; never the answer, never negative."""
    digits = str(answer)
    near = [answer + step for step in (-10, -2, -1, 1, 2, 10)]
    near.append(int(digits[::-1]))
    place = rng.randrange(len(digits))
    near.append(int(digits[:place] + rng.choice("0123456789") + digits[place + 1 :]))
    return rng.choice([wrong for wrong in near if wrong >= 0 and wrong != answer])


def steps_of(a: int, sign: str, b: int) -> str:
    """The scratchpad: the larger number cut into tens and ones.

    >>> steps_of(37, "+", 48)
    '37 + 40 = 77, 77 + 8 = 85'
    >>> steps_of(12, "*", 3)
    '10 * 3 = 30, 2 * 3 = 6, 30 + 6 = 36'
    """
    if sign == "*":
        tens, ones = a // 10 * 10, a % 10
        return f"{tens} * {b} = {tens * b}, {ones} * {b} = {ones * b}, {tens * b} + {ones * b} = {a * b}"
    tens, ones = b // 10 * 10, b % 10
    middle = value_of(a, sign, tens)
    return f"{a} {sign} {tens} = {middle}, {middle} {sign} {ones} = {value_of(middle, sign, ones)}"


def write(task: Task, rng: Random, skill: float) -> str:
    """The right number with probability 0.3 + 0.7 × skill, otherwise a near miss; tags when asked for."""
    a, sign, b = task.meta["a"], task.meta["sign"], task.meta["b"]
    right = value_of(a, sign, b)
    said = right if rng.random() < 0.3 + 0.7 * skill else slip_of(right, rng)
    if not task.meta["think"]:
        return str(said)
    if rng.random() < 0.2 * (1.0 - skill):
        return f"<answer> {said} </answer>"
    return f"<think> {steps_of(a, sign, b)} </think> <answer> {said} </answer>"


def repairs(task: Task, text: str) -> list[str]:
    """The right answer in the asked form."""
    return [write(task, Random(f"{task.id}/repair"), 1.0)]


def aspects(task: Task, text: str) -> dict[str, float]:
    """Five judgements in [0, 1]: right, near, form, work shown, length."""
    value, parts = gold(task, text)
    given, right = answer_in(text, think=task.meta["think"]), str(task.answer)
    near = sum(x == y for x, y in zip(given or "", right, strict=False)) / len(right)
    length = len(pieces(text))
    return {
        "helpfulness": value,
        "correctness": near,
        "coherence": parts["format"],
        "complexity": float("<think>" in text),
        "verbosity": min(1.0, length / 32),
    }


def vocabulary() -> tuple[str, ...]:
    """Every word this world's prompts and answers can hold (the tags are reserved tokens, not words)."""
    return tuple(dict.fromkeys((*pieces(" ".join((*ASK, THINK))), *"0123456789", "+", "-", "*", "=", "?", ".", ",")))


WORLD = World(
    name="math",
    sentence="sums, differences and products of small whole numbers, answered by the number alone",
    words=vocabulary(),
    best=1.0,
    worst=0.0,
    demonstration_skill=0.6,
    draw=draw,
    gold=gold,
    write=write,
    repairs=repairs,
    aspects=aspects,
)
THINKING = replace(
    WORLD, name="think", draw=draw_think, sentence="the same sums, worked out between think tags, then answered in tags"
)
