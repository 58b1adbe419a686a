"""What becomes of files as people have them, through all of prepare: read for what they say, or refused with the file,
the line, the value and what to do; no traceback, and nothing guessed in silence.
"""

import gzip
import io
import json
import re
from dataclasses import dataclass, field
from typing import Any

import pyarrow as arrow
import pytest
import zstandard
from pyarrow import parquet
from tests.unit.trainer.plans_of_data import causal, chatting, plan, workspace

from slipway_trainer.batches.shards import Shards
from slipway_trainer.prepare import prepare
from slipway_trainer.step.errors import BadData
from slipway_trainer.tokens import tokenizer


def rows(*found: Any) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in found)


def texts(*found: str) -> bytes:
    return rows(*({"text": text} for text in found))


def chats(*turns: Any, **fields: Any) -> bytes:
    """A good conversation, and one of these turns: role and content, or a message."""
    messages = [turn if isinstance(turn, dict) else dict(zip(("role", "content"), turn, strict=True)) for turn in turns]
    good = {"messages": [{"role": "user", "content": "hello?"}, {"role": "assistant", "content": "yes"}]}
    return rows(good, {"messages": messages, **fields})


def calls(arguments: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}


def columnar(table: arrow.Table) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(table, sink)
    return sink.getvalue()


FINE = texts("a first text", "a second one")
ASKED, SAID = ("user", "who?"), ("assistant", "nobody")
TEMPLATE = (
    "{% for message in messages %}{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}"
    "<{{ message.role }}>{{ message.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@dataclass
class Case:
    content: bytes
    message: str = ""
    """What it is refused with; it is learned where there is none."""
    learned: list[str] = field(default_factory=list)
    """Texts of a file that is learned, with what the template puts around them."""
    name: str = "a.jsonl"
    settings: dict[str, Any] = field(default_factory=dict)
    workers: int = 1
    said: str = ""

    @property
    def chat(self) -> bool:
        return b'"messages"' in self.content or "chat" in self.name


def rendered(*turns: tuple[str, str]) -> str:
    return "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)


DEEP = b"[" * 1000 + b"]" * 1000
HELLO = rendered(("user", "hello?"), ("assistant", "yes"))
BOTH = ["a first text", "a second one"]
CASES = {
    "Windows-1252": Case(
        FINE + '{"text": "café"}'.encode("cp1252"),
        r"a\.jsonl:3: not UTF-8: byte 0xe9 at 14\. Save the file as UTF-8; in Windows-1252 it would say .*café",
    ),
    "UTF-16": Case(
        FINE.decode().encode("utf-16"), r"a\.jsonl:1: not UTF-8: byte 0xff at 1\. .*UTF-16; save it as UTF-8"
    ),
    "UTF-16 without a mark": Case(
        FINE.decode().encode("utf-16-le"), r"a\.jsonl:1: not JSON.*a file in UTF-16 has: save it"
    ),
    "a byte order mark": Case(b"\xef\xbb\xbf" + FINE, learned=BOTH),
    "files with marks, one behind the other": Case(FINE + b"\xef\xbb\xbf" + FINE, learned=BOTH * 2),
    "CRLF": Case(FINE.replace(b"\n", b"\r\n"), learned=BOTH),
    "CR alone": Case(FINE.replace(b"\n", b"\r"), r"a\.jsonl:1: not JSON: .*carriage returns alone: save the file with"),
    "NUL": Case(FINE + texts("a\0b"), r"a\.jsonl:3: text has a NUL character at character 2\. Remove it"),
    "a raw NUL": Case(FINE + b'{"text": "a\0b"}', r"a\.jsonl:3: not JSON: .*a\\x00b.* It has NUL bytes"),
    "half a character": Case(
        FINE + b'{"text": "a\\ud83d"}', r"a\.jsonl:3: text has a lone surrogate \(\\ud83d\) .*Write the file again"
    ),
    "half a character in a tool": Case(
        chats(ASKED, SAID, tools=[{"name": "fff"}]).replace(b"fff", b"f\\ud83d"),
        r"a\.jsonl:2: tools has a lone surrogate \(\\ud83d\)",
    ),
    "a line of 100 MB": Case(
        FINE + b'{"text": "' + b"word " * 20_000_000 + b'"}\n',
        r"a\.jsonl:3: the row has 16,777,216 or more bytes, and 16,777,216 are the most.*Split it into documents",
    ),
    "a line of 100 MB without an end": Case(
        FINE + b'{"text": "' + b"a" * 100_000_000, r"a\.jsonl:3: the row has 16,777,216 or more bytes"
    ),
    "NaN in a field that is not used": Case(
        b'{"text": "a first text", "score": NaN}\n{"text": "a second one", "score": -Infinity}',
        learned=BOTH,
        said="a.jsonl: the field 'score' of 2 rows is not used",
    ),
    "NaN for a text": Case(FINE + b'{"text": NaN}', r"a\.jsonl:3: text is NaN; it must be a string"),
    "NaN in arguments": Case(
        chats(ASKED, calls({"a": float("nan")})),
        r"a\.jsonl:2: the arguments of tool call 1 of turn 2 \(assistant\) has NaN .*which JSON has not\. Write null",
    ),
    "Infinity in arguments as text": Case(
        chats(ASKED, calls('{"a": Infinity}')),
        r"a\.jsonl:2: the arguments .* has Infinity, which JSON has not\. Write null",
    ),
    "a key twice": Case(
        FINE + b'{"text": "a", "text": "b"}', r'a\.jsonl:3: the key "text" stands twice .*Keep one of the two'
    ),
    "a key twice in a turn": Case(
        chats(ASKED, SAID).replace(b'"content": "nobody"', b'"content": "nobody", "content": "me"'),
        r'a\.jsonl:2: the key "content" stands twice in one object',
    ),
    "nested 1,000 deep in arguments as text": Case(
        chats(ASKED, calls('{"a":' * 1000 + "1" + "}" * 1000)),
        r"a\.jsonl:2: the arguments .*\{.*nested too deeply",
    ),
    "nested 300 deep, which a short stack still reads": Case(
        chats(ASKED, calls('{"a":' * 300 + "1" + "}" * 300)), r"a\.jsonl:2: the arguments .*\{.*nested too deeply"
    ),
    "nested 100,000 deep": Case(
        FINE + b'{"text": "a", "more": ' + DEEP[:1000] * 100 + DEEP[1000:] * 100 + b"}",
        r"a\.jsonl:3: not a row: brackets are nested too deeply\. Write what is in them as one string",
    ),
    "gz that is cut": Case(
        gzip.compress(FINE * 50)[:-9], r"a\.jsonl\.gz: .* after line \d+: .*Copy the file again", name="a.jsonl.gz"
    ),
    "zst that is cut": Case(
        zstandard.compress(FINE * 50)[:-5], r"a\.jsonl\.zst: .* after line 0: .*Copy the file again", name="a.jsonl.zst"
    ),
    "gz by another name": Case(gzip.compress(FINE), r"a\.jsonl:1: not UTF-8: .*packed: end its name in \.gz or \.zst"),
    "a pointer of Git LFS": Case(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", r"a\.jsonl:1: not JSON.*git lfs pull"
    ),
    "CSV with a value too few": Case(
        b"text,id\na first text,1\nshort\n",
        r'a\.csv:3: the row has 1 values and .* 2 columns\. It begins with "short"; put',
        name="a.csv",
    ),
    "CSV with a value too many": Case(
        b"text,id\na,1\nb,2,3\n", r"a\.csv:3: the row has 3 values and .* 2 columns", name="a.csv"
    ),
    "Parquet of structs": Case(
        columnar(arrow.Table.from_pylist([json.loads(line) for line in chats(ASKED, SAID).splitlines()])),
        name="chat.parquet",
        learned=[HELLO, rendered(ASKED, SAID)],
    ),
    "Parquet of large strings": Case(
        columnar(arrow.table({"text": arrow.array(BOTH, arrow.large_string())})), name="a.parquet", learned=BOTH
    ),
    "Parquet with a struct for a text": Case(
        columnar(arrow.Table.from_pylist([{"text": {"a": "b"}}])),
        r'a\.parquet:1: text is \{"a": "b"\}; it must be a string',
        name="a.parquet",
    ),
    "an empty answer": Case(
        chats(ASKED, ("assistant", " ")), r"a\.jsonl:2: turn 2 is an empty assistant turn.* Fill it in"
    ),
    "only a system turn": Case(
        chats(("system", "Be kind.")), r"a\.jsonl:2: no assistant turn: .*Add one, or remove the row"
    ),
    "two system turns": Case(
        chats(("system", "Be kind."), ("system", "Be short."), ASKED, SAID),
        learned=[HELLO, rendered(("system", "Be kind."), ("system", "Be short."), ASKED, SAID)],
    ),
    "the user last": Case(
        chats(ASKED, SAID, ("user", "really?")),
        learned=[HELLO, rendered(ASKED, SAID)],
        said="1 with turns after the last answer, which were left out",
    ),
    "roles out of order for a template that raises": Case(
        chats(ASKED, ASKED, SAID), r"a\.jsonl:2: .*roles must alternate user/assistant", settings={"template": TEMPLATE}
    ),
    "a tool result without a call": Case(
        chats(ASKED, ("tool", "42"), SAID),
        learned=[HELLO, rendered(ASKED, ("tool", "<tool_response>\n42\n</tool_response>"), SAID)],
    ),
    "arguments that are no JSON": Case(
        chats(ASKED, calls("{oops")),
        r'a\.jsonl:2: the arguments .* is "\{oops", which is no JSON\. Write it as JSON, or',
    ),
    "a picture": Case(
        chats(("user", [{"type": "image_url", "image_url": {"url": "x"}}]), SAID),
        r'a\.jsonl:2: the content of turn 1 \(user\) has a part of type "image_url": .*remove the row',
    ),
    "another form in the middle": Case(
        chats(ASKED, SAID) + rows({"instruction": "a", "output": "b"}) + chats(ASKED, SAID),
        r"a\.jsonl:3: the row is Alpaca and line 1 is Messages: .*a file of their own",
    ),
    "0 rows": Case(b"\n \n", r"a\.jsonl: is empty\. Give it rows, or take it out"),
    "texts that say nothing": Case(
        texts("") + FINE + texts(" \n", ""),
        learned=BOTH,
        settings={"deduplicate": "Near"},
        said="a.jsonl: rows whose text is empty, or white space alone, are left out: 3",
    ),
    "0 texts that say something": Case(
        texts("", " "), r"its train data holds no row that says anything \(file:///.*a\.jsonl\)\. Give it"
    ),
    "0 rows after those that are too long": Case(
        texts("long " * 200),
        r"stage pretrain: all 1 rows .* longer than maxLength 64, and tooLong: Drop .*Raise maxLength",
        settings={"tooLong": "Drop"},
    ),
    "0 conversations whose answer fits": Case(
        rows({"messages": [{"role": "user", "content": "long " * 200}, {"role": "assistant", "content": "no"}]}),
        r"stage sft: no answer of the 1 conversations .* within maxLength 64 \(.*a\.jsonl:1\)\. Raise maxLength",
    ),
    "fewer rows than processes": Case(FINE, learned=BOTH, workers=3),
    "one row": Case(texts("a first text"), learned=["a first text"]),
    "a fraction of one row": Case(
        texts("a first text"),
        r"data\.validation\.fraction 0\.01: a single distinct document .*Add documents, or take",
        settings={"validation": {"fraction": 0.01}},
    ),
    "a fraction that rounds to none": Case(
        texts(*BOTH), learned=["", ""], settings={"validation": {"fraction": 0.01}}, said="pretrain/validation: 1 rows"
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_file_as_people_have_it_is_learned_as_it_says_or_refused_with_what_to_do(tmp_path, name):
    case = CASES[name]
    settings = dict(case.settings)
    validation, template = settings.pop("validation", None), settings.pop("template", None)
    deduplicate = settings.pop("deduplicate", None)
    (tmp_path / case.name).write_bytes(case.content)
    stage = (chatting if case.chat else causal)(f"file://{tmp_path / case.name}") | settings
    if validation:
        stage["data"]["validation"] = validation
    if deduplicate:
        stage["data"]["deduplicate"] = deduplicate
    made = plan(stage, model=_base(tmp_path / "base", template) if template else None)
    found, said = workspace(tmp_path / "run", made), list[str]()
    if case.message:
        with pytest.raises(BadData, match=re.compile(case.message, re.S)):
            prepare.run(made, found, attempt=1, workers=case.workers, say=said.append)
        return
    prepare.run(made, found, attempt=1, workers=case.workers, say=said.append)
    assert case.said in "\n".join(said)
    words, shards = tokenizer.load(found), Shards.open(found.stage(stage["name"]).data("train"))
    learned = [
        words.decode(shards.document(n)[0]).removeprefix("<s>").removesuffix("</s>") for n in range(shards.n_documents)
    ]
    if validation:
        assert len(learned) == len(case.learned) - 1
    else:
        assert [text.strip() for text in learned] == [text.strip() for text in case.learned]


def _base(folder: Any, template: str) -> dict[str, Any]:
    words = tokenizer.train([FINE.decode()] * 10, vocabulary=300, max_length=64)
    words.chat_template = template
    tokenizer.save(words, folder)
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 64}))
    return {"from": f"file://{folder}"}
