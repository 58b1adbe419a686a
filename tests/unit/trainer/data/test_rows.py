import gzip
import json
import os

import numpy as np
import pyarrow as arrow
import pytest
import zstandard
from pyarrow import parquet

from slipway_trainer.data import rows
from slipway_trainer.data.reading import blocks, columnar, json_lines
from slipway_trainer.data.rows import Turn
from slipway_trainer.step.errors import BadData


def lines(*found) -> bytes:
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in found)


def write(tmp_path, content: bytes, name="data.jsonl"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def read(path, parse=rows.documents):
    return [row for block in blocks.blocks(path, path.name) for row in parse(block)]


def chat(*turns):
    return {"conversations": [{"role": role, "content": content} for role, content in turns]}


ANSWERED = chat(("user", "a"), ("assistant", "b"))


def test_documents_come_with_their_lines_and_blank_lines_count(tmp_path):
    path = write(tmp_path, lines({"text": " a "}, b"", {"text": "b", "more": 1}) + b'{"text": "c"}')
    assert [(row.line, row.text) for row in read(path)] == [(1, " a "), (3, "b"), (4, "c")]


RAW = [
    "    if x:\n        return 1\n",
    "a\r\nb\rc",
    "cafe\u0301",
    "\ufeffa",
    "　床前明月光，\n",
    "a\u2028b",
]


@pytest.mark.parametrize("text", RAW)
@pytest.mark.parametrize("name", ["data.jsonl", "data.jsonl.gz", "data.parquet"])
def test_a_text_is_what_stands_in_its_row_to_the_byte(tmp_path, name, text):
    path = tmp_path / name
    found = chat(("user", text), ("assistant", text)) | {"text": text, "answer": None}
    if name.endswith(".parquet"):
        parquet.write_table(arrow.Table.from_pylist([found]), path)
    else:
        content = lines(found)
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert [row.text for row in read(path)] == [text]
    assert read(path, rows.conversations)[0].turns == (Turn("user", text), Turn("assistant", text))
    assert [(row.turns, row.answer) for row in read(path, rows.prompts)] == [((Turn("user", text),), text)]


def test_a_byte_order_mark_before_a_row_is_the_files_and_the_text_keeps_its_own(tmp_path):
    mark = "\ufeff".encode()
    content = mark + lines({"text": "\ufeffa"}) + mark + lines({"text": "b"})
    for name, pack in (("data.jsonl", bytes), ("data.jsonl.gz", gzip.compress)):
        assert [row.text for row in read(write(tmp_path, pack(content), name))] == ["\ufeffa", "b"]


def test_every_format_holds_the_same_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(columnar, "BLOCK_ROWS", 7)
    found = [{"text": f"poem {n} 床前明月光"} for n in range(30)]
    content = lines(*found)
    write(tmp_path, content)
    write(tmp_path, gzip.compress(content), "data.jsonl.gz")
    half = content.index(b"\n", len(content) // 2) + 1
    frames = [zstandard.compress(part) for part in (content[:half], content[half:])]
    write(tmp_path, b"".join(frames), "data.jsonl.zst")
    parquet.write_table(arrow.Table.from_pylist(found), tmp_path / "data.parquet", row_group_size=11)
    expected = [(n, row["text"]) for n, row in enumerate(found, 1)]
    for name in ("data.jsonl", "data.jsonl.gz", "data.jsonl.zst", "data.parquet"):
        assert [(row.line, row.text) for row in read(tmp_path / name)] == expected, name


def test_conversations_of_a_parquet_file_are_read(tmp_path):
    parquet.write_table(arrow.Table.from_pylist([ANSWERED]), tmp_path / "data.parquet")
    assert read(tmp_path / "data.parquet", rows.conversations)[0].turns == (Turn("user", "a"), Turn("assistant", "b"))


def test_lines_are_counted_over_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", 40)
    path = write(tmp_path, lines(*({"text": f"row {n}"} for n in range(1, 100)), b"{"))
    with pytest.raises(BadData, match=r"data\.jsonl:100: not JSON"):
        read(path)


BAD_DOCUMENTS = [
    (b"{'text': 1}", r"not JSON: Expecting property name .* at column 2\. The line is"),
    (b'{"text": "a"', "not JSON"),
    (b"[1]", r"a row must be an object \{…\}; this one is \[1\]"),
    (b'"a"', "a row must be an object"),
    (b'{"text": "\xff"}', r"not UTF-8: byte 0xff at 11\. Save the file as UTF-8"),
    ('{"text": "诗"}'.encode("utf-16"), r"looks like UTF-16"),
    (b'{"text": "a', "not JSON: Unterminated string starting at column 10"),
    ('[{"text": "诗"}]'.encode(), "this one is .*诗.*Write one row a line, or call the file .json"),
    (b"[" * 100_000, "brackets are nested too deeply"),
    ({"txt": "a"}, r"no 'text': it has 'txt'\. CausalLM learns from \{\"text\"\}.* rows"),
    ({}, "no 'text': it has no field at all"),
    ({"text": None, "more": 1}, r"'text' is null\. CausalLM learns from .*; fill it in, or remove the row"),
    (b'{"text": "a", "text": "b"}', 'the key "text" stands twice in one object'),
    (b'{"text": "a", "meta": {"id": 1, "\xe8\xaf\x97": 2, "\xe8\xaf\x97": 3}}', 'the key "诗" stands twice'),
    (b'{"text": ' + b"7" * 5000 + b"}", r"text is .*777…; it must be a string"),
    ({"text": 5}, "text is 5; it must be a string"),
    ({"text": ["a"]}, r'text is \["a"\]; it must be a string'),
    ({"text": "a\0"}, "text has a NUL character at character 2"),
    (b'{"text": "a\\ud83d"}', r"text has a lone surrogate \(\\ud83d\) at character 2"),
]


@pytest.mark.parametrize(("row", "message"), BAD_DOCUMENTS)
def test_a_bad_document_is_named_by_file_and_line(tmp_path, row, message):
    with pytest.raises(BadData, match=rf"^data\.jsonl:2: .*{message}"):
        read(write(tmp_path, lines({"text": "fine"}, row, {"text": "fine"})))


def test_texts_that_say_nothing_are_left_out_with_their_lines(tmp_path):
    blank: list[int] = []
    path = write(tmp_path, lines({"text": ""}, {"text": "a"}, {"text": " \n\u3000"}, {"text": "b"}))
    (block,) = blocks.blocks(path, "data.jsonl")
    for use in ("CausalLM", "HeldOut"):
        assert [(row.line, row.text) for row in rows.documents(block, use, blank=blank)] == [(2, "a"), (4, "b")]
    assert blank == [1, 3, 1, 3]


BAD_CONVERSATIONS = [
    ({"text": "a"}, "the row is Text and line 1 is Messages: all rows of a file have one form"),
    ({"conversations": None}, r"'conversations' is null\. Chat learns from"),
    ({"messages": []}, r"messages is \[\]; it must be a list of turns"),
    (chat(("user", "a"), ("assistant", "b")) | {"messages": [{"role": "user", "content": "a"}]}, "two conversations"),
    ({"conversations": "a"}, 'conversations is "a"; it must be a list of turns'),
    ({"conversations": []}, r"conversations is \[\]"),
    ({"conversations": ["a"]}, 'turn 1 is "a"'),
    ({"conversations": [{"from": "human", "value": "a"}]}, "the row is ShareGPT and line 1 is Messages"),
    ({"conversations": [{"role": "user"}]}, "turn 1 is"),
    (
        chat(("human", "a"), ("assistant", "b")),
        'turn 1 has the unknown role "human"; use system, developer, user',
    ),
    (chat(("user", "a")), "no assistant turn: there is nothing to learn"),
    (chat(("user", "a"), ("assistant", " ")), "turn 2 is an empty assistant turn"),
    (chat(("user", ""), ("assistant", "b")), "turn 1 is an empty user turn"),
    (chat(("user", "a"), ("assistant", 1)), r"the content of turn 2 \(assistant\) is 1; it must be a string"),
    (chat(("user", "a"), ("assistant", None)), r"the content of turn 2 \(assistant\) is null; it must be a string"),
    (chat(("user", "a"), ("assistant", "b\0")), r"turn 2 \(assistant\) has a NUL character at character 2"),
    (b'{"conversations": [{"role": "user", "content": "\\udc00"}]}', r"turn 1 \(user\) has a lone surrogate"),
]


@pytest.mark.parametrize(("row", "message"), BAD_CONVERSATIONS)
def test_a_bad_conversation_is_named_by_file_and_line(tmp_path, row, message):
    with pytest.raises(BadData, match=rf"^data\.jsonl:2: .*{message}"):
        read(write(tmp_path, lines(ANSWERED, row)), rows.conversations)


def test_a_prompt_is_a_conversation_that_the_user_ends(tmp_path):
    prompts = write(tmp_path, lines({"prompt": " a ", "answer": "b\n"}, {"prompt": "c"}), "prompts.jsonl")
    assert [(row.turns, row.answer) for row in read(prompts, rows.prompts)] == [
        ((Turn("user", " a "),), "b\n"),
        ((Turn("user", "c"),), None),
    ]
    path = write(tmp_path, lines(ANSWERED, chat(("system", "s"), ("user", "u"))))
    found = read(path, rows.prompts)
    assert [(row.turns, row.answer) for row in found] == [
        ((Turn("user", "a"),), "b"),
        ((Turn("system", "s"), Turn("user", "u")), None),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a"}, "no field that is read: it has 'text'"),
        ({"prompt": ""}, "the prompt is empty"),
        ({"prompt": "a", "answer": " "}, "the answer is empty"),
        ({"prompt": None}, "'prompt' is null"),
        (ANSWERED | {"answer": "c"}, "two answers"),
        (ANSWERED | {"prompt": "c"}, "the row may be read as Messages or as Prompt. Say which: format: Messages"),
        (chat(("system", "a")), "no user turn that the model could answer"),
        (chat(("assistant", "a")), "no user turn"),
    ],
)
def test_a_bad_prompt_is_named_by_file_and_line(tmp_path, row, message):
    with pytest.raises(BadData, match=rf"^data\.jsonl:1: .*{message}"):
        read(write(tmp_path, lines(row)), rows.prompts)


def test_an_integer_of_any_length_in_a_field_that_is_not_used_is_harmless(tmp_path):
    path = write(tmp_path, b'{"text": "a", "id": ' + b"7" * 5000 + b', "more": [-' + b"9" * 9000 + b"]}")
    assert [row.text for row in read(path)] == ["a"]


def test_a_value_of_a_parquet_file_that_cannot_be_read_is_named_by_its_row(tmp_path, monkeypatch):
    monkeypatch.setattr(columnar, "BLOCK_ROWS", 2)
    path = tmp_path / "data.parquet"
    offsets, letters = (arrow.py_buffer(part) for part in (np.arange(5, dtype=np.int32).tobytes(), b"ab\xffd"))
    parquet.write_table(
        arrow.table({"text": arrow.Array.from_buffers(arrow.string(), 4, [None, offsets, letters])}), path
    )
    with pytest.raises(BadData, match=r"data\.parquet:3: a value cannot be read: .*0xff"):
        read(path)


def test_a_parquet_file_with_a_column_twice_is_refused(tmp_path):
    table = arrow.table([arrow.array(["a"]), arrow.array(["b"])], names=["text", "text"])
    parquet.write_table(table, tmp_path / "data.parquet")
    with pytest.raises(BadData, match=r"data\.parquet: has two columns 'text'\. Keep one of them"):
        read(tmp_path / "data.parquet")


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file_is_refused(tmp_path, content):
    with pytest.raises(BadData, match=r"data\.jsonl: is empty"):
        read(write(tmp_path, content))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(BadData, match=r"no\.jsonl: there is no such file"):
        read(tmp_path / "no.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(BadData, match="is a folder, not a file"):
        read(tmp_path / "folder.jsonl")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_refused(tmp_path):
    path = write(tmp_path, lines({"text": "a"}))
    path.chmod(0)
    with pytest.raises(BadData, match="may not be read"):
        read(path)


def test_a_file_of_another_format_is_refused(tmp_path):
    with pytest.raises(BadData, match=r"data\.xml: not a data file; these are read: \.jsonl"):
        read(write(tmp_path, b"a,b", "data.xml"))


@pytest.mark.parametrize(("name", "content"), [("data.jsonl.gz", b"not gzip"), ("data.jsonl.zst", b"not zstd")])
def test_a_file_that_is_not_compressed_as_its_name_says_is_refused(tmp_path, name, content):
    with pytest.raises(BadData, match=rf"{name}: cannot be unpacked after line 0"):
        read(write(tmp_path, content, name))


PACKED = {
    "data.jsonl.gz": gzip.compress,
    "data.jsonl.zst": zstandard.compress,
    "checked.jsonl.zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}
FOUR_LINES = lines(*({"text": f"row {n}"} for n in range(4)))


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("whole", [0, 4, 8])
def test_a_compressed_file_that_is_cut_is_refused_wherever_it_is_cut(tmp_path, name, whole):
    packed = PACKED[name](FOUR_LINES)
    for end in range(1, len(packed)):
        cut = packed * (whole // 4) + packed[:end]
        with pytest.raises(
            BadData, match=rf"^{name}: cannot be unpacked after line \d+: .* Copy the file again"
        ) as raised:
            read(write(tmp_path, cut, name))
        assert whole <= int(str(raised.value).split()[6].rstrip(":")) <= whole + 4


def test_a_zstd_file_of_several_frames_and_marks_between_them_is_read_to_its_end(tmp_path):
    skipped = b"\x50\x2a\x4d\x18\x04\x00\x00\x00mark"
    packed = zstandard.compress(FOUR_LINES)
    path = write(tmp_path, packed + skipped + packed + skipped, "data.jsonl.zst")
    assert [row.line for row in read(path)] == list(range(1, 9))


def test_a_row_that_is_longer_than_a_block_is_one_row(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", 10)
    found = [{"text": "a"}, {"text": "long " * 100 + "end"}, {"text": "b"}]
    for name, pack in {"data.jsonl": bytes, **PACKED}.items():
        path = write(tmp_path, pack(lines(*found)), name)
        assert [(row.line, row.text) for row in read(path)] == [(n, row["text"]) for n, row in enumerate(found, 1)]


def test_a_parquet_file_that_is_cut_is_refused(tmp_path):
    path = tmp_path / "data.parquet"
    parquet.write_table(arrow.table({"text": [f"row {n}" for n in range(9)]}), path)
    content = path.read_bytes()
    for end in range(1, len(content), 7):
        with pytest.raises(BadData, match=r"data\.parquet: is no readable Parquet file"):
            read(write(tmp_path, content[:end], path.name))


def test_a_parquet_page_that_is_not_as_it_was_written_is_refused(tmp_path):
    path = tmp_path / "data.parquet"
    table = arrow.table({"text": [f"row {n}" for n in range(9)]})
    parquet.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True)
    path.write_bytes(path.read_bytes().replace(b"row 5", b"row 7", 1))
    with pytest.raises(BadData, match=r"data\.parquet: cannot be read: .*CRC checksum"):
        read(path)


def test_a_damaged_parquet_file_is_refused(tmp_path):
    with pytest.raises(BadData, match="is no readable Parquet file"):
        read(write(tmp_path, b"PAR1 something else", "data.parquet"))


def test_a_parquet_file_without_our_columns_says_what_it_has(tmp_path):
    parquet.write_table(arrow.table({"body": ["a"]}), tmp_path / "data.parquet")
    with pytest.raises(
        BadData, match=r"data\.parquet:1: no field .*: it has 'body'.* add 'columns: \{text: body\}' beside the uri"
    ):
        read(tmp_path / "data.parquet")
