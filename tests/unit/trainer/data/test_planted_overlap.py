"""What is found of real held-out text that was planted in training data, and what is falsely found: the table of
docs/data.md, whose figures this computes (invariant C).
"""

import json
import random
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
from tests.unit.trainer.training_overlap import overlaps

ROOT = Path(__file__).parents[4]
PAGE = ROOT / "docs" / "data.md"
SECTION = re.compile(r"^ {3}\d\. (.*?)(?=^ {3}\d\. |^ {3}END OF)", re.M | re.S)
HEADER = re.compile(r"^ {3}Licensed under.*", re.M | re.S)
TRADITIONAL = str.maketrans(
    "蝉隐难饱劳费声断树无犹园芜烦举归门钟鸣昼渔头争随余开烟庞处栖岩长径来风凄凉宝剑羁穷黄叶楼旧缘丰销几缕劝时须",
    "蟬隱難飽勞費聲斷樹無猶園蕪煩舉歸門鐘鳴晝漁頭爭隨餘開煙龐處棲巖長徑來風淒涼寶劍羈窮黃葉樓舊緣豐銷幾縷勸時須",
)
"""For the first four poems."""


def sample(name: str) -> list[str]:
    text = resources.files("slipway_trainer.samples").joinpath(name).read_text(encoding="utf-8")
    return [json.loads(line)["text"] for line in text.splitlines()]


POEMS, OTHER_POEMS = sample("tang-held-out.jsonl"), sample("tang.jsonl")
LICENCE = (ROOT / "LICENSE").read_text(encoding="utf-8")
CLAUSES = SECTION.findall(LICENCE)
HELD = [*POEMS, *CLAUSES]
FOOT = HEADER.findall(LICENCE)[0]


def replaced(every: int) -> Callable[[str], str]:
    """Every so many words, or characters of a poem, are others."""

    def change(text: str) -> str:
        parts = re.findall(r"[a-zA-Z]+|[^a-zA-Z]", text)
        wordlike = [n for n, part in enumerate(parts) if part.isalpha()]
        for count, place in enumerate(wordlike):
            if count % every == every // 2:
                parts[place] = "otherwise" if parts[place].isascii() else chr(0x6000 + count)
        return "".join(parts)

    return change


def shuffled_lines(text: str) -> str:
    lines = re.split(r"(?<=[.。;；，,])\s+", text)
    return "\n".join(random.Random(3).sample(lines, len(lines)))


def rewrapped(text: str) -> str:
    return re.sub(r"(\S{1,7})\s*", r"\1\n", text) if "。" in text else "\n".join(text.split())


AROUND = "\n".join(OTHER_POEMS[:20])
SAID = "Please read this, and tell me what it says: {}"

PLANTED: dict[str, Callable[[str], object]] = {
    "word for word": lambda text: text,
    "with other line breaks": rewrapped,
    "in capitals": str.upper,
    "without punctuation": lambda text: re.sub(r"[^\w\s]", "", text),
    "quoted by the user of a chat": lambda text: {
        "messages": [{"role": "user", "content": SAID.format(text)}, {"role": "assistant", "content": "It says much."}]
    },
    "the answer of a chat": lambda text: {
        "messages": [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": text}]
    },
    "inside a longer document": lambda text: f"{AROUND}\n{text}\n{AROUND[::-1]}",
    "below a licence of a hundred words": lambda text: f"{FOOT}\n{text}",
    "its sentences in another order": shuffled_lines,
    "its first two thirds": lambda text: text[: len(text) * 2 // 3],
    "its first third": lambda text: text[: len(text) // 3],
    "one word in 20 replaced": replaced(20),
    "one word in 10 replaced": replaced(10),
    "one word in 5 replaced": replaced(5),
    "every second word replaced": replaced(2),
    "in the other Chinese script (four poems)": lambda text: text.translate(TRADITIONAL),
}


def found(folder: Path, planted: Callable[[str], object], held: list[str]) -> str:
    rows = [planted(text) for text in held]
    texts = [row for row in rows if isinstance(row, str)]
    chats = [row for row in rows if not isinstance(row, str)]
    count = len(overlaps(folder, train=[*OTHER_POEMS, *texts], chats=chats, held=held))
    return f"{count} of {len(held)}"


def table(heading: str) -> dict[str, list[str]]:
    """Returns the cells of a table of the page by the first of each row."""
    lines = PAGE.read_text(encoding="utf-8").split(f"| {heading} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {first: rest for first, *rest in cells}


@pytest.mark.parametrize("case", PLANTED)
def test_c_what_is_found_of_planted_text_is_what_the_page_says(tmp_path, case):
    poems, clauses = table("Planted in the training data")[case]
    if "four poems" in case:
        assert (found(tmp_path, PLANTED[case], POEMS[:4]), clauses) == (poems, "")
        return
    assert [found(tmp_path, PLANTED[case], held) for held in (POEMS, CLAUSES)] == [poems, clauses]


def filled_in(name: str) -> str:
    return FOOT + f"Copyright {name}, all rights reserved by {name}"


LICENSED = [f"{poem}\n{FOOT}" for poem in OTHER_POEMS]

OTHERS: dict[str, tuple[list[str], list[str]]] = {
    "other poems of the same poets and time": (POEMS, OTHER_POEMS),
    "other clauses of the same licence": (CLAUSES[::2], CLAUSES[1::2]),
    "other poems below the same licence of 78 words, 273 of them": ([f"{text}\n{FOOT}" for text in POEMS], LICENSED),
    "the same, 20 of them": ([f"{text}\n{FOOT}" for text in POEMS], LICENSED[:20]),
    "the same form with another name in it": (["Ann Lee", "Bob Ray"], ["Cy Poe"] * 40),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_falsely_found_is_what_the_page_says(tmp_path, case):
    held, train = OTHERS[case]
    if "form" in case:
        held, train = [filled_in(name) for name in held], [filled_in(name) for name in train]
    rows = overlaps(tmp_path, train=train, held=held).values()
    refused = sum("discounted" not in row for row in rows)
    discounted = len(rows) - refused
    assert table("Not planted: the training data has")[case] == [f"{refused} of {len(held)}", str(discounted)]


def test_every_row_of_the_page_is_computed():
    assert list(table("Planted in the training data")) == list(PLANTED)
    assert list(table("Not planted: the training data has")) == list(OTHERS)
