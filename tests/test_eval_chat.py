from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import pytest
from rich.console import Console

from whet.errors import ConfigError, DataError
from whet.eval.chat import Side, Turn, chat, prompt_for, read_line
from whet.types import Completion, Request, Task


class Parrot:
    """Answers with its name and what it was asked; remembers its requests."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.requests: list[Request] = []

    def sample(self, requests: Sequence[Request]) -> list[list[Completion]]:
        self.requests += requests
        text = f"{self.name} hears {bytes(requests[0].prompt).decode().rsplit('|', 1)[-1]}"
        return [[Completion(tokens=(1,), logprobs=(0.0,), log_mass=(0.0,), text=text, stopped="stop")]]


def render(task: Task) -> tuple[int, ...]:
    return tuple("|".join(m.get("content", "") for m in task.messages).encode())


def side(name: str, *, context: int = 200) -> Side:
    return Side(name=name, engine=Parrot(name), render=render, context=context)


def talk(sides: Sequence[Side], lines: Sequence[str]) -> tuple[tuple[Turn, ...], str]:
    waiting: Iterator[str] = iter(lines)

    def ask() -> str:
        try:
            return next(waiting)
        except StopIteration:
            raise EOFError from None

    screen = Console(file=io.StringIO(), width=80)
    turns = chat(sides, console=screen, ask=ask)
    assert isinstance(screen.file, io.StringIO)
    return turns, screen.file.getvalue()


def test_each_side_sees_its_own_answers() -> None:
    sides = [side("before"), side("after")]
    turns, shown = talk(sides, ["hi", "why", "/quit", "never"])
    assert [turn.question for turn in turns] == ["hi", "why"]
    assert turns[0].answers == ("before hears hi", "after hears hi")
    asked = sides[1].engine
    assert isinstance(asked, Parrot)
    assert bytes(asked.requests[1].prompt).decode() == "hi|after hears hi|why"
    line = next(line for line in shown.splitlines() if "before hears hi" in line)
    assert "after hears hi" in line, "the answers stand side by side"


def test_undo_new_and_again() -> None:
    one = side("m")
    turns, _ = talk([one], ["a", "b", "/undo", "c", "/again"])
    assert [turn.question for turn in turns] == ["a", "c"]
    engine = one.engine
    assert isinstance(engine, Parrot)
    last, again = engine.requests[-2:]
    assert last.prompt == again.prompt, "asked again without its first answer"
    assert last.key != again.key, "with fresh noise"
    assert talk([one], ["a", "/new"])[0] == ()


def test_markup_in_an_answer_is_text() -> None:
    _, shown = talk([side("[red]m")], ["[bold]x[/nothing]"])
    assert "[bold]x[/nothing]" in shown
    assert "[red]m" in shown


def test_old_turns_are_left_out_and_it_is_said() -> None:
    turns = [Turn(question="q" * 30, answers=("a" * 30,)), Turn(question="now")]
    assert prompt_for(side("m", context=40), turns, index=0) == (tuple(b"now"), 1)
    _, shown = talk([side("m", context=40)], ["q" * 30, "now"])
    assert "1 older turns left out" in shown


def test_a_question_too_long_is_refused_and_forgotten() -> None:
    turns, shown = talk([side("m", context=5)], ["much too long", "ok"])
    assert "takes 13 tokens and m reads at most 5" in shown
    assert [turn.question for turn in turns] == ["ok"]
    with pytest.raises(DataError):
        prompt_for(side("m", context=5), [Turn(question="much too long")], index=0)


def test_a_misspelt_command_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"/qit.*quit"):
        read_line("/qit")
    assert "/qit" in talk([side("m")], ["/qit"])[1]


def test_a_plain_model_continues_the_last_text_alone() -> None:
    one = Side(name="m", engine=Parrot("m"), render=render, context=99, plain=True, system="be kind")
    talk([one], ["once upon", "a time"])
    assert isinstance(one.engine, Parrot)
    assert bytes(one.engine.requests[1].prompt) == b"a time"
