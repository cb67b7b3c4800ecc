"""Values that know where they came from: YAML text, `key.sub=value` overrides and Python values as trees of nodes.

YAML is read with the types of its version 1.2: `1e-5` is a number, `yes`, `1:30` and `2024-01-01` are text. A key given
twice, a tab, a second document or a tag of Python's is refused with its place. Problems are gathered in a list, so that
one run shows them all; only text that is no YAML at all ends the reading.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

import yaml

from whet.errors import ConfigError
from whet.words import shown

Key: TypeAlias = str | int
Keys: TypeAlias = tuple[Key, ...]

_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    "null": (re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    "int": (re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789")),
    "float": (
        re.compile(
            r"^[-+]?(?:(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))$|^\.(?:nan|NaN)$"
        ),
        list("-+.0123456789"),
    ),
}

_PLAIN_TEXT = re.compile(r"[A-Za-z0-9_/](?:[A-Za-z0-9_./+@-]|:(?=[A-Za-z0-9_/]))*")


class _Loader(yaml.SafeLoader):
    """PyYAML's reader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own name for the table


for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, _first)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A scalar, a mapping or a sequence with its origin, for the record, and its place, for an error.

    `raw` is a scalar as it was typed; `key_place` is where its key stands; `chosen` marks a mapping that names a member
    of a shelf: another name replaces it whole.
    """

    value: Any
    origin: str
    place: str
    raw: str = ""
    key_place: str = ""
    chosen: bool = False

    def children(self) -> list[tuple[Key, Node]]:
        """Keys or indices with their nodes; none for a scalar."""
        if isinstance(self.value, dict):
            return list(self.value.items())
        return list(enumerate(self.value)) if isinstance(self.value, list) else []

    def child(self, key: Key) -> Node | None:
        """The node under a key or an index, if there is one."""
        return next((node for name, node in self.children() if str(name) == str(key)), None)


def plain(node: Node) -> Any:
    """The Python value of a tree."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    return [plain(child) for child in node.value] if isinstance(node.value, list) else node.value


def tree_of(value: Any, *, origin: str, place: str = "") -> Node:
    """A Python value as a tree of one origin."""
    place = place or origin
    if isinstance(value, Mapping):
        children = {str(key): tree_of(child, origin=origin, place=place) for key, child in value.items()}
        return Node(value=children, origin=origin, place=place, key_place=place)
    if isinstance(value, list | tuple):
        items = [tree_of(child, origin=origin, place=place) for child in value]
        return Node(value=items, origin=origin, place=place, key_place=place)
    return Node(value=value, origin=origin, place=place, key_place=place, raw=str(value))


def leaves(node: Node, path: Keys = ()) -> Iterator[tuple[Keys, Node]]:
    """Every scalar and every empty mapping or sequence, with its path."""
    if not node.children():
        yield path, node
    for key, child in node.children():
        yield from leaves(child, (*path, key))


def dotted(path: Sequence[Key]) -> str:
    """A path as it is typed on the command line.

    >>> dotted(("rewards", 0, "weight"))
    'rewards.0.weight'
    """
    return ".".join(map(str, path))


def read_yaml(text: str, *, name: str, problems: list[str]) -> Node:
    """A YAML mapping as a tree; `name` stands before line and column in every place."""
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{name}:{line}: the character {chr(error.character)!a} is not allowed in YAML") from error
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_syntax(error, name)) from error
    except RecursionError as error:
        raise ConfigError(f"{name}: nested too deeply") from error
    if root is None:
        raise ConfigError(f"{name} is empty; it must hold a mapping, one `key: value` a line")
    if not isinstance(root, yaml.MappingNode):
        wanted = "a configuration is a mapping, one `key: value` a line"
        raise ConfigError(f"{_place(name, root)}: got {_what(root)}; {wanted}")
    return _node(root, name, problems, above=())


