"""W-CHAT: say something about a topic, in a given manner, mentioning given words in order and briefly."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from whet.lab.text import listing, only_words, pieces
from whet.lab.world import Draft, Gold, World
from whet.types import Task

TOPICS = (
    "cats", "dogs", "birds", "horses", "farms", "gardens", "forests", "rivers", "beaches", "mountains", "cities",
    "schools", "trains", "boats", "books", "songs", "games", "movies", "parties", "kitchens", "markets", "castles",
    "islands", "teachers",
)  # fmt: skip
DETAILS = (
    "milk", "sleep", "food", "water", "music", "friends", "sun", "rain", "snow", "wind", "light", "color", "stories",
    "fun", "peace", "noise", "space", "time", "care", "work", "rest", "toys", "trees", "flowers", "grass", "fish",
    "fruit", "cake", "tea", "sugar", "honey", "rice", "soup", "gold", "stone", "paper", "paint", "glass", "ice",
    "sand", "stars", "clouds", "history", "art", "science", "speed", "luck", "hope", "joy", "magic", "secrets",
    "dreams", "jokes", "maps", "hats", "bells",
)  # fmt: skip
VERBS = ("love", "need", "like", "have", "want", "bring", "share", "keep")
STYLES = {
    "friendly": ("Hi friend!", "See you soon!"),
    "formal": ("Dear reader,", "With kind regards."),
    "cheerful": ("Oh wow!", "How great is that!"),
    "plain": ("", ""),
}
ASK = ("Tell me about", "Write about", "Talk about")
MENTION = ("Mention", "Include")
PARTS = {"coverage": 1.5, "order": 0.5, "topic": 0.5, "opener": 1.0, "closer": 1.0, "format": 0.5}
COST_PER_EXTRA_WORD = 0.1
COST_PER_REPEAT = 0.25
NOT_A_REPEAT = frozenset({"and", "they"})


def draw(rng: Random) -> Draft:
    """A topic, a manner and one to three words to mention."""
    topic, style = rng.choice(TOPICS), rng.choice(tuple(STYLES))
    mention = rng.sample(DETAILS, rng.choices((1, 2, 3), weights=(1, 3, 4))[0])
    prompt = f"{rng.choice(ASK)} {topic} in a {style} way. {rng.choice(MENTION)} {listing(mention)}."
    key = f"{topic}/{style}/{','.join(sorted(mention))}"
    return Draft(key=key, prompt=prompt, meta={"topic": topic, "style": style, "mention": tuple(mention)})


def clause_words(text: str) -> list[str]:
    """The details the text mentions, in order: words that follow one of the verbs directly.

    >>> clause_words("Cats love milk, sleep and need joy.")
    ['milk', 'joy']
    """
    found = pieces(text)
    return [word for verb, word in pairwise(found) if verb in VERBS and word in DETAILS]


def style_of(text: str, *, closing: bool) -> str:
    """The manner whose opening (or closing) words the text uses; "plain" when it uses none."""
    found = pieces(text)
    for style, words in STYLES.items():
        edge = pieces(words[closing])
        if edge and (found[-len(edge) :] if closing else found[: len(edge)]) == edge:
            return style
    return "plain"


def free_words(count: int) -> int:
    """How many words an answer that mentions `count` things may have before each further one costs."""
    return 8 + 2 * count


def gold(task: Task, text: str) -> Gold:
    """1.5 × share of asked words said in a clause, 1 each for opener, closer, 0.5 for order, topic, format − costs.

    A word counts when it follows a verb ("love milk"). Order: all are said, in the asked order. Format: begins with a
    capital, ends with "." or "!". 0.1 for every word beyond 8 + 2 per asked word, 0.25 for every word said again.
    A text without words is worth 0.
    """
    parts = dict.fromkeys((*PARTS, "length", "repeats"), 0.0)
    words = only_words(text)
    if words:
        mention, said, found = tuple(task.meta["mention"]), clause_words(text), pieces(text)
        wanted = [word for word in dict.fromkeys(said) if word in mention]
        parts["coverage"] = PARTS["coverage"] * len(wanted) / len(mention)
        parts["order"] = PARTS["order"] * (tuple(wanted) == mention)
        parts["topic"] = PARTS["topic"] * (task.meta["topic"] in words)
        parts["opener"] = PARTS["opener"] * (style_of(text, closing=False) == task.meta["style"])
        parts["closer"] = PARTS["closer"] * (style_of(text, closing=True) == task.meta["style"])
        parts["format"] = PARTS["format"] * (found[0][0].isupper() and found[-1] in ".!")
        again = [word for word in words if word not in NOT_A_REPEAT]
        parts["length"] = 0.0 - COST_PER_EXTRA_WORD * max(0, len(words) - free_words(len(mention)))
        parts["repeats"] = 0.0 - COST_PER_REPEAT * (len(again) - len(set(again)))
    return sum(parts.values()), parts


def sentence(subject: str, details: list[str], rng: Random) -> str:
    """'Cats love milk, need sleep and bring joy.': one clause per detail, verbs without repeats."""
    verbs = rng.sample(VERBS, min(len(details), len(VERBS)))
    return f"{subject.capitalize()} {listing([f'{v} {d}' for v, d in zip(verbs, details, strict=True)])}."


def write(task: Task, rng: Random, skill: float) -> str:
    """An answer in which each possible defect appears with a probability that falls linearly with skill."""

    def slip(rate: float) -> bool:
        return rng.random() < rate * (1.0 - skill)

    details = [rng.choice(DETAILS) if slip(0.3) else word for word in task.meta["mention"]]
    details = [word for word in details if not slip(0.25)] or [rng.choice(DETAILS)]
    if slip(0.5):
        rng.shuffle(details)
    while slip(0.6) and len(details) < 6:
        details.insert(rng.randrange(len(details) + 1), rng.choice((*details, rng.choice(DETAILS))))
    opener = rng.choice(tuple(STYLES)) if slip(0.9) else task.meta["style"]
    closer = rng.choice(tuple(STYLES)) if slip(0.9) else task.meta["style"]
    subject = rng.choice(("they", rng.choice(TOPICS))) if slip(0.35) else task.meta["topic"]
    said = " ".join(filter(None, (STYLES[opener][0], sentence(subject, details, rng), STYLES[closer][1])))
    return said[:-1] if slip(0.2) else said


def repairs(task: Task, text: str) -> list[str]:
    """The text with a missing word added, the opener or closer mended, or a surplus clause taken out."""
    opener, closer = STYLES[task.meta["style"]]
    old_open, old_close = STYLES[style_of(text, closing=False)][0], STYLES[style_of(text, closing=True)][1]
    body = text.removeprefix(old_open).strip()
    rest = text.removesuffix(old_close).strip() if old_close else text.strip()
    mended = [f"{opener} {body}".strip(), f"{rest} {closer}".strip()]
    missing = [word for word in task.meta["mention"] if word not in clause_words(text)]
    verb = next((verb for verb in VERBS if verb not in only_words(text)), VERBS[0])
    for word in missing:
        inside = text.replace(". ", f" and {verb} {word}. ", 1)
        mended.append(inside if ". " in text else f"{text.rstrip('.')} and {verb} {word}.")
    for said in clause_words(text):
        if said not in task.meta["mention"]:
            mended.extend(text.replace(f"{joint}{v} {said}", "", 1) for joint in (", ", " and ") for v in VERBS)
    return mended


def aspects(task: Task, text: str) -> dict[str, float]:
    """Five judgements in [0, 1]: the whole, what was asked, form, variety of words, length."""
    value, parts = gold(task, text)
    words = only_words(text)
    form = parts["opener"] + parts["closer"] + parts["format"]
    return {
        "helpfulness": min(1.0, max(0.0, value / sum(PARTS.values()))),
        "correctness": (parts["coverage"] + parts["order"]) / (PARTS["coverage"] + PARTS["order"]),
        "coherence": form / (PARTS["opener"] + PARTS["closer"] + PARTS["format"]),
        "complexity": len(set(words)) / 24 if len(set(words)) < 24 else 1.0,
        "verbosity": min(1.0, len(words) / 24),
    }


def vocabulary() -> tuple[str, ...]:
    """Every word this world's prompts and answers can hold."""
    frames = " ".join((*ASK, *MENTION, *(edge for pair in STYLES.values() for edge in pair)))
    told = f"{frames} in a way and they They {' '.join(STYLES)} . , !"
    return tuple(dict.fromkeys((*TOPICS, *(t.capitalize() for t in TOPICS), *DETAILS, *VERBS, *pieces(told))))


WORLD = World(
    name="chat",
    sentence="say something about a topic in a given manner, mentioning given words in order, briefly",
    words=vocabulary(),
    best=sum(PARTS.values()),
    worst=-2.0,
    demonstration_skill=0.4,
    draw=draw,
    gold=gold,
    write=write,
    repairs=repairs,
    aspects=aspects,
)
