"""A file of every kind holds the same rows, each with the line on which it begins, whole or refused."""

import gzip
import io
import json

import pyarrow as arrow
import pytest
import zstandard
from pyarrow import parquet

from slipway_trainer.data import rows
from slipway_trainer.data.reading import blocks, compression, delimited, json_array, json_lines, plain_text, row_range
from slipway_trainer.data.reading import columnar as columnar_kind
from slipway_trainer.data.reading.block import BLOCK_BYTES, Reading
from slipway_trainer.step.errors import BadData

TEXTS = [f'poem {n} 床前明月光, "quoted"\nand a second line' for n in range(40)]


def read(path, parse=rows.documents, reading=None):
    return [row for block in blocks.blocks(path, path.name, reading) for row in parse(block)]


def csv_of(texts, separator=","):
    quoted = "".join('"' + text.replace('"', '""') + f'"{separator}7\n' for text in texts)
    return f"text{separator}id\n{quoted}".encode()


def columnar(write):
    sink = io.BytesIO()
    write(arrow.Table.from_pylist([{"text": text} for text in TEXTS]), sink)
    return sink.getvalue()


def ipc(new):
    def write(table, sink):
        with new(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=11)

    return columnar(write)


KINDS = {
    "data.jsonl": "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode(),
    "data.json": json.dumps([{"text": text} for text in TEXTS], indent=2, ensure_ascii=False).encode(),
    "flat.json": json.dumps([{"text": text} for text in TEXTS]).encode(),
    "lines.json": "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode(),
    "data.csv": csv_of(TEXTS),
    "data.tsv": csv_of(TEXTS, "\t"),
    "data.parquet": columnar(parquet.write_table),
    "data.arrow": ipc(arrow.ipc.new_file),
    "stream.arrow": ipc(arrow.ipc.new_stream),
}
PACKED = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_every_kind_holds_the_same_rows(tmp_path, monkeypatch, name, packed):
    for kind in (json_array, delimited, plain_text):
        monkeypatch.setattr(kind, "BLOCK_BYTES", 200)
    path = tmp_path / (name + packed)
    path.write_bytes(PACKED[packed](KINDS[name]))
    assert [row.text for row in read(path)] == TEXTS


def test_rows_have_the_line_on_which_they_begin(tmp_path):
    for name, lines in (("data.json", [2, 5, 8]), ("data.csv", [2, 4, 6])):
        path = tmp_path / name
        path.write_bytes(KINDS[name])
        assert [row.line for row in read(path)][:3] == lines


@pytest.mark.parametrize("packed", PACKED)
def test_a_text_file_is_a_document_or_one_a_paragraph(tmp_path, packed):
    path = tmp_path / f"data.txt{packed}"
    path.write_bytes(PACKED[packed]("\ufeff  a\r\nb\r\n \n\n\nc\n  d".encode()))
    assert [(row.line, row.text) for row in read(path)] == [(1, "  a\r\nb\r\n \n\n\nc\n  d")]
    paragraphs = read(path, reading=Reading(documents="Paragraph"))
    assert [(row.line, row.text) for row in paragraphs] == [(1, "  a\r\nb"), (6, "c\n  d")]