def read_override(text: str, *, problems: list[str]) -> tuple[Keys, Node] | None:
    """One `key.sub=value` of a command line; the value is a YAML scalar, or `[...]`, `{...}` or quoted text."""
    place = f"command line: {text}"
    key, equals, value = text.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(path):
        problems.append(f"{place}: must have the form key=value, as in optim.lr=1e-4")
        return None
    if not value.strip():
        problems.append(f"{place}: nothing follows the equals sign; {key}=null is no value, {key}='\"\"' is empty text")
        return None
    try:
        text.encode()
        return path, _override_value(value, place, problems)
    except UnicodeEncodeError:
        problems.append(f"{place!a}: holds characters that are no text")
    except yaml.YAMLError:
        problems.append(f"{place}: the value is no YAML; put it into quotes if it is text")
    return None


def write_yaml(tree: Mapping[str, Any], *, comments: Mapping[str, str] | None = None) -> str:
    """Plain values as YAML that `read_yaml` reads back equal; `comments` stand behind the dotted keys they are for.

    >>> print(write_yaml({"lr": 1e-5, "note": "yes", "rewards": [{"weight": 2}]}, comments={"lr": "default"}), end="")
    lr: 1e-05  # default
    note: yes
    rewards:
      - weight: 2
    """
    lines = list(_lines(tree, (), comments or {}))
    return "\n".join(lines) + "\n" if tree else "{}\n"


def nested(path: Keys, node: Node) -> Node:
    """A node at the end of a path, as a tree from the root."""
    for key in reversed(path):
        above = node.key_place or node.place
        node = Node(value={str(key): node}, origin=node.origin, place=node.place, key_place=above)
    return node


def merge(lower: Node, upper: Node, *, problems: list[str], once: bool = False) -> Node:
    """`upper` over `lower`: mappings key by key, everything else whole.

    A mapping with numbers as keys changes elements of a sequence. A choice of another name drops the options of the
    lower one. With `once`, a value that replaces another is a problem.
    """
    if isinstance(lower.value, dict) and isinstance(upper.value, dict):
        names = [node.value["name"].value for node in (lower, upper) if "name" in node.value]
        if lower.chosen and upper.chosen and len(names) == 2 and names[0] != names[1] and not once:
            return upper
        both = {key: merge(lower.value[key], child, problems=problems, once=once) if key in lower.value else child
                for key, child in upper.value.items()}  # fmt: skip
        return replace(upper, value={**lower.value, **both})
    if isinstance(lower.value, list) and isinstance(upper.value, dict) and all(key.isdecimal() for key in upper.value):
        return _merge_elements(lower, upper, problems=problems, once=once)
    if once:
        problems.append(f"{upper.place}: contradicts {lower.place}")
    return upper


def _merge_elements(lower: Node, upper: Node, *, problems: list[str], once: bool) -> Node:
    items = list(lower.value)
    for key, child in upper.value.items():
        if int(key) < len(items):
            items[int(key)] = merge(items[int(key)], child, problems=problems, once=once)
        else:
            have = f"elements 0 to {len(items) - 1}" if items else "no elements"
            problems.append(f"{child.place}: there is no element {key}; there are {have}")
    return replace(upper, value=items)


def _override_value(value: str, place: str, problems: list[str]) -> Node:
    """Text is taken as it stands unless it opens a bracket, a brace or a quote, so that globs need no quotes."""
    if value.lstrip()[:1] in ("[", "{", '"', "'"):
        root = yaml.compose(value, Loader=_Loader)
        return _relabel(_node(root, place, problems, above=()), place)
    tag = _Loader("").resolve(yaml.ScalarNode, value, (True, False))
    scalar = yaml.ScalarNode(tag, value)
    return _relabel(_node(scalar, place, problems, above=()), place)


def _relabel(node: Node, place: str) -> Node:
    value = node.value
    if isinstance(value, dict):
        value = {key: _relabel(child, place) for key, child in value.items()}
    elif isinstance(value, list):
        value = [_relabel(child, place) for child in value]
    return replace(node, value=value, origin="command line", place=place, key_place=place)


def _node(node: yaml.Node, name: str, problems: list[str], *, above: tuple[yaml.Node, ...]) -> Node:
    place = _place(name, node)
    origin = f"file {place.rpartition(':')[0]}"
    if node in above:
        problems.append(f"{place}: an alias stands for something that contains it")
        return Node(value=None, origin=origin, place=place)
    if isinstance(node, yaml.MappingNode):
        return Node(value=_mapping(node, name, problems, (*above, node)), origin=origin, place=place)
    if isinstance(node, yaml.SequenceNode):
        items = [_node(child, name, problems, above=(*above, node)) for child in node.value]
        return Node(value=items, origin=origin, place=place)
    return Node(value=_scalar(node, place, problems), origin=origin, place=place, raw=node.value)


