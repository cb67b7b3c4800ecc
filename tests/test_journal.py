"""The journal: what was answered once is never asked again."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import crashes
import pytest
from runs import new

from whet.errors import RunError
from whet.journal import Journal
from whet.rundir import RunDir


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.jsonl", writable=True)
    yield journal
    journal.close()


def test_what_is_in_the_journal_is_never_asked_again(journal: Journal) -> None:
    journal.put_all([(("score", 1, "t", 0), {"value": 0.1, "parts": (1, 2)}), (("judge", "a"), None)])
    again = Journal(journal.path, writable=False)
    assert len(again) == 2 and again.get(("judge", "a")) is None and ("judge", "b") not in again
    assert journal.get(("score", 1, "t", 0)) == again.get(("score", 1, "t", 0)) == {"value": 0.1, "parts": [1, 2]}
    with pytest.raises(KeyError):
        again.get(("score", "1", "t", 0))


def test_a_key_names_one_answer(journal: Journal) -> None:
    journal.put(("a",), 1)
    size = journal.path.stat().st_size
    journal.put(("a",), 1)
    assert journal.path.stat().st_size == size
    with pytest.raises(RunError, match="already holds 1"):
        journal.put(("a",), 2)
    with pytest.raises(RunError, match="already holds 3"):
        journal.put_all([(("b",), 3), (("b",), 4)])
    assert ("b",) not in journal


def test_a_flipped_bit_in_the_journal_is_an_error_and_a_torn_end_is_not(journal: Journal) -> None:
    for key in range(3):
        journal.put(("a", key), key + 0.5)
    content = journal.path.read_bytes()
    for place in range(len(content) - 1):
        for bit in (0, 3, 5):
            flipped = bytearray(content)
            flipped[place] ^= 1 << bit
            journal.path.write_bytes(flipped)
            with pytest.raises(RunError, match="checksum"):
                Journal(journal.path, writable=False)
    journal.path.write_bytes(content[:-5])
    assert len(Journal(journal.path, writable=False)) == 2


def test_a_torn_end_of_the_journal_is_set_aside_before_the_next_entry(tmp_path: Path) -> None:
    with new(tmp_path / "a") as run:
        run.journal.put_all([(("a",), 1), (("b",), 2)])
    path = tmp_path / "a" / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-9])
    with RunDir.open(tmp_path / "a", mode="resume") as run:
        assert ("a",) in run.journal and ("b",) not in run.journal
        run.journal.put(("b",), 3)
    journal = RunDir.open(tmp_path / "a").journal
    assert (journal.get(("a",)), journal.get(("b",))) == (1, 3)
    assert (tmp_path / "a" / "journal.set_aside-1.jsonl").read_bytes().startswith(b'{"key": ["b"]')


def test_a_journal_that_could_not_be_made_durable_takes_nothing_more(tmp_path: Path) -> None:
    for only in ("write", "fsync"):
        path = tmp_path / f"{only}.jsonl"
        Journal(path, writable=True).put(("a",), 1)
        journal = Journal(path, writable=True, files=crashes.failing_at(1, errno.EIO, only=only))
        with pytest.raises(RunError, match="failed write"):
            journal.put(("b",), 2)
        with pytest.raises(RunError, match="takes no entries"):
            journal.put(("c",), 3)
        assert ("b",) not in journal and len(Journal(path, writable=False)) == 1
        journal.close()
