"""Files are read to the byte: every oddity of a line is a fault with its place, and nothing is split or lost."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from paths import need

from whet.data.config import DataConfig
from whet.data.json_text import parse_json
from whet.data.readers import read_rows
from whet.data.rows import Row, RowFault, rows_of
from whet.errors import DataError, MissingExtra


def rows(path: Path, **options: object) -> list[Row]:
    return list(read_rows(DataConfig(path=str(path), **options)))


def written(folder: Path, data: bytes | str, name: str = "a.jsonl") -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def test_bom_and_crlf_are_taken(tmp_path: Path) -> None:
    read = rows(written(tmp_path, b'\xef\xbb\xbf{"text": "a"}\r\n{"text": "b"}\r\n'))
    assert [row.columns for row in read] == [{"text": "a"}, {"text": "b"}]


def test_line_separators_inside_strings_do_not_end_a_row(tmp_path: Path) -> None:
    text = "one\u2028two\u2029three\x85four\x0bfive"
    read = rows(written(tmp_path, json.dumps({"text": text}, ensure_ascii=False) + "\n"))
    assert [row.columns["text"] for row in read] == [text]


def test_blank_lines_are_faults_inside_and_nothing_at_the_end(tmp_path: Path) -> None:
    read = rows(written(tmp_path, '{"text": "a"}\n\n  \n{"text": "b"}\n\n\n'))
    assert [(row.line, row.fault) for row in read] == [(1, ""), (2, "is blank"), (3, "is blank"), (4, "")]


def test_torn_last_line_is_a_fault(tmp_path: Path) -> None:
    read = rows(written(tmp_path, '{"text": "a"}\n{"text": "b'))
    assert read[0].fault == "" and "is not JSON" in read[1].fault


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"chosen": "a", "chosen": "b"}', "the key 'chosen' twice"),
        ('{"x": {"y": 1, "y": 2}}', "the key 'y' twice"),
        ('{"score": NaN}', "NaN"),
        ('{"score": -Infinity}', "-Infinity"),
        ('{"score": 1e400}', "too large"),
        ('{"text": "\\ud800"}', "half of a character"),
        ('{"n": ' + "1" * 5000 + "}", "too many digits"),
        ("[" * 200_000, "nested too deeply"),
        ('["a"]', "a JSON list, not an object"),
        ("3", "a JSON int, not an object"),
        ('{"text": "a"} {"text": "b"}', "is not JSON"),
    ],
)
def test_what_json_should_not_contain_is_a_fault(tmp_path: Path, line: str, reason: str) -> None:
    read = rows(written(tmp_path, '{"text": "a"}\n' + line + "\n"))
    assert len(read) == 2 and read[1].line == 2 and reason in read[1].fault, read[1].fault


def test_whole_surrogate_pairs_are_text() -> None:
    assert parse_json('{"text": "\\ud83d\\ude00"}') == {"text": "\U0001f600"}


def test_invalid_utf8_says_where(tmp_path: Path) -> None:
    read = rows(written(tmp_path, b'{"text": "a"}\n{"text": "\xff\xfe"}\n'))
    assert "is not UTF-8" in read[1].fault and "byte 11" in read[1].fault


def test_gzip_reads_as_the_file_and_a_cut_one_is_an_error(tmp_path: Path) -> None:
    packed = gzip.compress(b"".join(b'{"text": "%d"}\n' % i for i in range(1000)))
    assert len(rows(written(tmp_path, packed, "a.jsonl.gz"))) == 1000
    with pytest.raises(DataError, match="not a whole gzip file"):
        rows(written(tmp_path, packed[: len(packed) // 2], "b.jsonl.gz"))


def test_json_list_and_json_lines_under_the_same_ending(tmp_path: Path) -> None:
    assert [row.where for row in rows(written(tmp_path, '[{"text": "a"},\n 7]', "a.json"))] == ["a.json:1", "a.json:2"]
    assert len(rows(written(tmp_path, '{"text": "a"}\n{"text": "b"}\n', "b.json"))) == 2
    with pytest.raises(DataError, match="a list of objects"):
        rows(written(tmp_path, "7", "c.json"))


def test_parquet_equals_the_rows_written(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pytest.importorskip("pyarrow").Table.from_pylist([{"prompt": "a", "n": [1, 2]}, {"prompt": "b", "n": None}])
    parquet.write_table(table, tmp_path / "a.parquet")
    assert [row.columns for row in rows(tmp_path / "a.parquet")] == table.to_pylist()
    with pytest.raises(DataError, match="Parquet"):
        rows(written(tmp_path, b"PAR1 nonsense", "b.parquet"))


def test_a_missing_package_is_named_with_its_pip_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'whet\[datasets\]'"):
        rows(written(tmp_path, b"", "a.parquet"))
    with pytest.raises(MissingExtra, match=r"'some/name' is no file here.*pip install 'whet\[datasets\]'"):
        rows(Path("some/name"))


def test_tables_and_labelled_sentences(tmp_path: Path) -> None:
    table = rows(written(tmp_path, 'prompt,completion\n"a,\nb",c\nd\n', "a.csv"))
    assert table[0].columns == {"prompt": "a,\nb", "completion": "c"}
    assert table[1].fault == "has 1 cells, the header 2"
    labelled = rows(written(tmp_path, "good\x85film  \t1\nbad\t0\nno label\n", "b.txt"))
    assert [row.columns for row in labelled] == [
        {"text": "good\x85film", "label": 1.0},
        {"text": "bad", "label": 0.0},
        {},
    ]
    assert "not a text, a tab and a number" in labelled[2].fault
    assert rows(written(tmp_path, "prompt\tcompletion\na\tb\n", "c.tsv"))[0].columns == {
        "prompt": "a",
        "completion": "b",
    }


def test_text_files_hold_documents_or_lines(tmp_path: Path) -> None:
    documents = rows(written(tmp_path, "a\nb\n<|endoftext|>\nc\n<|endoftext|>\n", "a.txt"))
    assert [(row.columns["text"], row.line) for row in documents] == [("a\nb", 1), ("c", 4)]
    assert [row.columns["text"] for row in rows(written(tmp_path, "a\nb\n", "b.txt"))] == ["a", "b"]


def test_a_missing_file_is_named_with_the_nearest(tmp_path: Path) -> None:
    written(tmp_path, "", "train.jsonl")
    with pytest.raises(DataError, match=r"there is no file .*trian\.jsonl.*did you mean train\.jsonl\?"):
        rows(tmp_path / "trian.jsonl")
    with pytest.raises(DataError, match="nor a folder"):
        rows(tmp_path / "absent" / "train.jsonl")
    with pytest.raises(DataError, match=r"none of the endings .jsonl"):
        rows(written(tmp_path, "", "a.docx"))


def test_a_folder_has_one_file_per_split(tmp_path: Path) -> None:
    written(tmp_path, '{"text": "a"}\n', "test.jsonl")
    assert [row.columns["text"] for row in rows(tmp_path, split="test")] == ["a"]
    with pytest.raises(DataError, match=r"no file for split 'train' \(data files there: test.jsonl\)"):
        rows(tmp_path)


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        written(tmp_path / name, '{"text": "x"}\n', "train.jsonl")
    paths = (str(tmp_path / "a" / "train.jsonl"), str(tmp_path / "b" / "train.jsonl"))
    assert [row.where for row in read_rows(DataConfig(path=paths))] == ["a/train.jsonl:1", "b/train.jsonl:1"]


def test_max_rows_ends_the_reading_and_reading_streams(tmp_path: Path) -> None:
    path = written(tmp_path, '{"text": "a"}\n' * 3 + "not JSON\n")
    assert len(rows(path, max_rows=3)) == 3
    assert next(read_rows(DataConfig(path=str(path)))).columns == {"text": "a"}


def test_a_line_beyond_reason_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whet.data.readers.MAX_ROW_BYTES", 100)
    with pytest.raises(DataError, match=r"a\.jsonl:2 is longer than"):
        rows(written(tmp_path, '{"text": "a"}\n' + json.dumps({"text": "b" * 200}) + "\n"))


def test_rows_in_code_that_are_no_mappings_are_faults() -> None:
    assert [row.fault for row in rows_of([{"text": "a"}, "b"])] == ["", "is a str, not a mapping from column to value"]  # type: ignore[list-item]


def test_parse_errors_carry_no_place_of_their_own() -> None:
    with pytest.raises(RowFault, match=r"^is not JSON: "):
        parse_json("{")


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("data/hh-rlhf/harmless-base/test.jsonl.gz", 2312),
        ("data/gsm8k/test.jsonl", 1319),
        ("data/llamafactory-demos/kto_en_demo.json", 300),
        ("data/sentiment-labelled-sentences/imdb_labelled.txt", 1000),
        ("data/tldr-preferences/tldr_dataset.csv", 697),
        ("data/tinystories-sample/tinystories_sample.txt", 2317),
    ],
)
def test_real_files_have_the_rows_their_readme_counts(path: str, count: int) -> None:
    read = rows(need(path))
    assert len(read) == count and not any(row.fault for row in read)


def test_a_hub_name_is_loaded_by_name_configuration_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, configuration: str | None, *, split: str) -> list[dict[str, str]]:
        if name != "owner/name":
            raise FileNotFoundError(f"{name} is not on the hub\nand more")
        return [{"text": f"{configuration} {split}"}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load))
    read = rows(Path("owner/name:part"), split="test")
    assert [(row.columns["text"], row.where) for row in read] == [("part test", "owner/name:part[test]:1")]
    with pytest.raises(DataError, match=r"split 'train' cannot be loaded: other/name is not on the hub$"):
        rows(Path("other/name"))
