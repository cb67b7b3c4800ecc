"""Plain values as text: equal values are equal bytes, and they come back."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from whet.errors import RunError
from whet.plain import differences, json_hash, to_json, to_yaml


def test_equal_values_are_equal_bytes_and_floats_come_back_exactly() -> None:
    class Reason(enum.Enum):
        STOP = "stop"

    value = {"b": [1, (2.5, None)], "a": {"x": np.float32(0.1), "y": np.arange(2), "z": Reason.STOP, "p": Path("a/b")}}
    assert to_json(value) == to_json(dict(reversed(list(value.items()))))
    read = json.loads(to_json(value))
    assert read == {"b": [1, [2.5, None]], "a": {"x": float(np.float32(0.1)), "y": [0, 1], "z": "stop", "p": "a/b"}}
    chance = np.random.default_rng(0).standard_normal(1000) * 10.0 ** np.arange(-500, 500).clip(-300, 300)
    assert json.loads(to_json(chance)) == chance.tolist()
    assert to_json("π\u2028\ud800").isascii()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), np.float32("nan"), np.array([1.0, np.inf])])
def test_numbers_that_are_none_are_refused_by_their_place(bad: Any) -> None:
    with pytest.raises(RunError, match=r"a\.b\[1\].*(nan|inf)"):
        to_json({"a": {"b": [0.0, bad]}})


def test_what_is_not_plain_is_refused() -> None:
    with pytest.raises(RunError, match="a is a set"):
        to_json({"a": {1}})
    with pytest.raises(RunError, match=r"a\[0\] has the key 1"):
        to_json({"a": [{1: 2}]})


def test_differences_name_leaves() -> None:
    assert differences({"a": {"b": 1, "c": [1]}}, {"a": {"b": 2, "c": [1]}, "d": None}) == [
        "a.b: 1 → 2",
        "d: absent → null",
    ]
    assert json_hash({"a": 1.0}) != json_hash({"a": 1})


def test_yaml_reads_back_as_the_config() -> None:
    tree = {
        "lr": 1e-06,
        "big": 1e22,
        "off": "off",
        "reference": "${sft.model}",
        "quoted": 'a "b"\\\n\tπ\U0001f600: # no comment',
        "number": "1e5",
        "list": [1, "two", {"x": [True, None]}],
        "empty": {},
        "nested": {"deep": {"value": -0.0}},
        "yes": "",
    }
    text = to_yaml(tree, {"lr": "command\nline", "nested": "my.yaml:3"})
    assert yaml.safe_load(text) == tree
    assert "lr: 1.0e-06  # command line\n" in text and "nested:  # my.yaml:3\n" in text