def test_an_empty_value_of_a_table_says_nothing(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text('instruction,input,output\na,,b\n"c, d",e,f\n\n')
    found = read(path, rows.conversations)
    assert [[turn.content for turn in row.turns] for row in found] == [["a", "b"], ["c, d\n\ne", "f"]]


BAD = [
    ("data.csv", b"text,id\na,1\nb\n", r"data\.csv:3: the row has 1 values and the first line names 2 columns"),
    ("data.csv", b'text,id\n"a,1\n', r"data\.csv:2: not a row: unexpected end of data\. .*check the quotes"),
    ("data.csv", b"text,id\ra,1\r", r"data\.csv:1: not a row: .*carriage returns alone: save the file with line feeds"),
    ("data.csv", b"text,text\na,b\n", "has two columns 'text'"),
    ("data.csv", b"question;answer\na;b\n", r'first line is one column, .* which holds ";"\. Columns are parted by'),
    ("data.tsv", b"question,answer\na,b\n", r'which holds ","\. Columns are parted by commas, and by tabs in a .tsv'),
    ("data.csv", b"text\na\xff\n", r"data\.csv:2: not UTF-8: byte 0xff at 2"),
    ("data.csv", "text\na\n".encode("utf-16"), r"looks like UTF-16"),
    ("data.csv", "text\na\n".encode("utf-16-le"), r"data\.csv:1: a NUL character.*UTF-16"),
    ("data.csv", b"text,id\n", "is empty"),
    ("data.json", b'[{"text": "a"},\n {"text": "b"', r"data\.json:2: not JSON: Expecting ',' delimiter, near .*b"),
    ("data.json", b'[{"text": "a"}', r"data\.json:1: the list has no end: \] is missing"),
    ("data.json", b'[{"text": "a"} {"text": "b"}]', r"data\.json:1: elements of a list are separated by commas"),
    ("data.json", b'{\n "data": [\n  {"text": "a"}\n ]\n}', r"data\.json:1: the file is one object of several lines"),
    ("data.json", b'{"data": [\n{"text": "a"}]}', r"data\.json:1: the file is one object of several lines"),
    ("data.json", b'[{"text": "a"}]\n{}', r"data\.json:2: something stands after the list"),
    ("data.json", b'[{"text": "a"},\n{"text": "b", "text": "c"}]', r'data\.json:2: the key "text" stands twice'),
    ("data.json", b'[{"text": "a\nb"}]', "not JSON: Invalid control character"),
    ("data.json", b'[\n{"text": "\xff"}]', "not UTF-8"),
    ("data.json", b"[]", "is empty"),
    ("data.json", b'[\n1]', r"data\.json:2: a row must be an object"),
    ("data.json", b"[" * 100_000, "brackets are nested too deeply"),
    ("data.txt", b"a\xe9b", r"data\.txt:1: not UTF-8: byte 0xe9 at 2\. Save the file as UTF-8"),
    ("data.txt", b" \n", "is empty"),
    ("data.txt", b"a\0", "text has a NUL character"),
    ("data.arrow", b"ARROW1 no", "is no readable Arrow file"),
    ("data.arrow", b"", "is no readable Arrow file"),
    ("data.arrow", KINDS["stream.arrow"][:-200], "is no readable Arrow file"),
    ("data.arrow", KINDS["data.arrow"][:-9], "is no readable Arrow file"),
    ("data.arrow", KINDS["stream.arrow"][:-200] + KINDS["stream.arrow"][-8:], "cannot be read|no readable"),
    ("data.parquet.gz", gzip.compress(KINDS["data.parquet"])[:-9], "cannot be unpacked after"),
    ("data.csv.zst", zstandard.compress(KINDS["data.csv"])[:-9], "cannot be unpacked after line"),
    ("data.json.gz", gzip.compress(KINDS["data.json"])[:-9], "cannot be unpacked after line"),
    ("data.txt.gz", gzip.compress(b"a" * 99)[:-9], "cannot be unpacked after line"),
]  # fmt: skip


# A packed file holds the time at which it was made, and processes that share the tests have to name them alike.
@pytest.mark.parametrize(("name", "content", "message"), BAD, ids=range(len(BAD)))
def test_a_file_that_is_not_whole_or_not_what_its_name_says_is_refused(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadData, match=message):
        read(path)


def test_an_element_that_is_longer_than_what_is_read_at_once_is_one_row(tmp_path, monkeypatch):
    monkeypatch.setattr(json_array, "BLOCK_BYTES", 16)
    path = tmp_path / "data.json"
    found = [{"text": "a\\ud83d\\u00e9 \\" * 50 + "诗"}, {"text": "b", "n": 12345678901234567890}, {"text": "c"}]
    path.write_bytes(json.dumps(found, ensure_ascii=False).encode())
    assert [row.text for row in read(path)] == [row["text"] for row in found]


def test_a_stream_that_is_cut_between_two_batches_is_refused(tmp_path):
    sink = io.BytesIO()
    table = arrow.Table.from_pylist([{"text": text} for text in TEXTS])
    writer = arrow.ipc.new_stream(sink, table.schema)
    writer.write_table(table, max_chunksize=11)
    path = tmp_path / "data.arrow"
    path.write_bytes(sink.getvalue())  # Its end was never written.
    with pytest.raises(BadData, match="is no readable Arrow file"):
        read(path)


@pytest.mark.parametrize("wanted", [(0, 40), (0, 1), (5, 30), (10, 11), (39, 99)])
@pytest.mark.parametrize("name", [*KINDS, "data.csv.gz"])
def test_some_rows_of_a_file_are_those_rows_of_all_with_their_lines(tmp_path, monkeypatch, name, wanted):
    for kind in (json_array, delimited, json_lines, columnar_kind):
        for limit in ("BLOCK_BYTES", "BLOCK_ROWS"):
            if hasattr(kind, limit):
                monkeypatch.setattr(kind, limit, 4 if limit == "BLOCK_ROWS" else 200)
    content = gzip.compress(KINDS["data.csv"]) if name.endswith(".gz") else KINDS[name]
    (tmp_path / name).write_bytes(content)
    found = read(tmp_path / name, reading=Reading(rows=wanted))
    assert found == read(tmp_path / name)[slice(*wanted)]
    assert len(found) == min(40, wanted[1]) - wanted[0]


def test_the_number_of_rows_is_that_of_what_is_read(tmp_path):
    content = b"\n".join([b"", b'{"text": "a"}', b"  ", b'{"text": "b"}', b""])
    (tmp_path / "data.jsonl").write_bytes(content)
    assert sum(map(row_range.count_of, blocks.blocks(tmp_path / "data.jsonl", "data.jsonl"))) == 2


@pytest.mark.parametrize("new", [arrow.ipc.new_file, arrow.ipc.new_stream, parquet.ParquetWriter])
def test_a_block_of_a_table_is_as_large_as_that_of_any_other_file(tmp_path, new):
    """What a process holds of a block is many times its text, and 2048 rows of a table may be long."""
    texts = [f"{n} " + "word " * 3000 for n in range(400)]
    texts[250] = "x" * (3 << 20)
    table = arrow.table({"text": texts, "body": arrow.array([text.upper() for text in texts]).dictionary_encode()})
    path = tmp_path / ("data.parquet" if new is parquet.ParquetWriter else "data.arrow")
    with new(str(path), table.schema) as writer:
        writer.write_table(table)
    found = list(blocks.blocks(path, path.name))
    assert [(row.line, row.text) for block in found for row in rows.documents(block)] == [*enumerate(texts, 1)]
    sizes = [len(block.payload) for block in found]
    assert sorted(sizes)[-2] < 2 * BLOCK_BYTES
    assert len(sizes) < 30
    # Both parts of a column whose words stand in a list have all of the list: it is not taken apart.
    body = blocks.blocks(path, path.name, Reading(columns=(("text", "body"),)))
    assert len(list(body)) < 30


BIG = "字" * (6 << 20)


@pytest.mark.parametrize(
    "table",
    [
        arrow.table({"text": [BIG]}),
        arrow.table({"messages": [[{"role": r, "content": BIG[: 3 << 20]} for r in ("user", "assistant")]]}),
        arrow.table({"prompt": [BIG[: 3 << 20]], "completion": [BIG[: 3 << 20]]}),
    ],
    ids=["text", "messages", "two columns"],
)
def test_a_row_of_a_table_may_be_as_large_as_one_of_json(tmp_path, table):
    parquet.write_table(table, tmp_path / "data.parquet")
    (tmp_path / "data.jsonl").write_text(json.dumps(table.to_pylist()[0], ensure_ascii=False), encoding="utf-8")
    for name in ("data.parquet", "data.jsonl"):
        with pytest.raises(BadData, match=rf"{name}:1: the row has .* bytes, and 16,777,216 are the most"):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "begin", "more", "line"),
    [
        ("data.jsonl", b'{"text": "a"}\n{"text": "', b"aa", 2),
        ("data.json", b'[{"text": "a"},\n{"text": "', b"aa", 2),
        ("data.txt", b"a\n", b"a" * 1023 + b"\n", 1),
        ("data.txt", b"a\n", b"aa", 2),
        ("data.csv", b"text,id\na,1\n", b"aa", 3),
    ],
)
def test_of_a_row_that_does_not_end_no_more_is_read_than_a_row_may_have(tmp_path, monkeypatch, name, begin, more, line):
    read_bytes = 0

    def endless(path, size):
        nonlocal read_bytes
        yield begin
        while read_bytes < 1 << 30:
            read_bytes += size
            yield more * (size // len(more))

    monkeypatch.setattr(compression, "chunks", endless)
    (tmp_path / name).write_bytes(begin)
    with pytest.raises(BadData, match=rf"{name}:{line}: the row has 16,777,216 or more bytes"):
        read(tmp_path / name)
    assert read_bytes < 64 << 20


PLAIN_TABS = {
    "a quote in the middle": ['say "hi" to me', "b"],
    "a value that begins with a quote": ['"Hello," she said.', "b"],
    "a quote that nothing ends": ['"and so on', "b"],
    "an inch": ['3.5"', '"'],
    "a value that begins and ends with one, beside one that does not": ['"Hello."', '"Hello," she said.'],
    "quotes that would run two rows together": ['"one', '"two"', "three"],
    "two quotes in a row": ['""', '"" said nobody', "b"],
}


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("case", PLAIN_TABS)
def test_quotes_of_a_tsv_that_quotes_nothing_are_of_its_text(tmp_path, case, ends):
    path = tmp_path / "data.tsv"
    path.write_text("id\ttext" + ends + "".join(f"{n}\t{text}{ends}" for n, text in enumerate(PLAIN_TABS[case])))
    found = read(path)
    assert [row.text for row in found] == PLAIN_TABS[case]
    assert [row.line for row in found] == [2 + n for n in range(len(found))]


QUOTED_TABS = {
    "tabs and line ends": ('1\t"a\tb"\n2\t"c\nd"\n', ["a\tb", "c\nd"]),
    "every value": ('"1"\t"say ""hi"""\n"2"\t"b"\n', ['say "hi"', "b"]),
}


@pytest.mark.parametrize("case", QUOTED_TABS)
def test_quotes_of_a_tsv_that_quotes_are_marks(tmp_path, case):
    path = tmp_path / "data.tsv"
    text, wanted = QUOTED_TABS[case]
    path.write_text("id\ttext\n" + text)
    assert [row.text for row in read(path)] == wanted


def test_lines_of_a_single_column_that_quotes_join_are_one_value(tmp_path):
    path = tmp_path / "data.tsv"
    path.write_text('text\n"a\nb"\nc\n')
    assert [(row.line, row.text) for row in read(path)] == [(2, "a\nb"), (4, "c")]


def test_a_tsv_whose_rows_are_others_by_either_reading_is_refused(tmp_path):
    path = tmp_path / "data.tsv"
    path.write_text('id\ttext\n1\tx\n2\t"begin\n3\tend"\n')
    with pytest.raises(BadData, match=r"data\.tsv:3: lines 3 to 4 are one row if .* Save it as \.jsonl, or as \.csv"):
        read(path)