def _mapping(node: yaml.MappingNode, name: str, problems: list[str], above: tuple[yaml.Node, ...]) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for key, value in node.value:
        place = _place(name, key)
        if not isinstance(key, yaml.ScalarNode):
            problems.append(f"{place}: a key must be a word, not {_what(key)}")
        elif key.value in found:
            problems.append(f"{place}: the key {key.value!r} is given twice, first at {found[key.value].key_place}")
        else:
            found[key.value] = replace(_node(value, name, problems, above=above), key_place=place)
    return found


def _scalar(node: yaml.Node, place: str, problems: list[str]) -> Any:
    kind = node.tag.removeprefix(_TAG)
    try:
        if kind == "int":
            return int(node.value)
        if kind == "float":
            return float(node.value.replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        problems.append(f"{place}: {shown(node.value)} is no {kind}")
        return None
    if kind not in ("null", "bool", "str"):
        problems.append(f"{place}: the tag {node.tag} is not understood; write plain values")
    return None if kind == "null" else node.value in ("true", "True", "TRUE") if kind == "bool" else node.value


def _place(name: str, node: yaml.Node) -> str:
    mark = node.start_mark
    return f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name


def _what(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return shown(node.value)
    return "a sequence" if isinstance(node, yaml.SequenceNode) else "a mapping"


def _syntax(error: yaml.MarkedYAMLError, name: str) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
    if error.problem and r"'\t'" in error.problem:
        return f"{place}: a tab; YAML indents with spaces"
    if error.context == "expected a single document in the stream":
        return f"{place}: a second document begins; a configuration is one document"
    return f"{place}: this is no YAML: {', '.join(part for part in (error.context, error.problem) if part)}"


def _lines(value: Mapping[str, Any] | list[Any], path: Keys, comments: Mapping[str, str]) -> Iterator[str]:
    """The lines of a block, not indented; a sequence is a block where one of its elements is a mapping."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, child in items:
        head = f"{flow(key)}:" if isinstance(value, Mapping) else "-"
        below = (*path, key)
        if not _is_block(child):
            said = _comment(child, below, comments)
            yield f"{head} {flow(child)}" + (f"  # {said}" if said else "")
        elif head == "-":
            first, *rest = _lines(child, below, comments)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
        else:
            yield head
            yield from (f"  {line}" for line in _lines(child, below, comments))


def _is_block(value: Any) -> bool:
    if isinstance(value, list):
        return any(isinstance(child, Mapping) or _is_block(child) for child in value)
    return isinstance(value, Mapping) and bool(value)


def _comment(value: Any, path: Keys, comments: Mapping[str, str]) -> str:
    """The comment of a value; of a sequence on one line, the comments of its elements."""
    paths = [(*path, index) for index in range(len(value))] if isinstance(value, list) and value else [path]
    return ", ".join(dict.fromkeys(comments[key] for key in map(dotted, paths) if key in comments))


def flow(value: Any) -> str:
    """A value on one line; text is quoted where it would be read as something else.

    >>> flow([1e-5, "a b", "yes", None, {"n": "1"}])
    '[1e-05, "a b", yes, null, {n: "1"}]'
    """
    if isinstance(value, Mapping):
        inner = cast("Mapping[str, Any]", value).items()
        return f"{{{', '.join(f'{flow(key)}: {flow(child)}' for key, child in inner)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(flow, value))}]"
    if isinstance(value, float):
        return repr(value).replace("inf", ".inf").replace("nan", ".nan")
    if not isinstance(value, str):
        return shown(value)
    if _PLAIN_TEXT.fullmatch(value) and _Loader("").resolve(yaml.ScalarNode, value, (True, False)) == f"{_TAG}str":
        return value
    return yaml.dump(value, default_style='"', width=float("inf"), allow_unicode=True).rstrip("\n")
