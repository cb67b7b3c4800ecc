"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import crashes
import pytest
from states import names

from whet.errors import RunError
from whet.files import OsFiles, recover_folder, replace_file, sweep, write_folder_atomically


@pytest.fixture
def swift() -> Iterator[Path]:
    with crashes.swift_folder() as place:
        yield place


def test_a_small_file_is_replaced_at_once(tmp_path: Path) -> None:
    target = tmp_path / "done.json"
    replace_file(target, b"old")
    for n in range(1, 20):
        try:
            replace_file(target, b"new", files=crashes.failing_at(n, errno.ENOSPC))
        except RunError:
            assert target.read_bytes() in (b"old", b"new")
            assert [file.name for file in tmp_path.iterdir()] == ["done.json"]
            replace_file(target, b"old")
        else:
            assert n > 4 and target.read_bytes() == b"new"
            return
    pytest.fail("the replacement never came to its end")


def test_a_write_that_takes_only_a_part_goes_on(tmp_path: Path) -> None:
    class Short(OsFiles):
        def write(self, descriptor: int, data: Any) -> int:
            return super().write(descriptor, memoryview(data)[:3])

    replace_file(tmp_path / "a", b"0123456789", files=Short())
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_leftovers_are_swept_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".tmp_3_99" / "sub").mkdir(parents=True)
    (tmp_path / ".tmp_3_99" / "sub" / "file").touch()
    (tmp_path / "kept").mkdir()
    (tmp_path / ".tmp_link").symlink_to(tmp_path / "kept")
    assert sweep(tmp_path) == [".tmp_3_99", ".tmp_link"]
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert sweep(tmp_path / "absent") == []


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "final"

    def half(folder: Path) -> None:
        (folder / "a").write_text("1")
        raise ValueError("the writer failed")

    with pytest.raises(ValueError, match="the writer failed"):
        write_folder_atomically(target, half)
    assert names(tmp_path) == []
    write_folder_atomically(target, lambda folder: (folder / "sub").mkdir())
    with pytest.raises(RunError, match="already there"):
        write_folder_atomically(target, half)
    with pytest.raises(ValueError, match="the writer failed"):
        write_folder_atomically(target, half, replace=True)
    assert names(tmp_path) == ["final"] and names(target) == ["sub"]
    write_folder_atomically(target, lambda folder: (folder / "b").write_text("2"), replace=True)
    assert names(tmp_path) == ["final"] and names(target) == ["b"]


def test_an_exchange_that_fails_anywhere_leaves_the_old_or_the_new_folder(swift: Path) -> None:
    for n in range(1, 40):
        target = swift / str(n) / "final"
        write_folder_atomically(target, lambda folder: (folder / "old").write_text("1"))
        files = crashes.failing_at(n, errno.EIO)
        try:
            write_folder_atomically(target, lambda folder: (folder / "new").write_text("2"), replace=True, files=files)
        except RunError:
            recover_folder(target)
            assert names(target) in (["old"], ["new"])
            assert names(target.parent) == ["final"]
        else:
            assert names(target) == ["new"] and n > 8
            return
    pytest.fail("the exchange never came to its end")
