"""Talk to one or two models in the console, side by side: what the policy said before and says after.

Each side keeps a conversation of its own, made of the same questions and its own answers. The noise of an answer is
keyed by the seed and the question's number, so the same chat gives the same answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from whet.errors import ConfigError, DataError
from whet.types import CUT_SHORT, Completion, Engine, Message, NoiseKey, Request, Task
from whet.words import nearest

Command = Literal["say", "quit", "new", "undo", "again", "help"]
COMMANDS: dict[Command, str] = {
    "quit": "leave (Ctrl-D does too)",
    "new": "forget the conversation and start again",
    "undo": "take the last question and its answers back",
    "again": "answer the last question once more, with fresh noise",
    "help": "show these commands",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One model in the chat: its name, its engine, and how it renders a conversation to a prompt.

    `context` is the longest prompt in tokens it can be given with room to answer; older turns are left out beyond it.
    """

    name: str
    engine: Engine
    render: Callable[[Task], tuple[int, ...]]
    context: int
    system: str | None = None
    plain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One question with each side's answer, and how often it was asked again."""

    question: str
    answers: tuple[str, ...] = ()
    draw: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer, and how many of the conversation's older turns did not fit."""

    completion: Completion
    left_out: int


def read_line(line: str) -> tuple[Command, str]:
    """What a typed line asks for; a line that begins with // says something that begins with /.

    >>> read_line("hello"), read_line("/quit"), read_line("//bin/sh")
    (('say', 'hello'), ('quit', ''), ('say', '/bin/sh'))
    """
    text = line.strip()
    if text.startswith("//"):
        return "say", text[1:]
    if not text.startswith("/"):
        return "say", text
    word = text[1:].lower()
    if word not in COMMANDS:
        allowed = ", ".join(f"/{name}" for name in COMMANDS)
        raise ConfigError(f"there is no command /{word}{nearest(word, COMMANDS)}; there are {allowed}")
    return cast(Command, word), ""


def messages_of(turns: Sequence[Turn], side: int, *, system: str | None = None) -> tuple[Message, ...]:
    """The conversation as one side saw it, its last question still open.

    >>> turns = [Turn(question="hi", answers=("yo", "hello")), Turn(question="why?")]
    >>> [m["content"] for m in messages_of(turns, 1)]
    ['hi', 'hello', 'why?']
    """
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    for turn in turns:
        messages.append({"role": "user", "content": turn.question})
        if turn.answers:
            messages.append({"role": "assistant", "content": turn.answers[side]})
    return tuple(messages)


def prompt_for(side: Side, turns: Sequence[Turn], *, index: int) -> tuple[tuple[int, ...], int]:
    """The rendered prompt of the longest recent history that fits, and how many older turns it leaves out.

    A plain model (no chat template) continues the last question alone.
    """
    open_turn = replace(turns[-1], answers=())
    first = len(turns) - 1 if side.plain else 0
    length = 0
    for start in range(first, len(turns)):
        kept = [*turns[start:-1], open_turn]
        task = Task(
            id=f"chat/{len(turns)}",
            messages=messages_of(kept, index, system=None if side.plain else side.system),
            meta={"plain": True} if side.plain else {},
        )
        prompt = side.render(task)
        length = len(prompt)
        if length <= side.context:
            return prompt, start
    raise DataError(
        f"this question takes {length} tokens and {side.name} reads at most {side.context}; ask a shorter one"
    )


def answer(side: Side, turns: Sequence[Turn], *, index: int, seed: int) -> Reply:
    """One side's answer to the last question."""
    prompt, left_out = prompt_for(side, turns, index=index)
    turn = turns[-1]
    key = NoiseKey(seed=seed, stream="chat", step=len(turns), task=turn.question, occurrence=turn.draw)
    return Reply(completion=side.engine.sample([Request(prompt=prompt, key=key)])[0][0], left_out=left_out)


def side_by_side(names: Sequence[str], replies: Sequence[Reply], *, width: int) -> Table:
    """The answers in equal columns, each under its model's name, with its `note`."""
    grid = Table.grid(expand=True, padding=(0, 1))
    for _ in names:
        grid.add_column(ratio=1)
    grid.add_row(
        *(
            Panel(
                Text(reply.completion.text or "(nothing)"), title=escape(name), subtitle=note(reply), title_align="left"
            )
            for name, reply in zip(names, replies, strict=True)
        )
    )
    grid.width = width
    return grid


def note(reply: Reply) -> str | None:
    """What a reader must know of an answer.

    >>> done = Completion(tokens=(1,), logprobs=(0.0,), log_mass=(0.0,), text="x", stopped="length")
    >>> note(Reply(completion=done, left_out=2))
    'cut at 1 tokens · 2 older turns left out'
    """
    notes = []
    if reply.completion.stopped in CUT_SHORT:
        notes.append(f"cut at {len(reply.completion.tokens)} tokens")
    if reply.left_out:
        notes.append(f"{reply.left_out} older turns left out")
    return " · ".join(notes) or None


def step(turns: tuple[Turn, ...], command: Command, text: str) -> tuple[tuple[Turn, ...], bool]:
    """The conversation after a command, and whether its last question now waits for answers.

    >>> turns, waits = step((), "say", "hi")
    >>> waits, step(turns, "undo", "")
    (True, ((), False))
    """
    if command == "say" and text:
        return (*turns, Turn(question=text)), True
    if command == "new":
        return (), False
    if command == "undo":
        return turns[:-1], False
    if command == "again" and turns:
        return (*turns[:-1], Turn(question=turns[-1].question, draw=turns[-1].draw + 1)), True
    return turns, False


def chat(
    sides: Sequence[Side],
    *,
    seed: int = 0,
    console: Console | None = None,
    ask: Callable[[], str] | None = None,
) -> tuple[Turn, ...]:
    """Read questions and show each side's answer until /quit, Ctrl-D or Ctrl-C; returns the conversation.

    `ask` gives the next line (the keyboard unless given) and raises EOFError at the end.
    """
    screen = console or Console()
    read = ask or (lambda: screen.input("[bold]you[/] › "))
    screen.print(f"[dim]talking to {escape(' and '.join(side.name for side in sides))} · /help lists the commands[/]")
    turns: tuple[Turn, ...] = ()
    while True:
        try:
            command, text = read_line(read())
        except (EOFError, KeyboardInterrupt):
            screen.print()
            return turns
        except ConfigError as error:
            screen.print(Text(str(error), style="red"))
            continue
        if command == "quit":
            return turns
        if command == "help":
            screen.print("\n".join(f"[bold]/{name:<6}[/] {what}" for name, what in COMMANDS.items()))
        asked, waits = step(turns, command, text)
        turns = _answered(sides, asked, seed=seed, screen=screen) if waits else asked


def _answered(sides: Sequence[Side], turns: tuple[Turn, ...], *, seed: int, screen: Console) -> tuple[Turn, ...]:
    """The conversation with its last question answered by every side; without it where a side could not read it."""
    try:
        replies = [answer(side, turns, index=index, seed=seed) for index, side in enumerate(sides)]
    except DataError as error:
        screen.print(Text(str(error), style="red"))
        return turns[:-1]
    screen.print(side_by_side([side.name for side in sides], replies, width=screen.width))
    return (*turns[:-1], replace(turns[-1], answers=tuple(reply.completion.text for reply in replies)))
