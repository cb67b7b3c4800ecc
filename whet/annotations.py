"""What the annotation of a configuration's field allows, and trees made to fit: short forms spelt out, defaults put in.

A field holds a section (a pydantic model), a choice from a shelf, a scalar, or elements of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined, to_jsonable_python

from whet.registry import Choice, Either, Shelf
from whet.tree import Key, Keys, Node, plain, tree_of

Shelves = Shelf | Either


def arms(annotation: Any) -> Iterator[Any]:
    """The members of a union, or the annotation itself; `Annotated` stays around each."""
    inner = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if get_origin(inner) in (Union, UnionType):
        for arm in get_args(inner):
            yield from arms(arm)
    else:
        yield annotation


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The section (a pydantic model) that a field holds, if it may hold one."""
    for arm in map(_bare, arms(annotation)):
        if isinstance(arm, type) and issubclass(arm, BaseModel):
            return arm
    return None


def choice_of(annotation: Any) -> Shelves | None:
    """The shelf, or the shelves, that a field chooses from, if it does."""
    for arm in arms(annotation):
        for part in get_args(arm)[1:] if get_origin(arm) is Annotated else ():
            if isinstance(part, Shelf | Either):
                return part
    return None


def takes_null(annotation: Any) -> bool:
    """True for `... | None`."""
    return NoneType in map(_bare, arms(annotation))


def takes_bool(annotation: Any) -> bool:
    """True where true and false are values of their own."""
    return bool in map(_bare, arms(annotation))


def takes_text_only(annotation: Any) -> bool:
    """True where every scalar but null is text, so that `42` needs no quotes."""
    kinds = {*map(_bare, arms(annotation))} - {NoneType}
    return bool(kinds) and kinds <= {str, Path}


def child_annotation(annotation: Any, key: Key) -> Any:
    """The annotation of what stands under a key or an index; None where that is not known."""
    for arm in map(_bare, arms(annotation)):
        origin, arguments = get_origin(arm), get_args(arm)
        if isinstance(arm, type) and issubclass(arm, BaseModel) and str(key) in arm.model_fields:
            return arm.model_fields[str(key)].rebuild_annotation()
        if origin is dict:
            return arguments[1]
        if origin is list or (origin is tuple and arguments[-1] is Ellipsis):
            return arguments[0]
        if origin is tuple and str(key).isdecimal() and int(key) < len(arguments):
            return arguments[int(key)]
    return None


def fit(node: Node, annotation: Any) -> Node:
    """The short forms spelt out: a member's name, true for a section with its defaults, a number for a text."""
    value = node.value
    if choice_of(annotation) is not None and isinstance(value, str):
        node = replace(node, value={"name": node}, chosen=True)
    elif choice_of(annotation) is not None and isinstance(value, dict):
        node = replace(node, chosen=True)
    elif isinstance(value, bool) and model_of(annotation) and takes_null(annotation) and not takes_bool(annotation):
        node = replace(node, value={} if value else None)
    elif isinstance(value, int | float) and takes_text_only(annotation):
        node = replace(node, value=node.raw)
    if isinstance(node.value, dict):
        inner = {key: fit(child, child_annotation(annotation, key)) for key, child in node.value.items()}
        return replace(node, value=inner)
    if isinstance(node.value, list):
        inner = [fit(child, child_annotation(annotation, index)) for index, child in enumerate(node.value)]
        return replace(node, value=inner)
    return node


def complete(node: Node, annotation: Any) -> Node:
    """The defaults of every section that is there, with origin "default"; sections that must be there are made."""
    if isinstance(node.value, list):
        items = [complete(child, child_annotation(annotation, index)) for index, child in enumerate(node.value)]
        return replace(node, value=items)
    model = model_of(annotation)
    if not isinstance(node.value, dict) or model is None:
        return node
    there = dict(node.value)
    for name, field in model.model_fields.items():
        inner = field.rebuild_annotation()
        if name not in there:
            default = field.get_default(call_default_factory=True, validated_data={})
            if default is PydanticUndefined and (model_of(inner) is None or takes_null(inner)):
                continue
            default = {} if default is PydanticUndefined else plain_value(default)
            there[name] = fit(tree_of(default, origin="default", place=node.place), inner)
        there[name] = complete(there[name], inner)
    return replace(node, value=there)


def plain_value(value: Any) -> Any:
    """A default or an argument as plain values: models and choices as mappings, tuples as lists."""
    return plain(layer_of(value, origin=""))


def layer_of(value: Any, *, origin: str, place: str = "") -> Node:
    """Python values as a tree, and a tree as it is; below a model, what was never set has the origin "default"."""
    if isinstance(value, Node):
        return value
    if isinstance(value, Choice):
        value = value.tree()
    if isinstance(value, BaseModel):
        origins = {name: origin if name in value.model_fields_set else "default" for name in type(value).model_fields}
        inner = {name: layer_of(getattr(value, name), origin=o, place=place) for name, o in origins.items()}
        return replace(tree_of({}, origin=origin, place=place), value=inner)
    if isinstance(value, Mapping):
        inner = {str(key): layer_of(child, origin=origin, place=place) for key, child in value.items()}
        return replace(tree_of({}, origin=origin, place=place), value=inner)
    if isinstance(value, list | tuple):
        items = [layer_of(child, origin=origin, place=place) for child in value]
        return replace(tree_of([], origin=origin, place=place), value=items)
    return tree_of(to_jsonable_python(value, inf_nan_mode="constants"), origin=origin, place=place)


def paths_of(annotation: Any, node: Node | None, above: Keys = ()) -> list[Keys]:
    """The paths of all keys below an annotation; a node tells which members are chosen and how many elements are."""
    shelves, model = choice_of(annotation), model_of(annotation)
    if shelves is not None and node is not None and node.child("name"):
        name: Any = node.child("name")
        known = [s for s in shelves.shelves if name.value in s.names()]
        return [above] + [(*above, o.name) for s in known[:1] for o in s.entry(name.value).options]
    if model is not None:
        fields = {key: field.rebuild_annotation() for key, field in model.model_fields.items()}
        below = [p for k, f in fields.items() for p in paths_of(f, node.child(k) if node else None, (*above, k))]
        return ([above] if above else []) + below
    items: list[tuple[Key, Node]] = node.children() if node else []
    return [above] + [p for k, n in items if isinstance(n.value, dict)
                      for p in paths_of(child_annotation(annotation, k), n, (*above, k))]  # fmt: skip


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
