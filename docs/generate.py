"""Write docs/methods.md and docs/commands.md from the shelves and the command line: `python docs/generate.py`."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from whet.catalogue import explained, shelves, worlds
from whet.cli import app
from whet.costs import cost, is_priced

HERE = Path(__file__).parent
LEARNED = HERE / "learned.md"
"""What `whet run lab_preferences` printed, with what is to be said of it: the only part that is not made here."""
COMMANDS = (
    [],
    ["run"],
    ["quickstart"],
    ["list"],
    ["explain"],
    ["recipe", "show"],
    ["eval"],
    ["audit"],
    ["chat"],
    ["report"],
)


def methods() -> str:
    """A table a shelf, then each member's page: equation, source, options."""
    lines = [
        "# Methods",
        "",
        "Made from the shelves by `python docs/generate.py`; `whet explain NAME` prints the same. What the numbers of",
        "preference learning mean, how its methods fail, and where papers and public code disagree: "
        "[preferences.md](preferences.md).",
        "",
    ]
    for shelf in shelves():
        priced = is_priced(shelf.kind)
        more = (" beside the policy's forward and backward |", "---|") if priced else ("", "")
        lines += [f"## {shelf.kind}", "", f"| name | what it is | options |{more[0]}", f"|---|---|---|{more[1]}"]
        for entry in shelf.entries():
            options = ", ".join(
                f"`{o.name}` ({o.text}" + ("" if o.required else f", {o.default!r}") + ")" for o in entry.options
            )
            price = f" {cost(entry)} |" if priced else ""
            lines.append(f"| `{entry.name}` | {_cell(entry.summary)} | {_cell(options) or '–'} |{price}")
        lines.append("")
    lines += ["## lab world", "", "| name | task |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(sentence)} |" for name, sentence in worlds()]
    lines += ["", LEARNED.read_text().strip(), "", "# Pages", ""]
    for shelf in shelves()[1:]:
        for entry in shelf.entries():
            page = explained(shelf, entry, width=120).partition("\n\n")[2]
            lines += [f"## {entry.name} ({shelf.kind})", "", "```text", page, "```", ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def commands() -> str:
    """Every command's help page."""
    lines = ["# Commands", "", "Made from the command line by `python docs/generate.py`.", ""]
    for name in COMMANDS:
        shown = CliRunner().invoke(
            app, [*name, "--help"], env={"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}, prog_name="whet"
        )
        page = "\n".join(line.rstrip() for line in shown.output.strip("\n").splitlines())
        lines += [f"## whet {' '.join(name)}".rstrip(), "", "```text", page.strip("\n"), "```", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    (HERE / "methods.md").write_text(methods())
    (HERE / "commands.md").write_text(commands())
