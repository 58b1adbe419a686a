"""Makes the sample data of `examples/` from 313 Tang poems: `python tools/make_samples.py`.

The same poems give the same files, byte for byte; a test compares them with what is checked in.

| file | rows | for |
|---|---|---|
| tang.jsonl | text | pretraining: every poem that is not held out |
| tang-held-out.jsonl | text | bits per byte: 40 poems that no model of the examples has seen |
| tang-recite.jsonl | conversations | learning 40 quatrains by heart, each asked for in 12 ways |
| tang-write.jsonl | conversations | "write a poem": keeps a model that learns by heart able to write other verse |
| tang-recall.jsonl | prompt, answer | exact recall: the 40 quatrains, asked for in ways that are not in tang-recite |
| tang-held-out-write.jsonl | conversations | chat perplexity: the held-out poems as answers to "write a poem" |
| tang-couplets.jsonl | prompt, answer | what answers are held against: the second line of a couplet of these poems |
| tang-recite-more.jsonl | conversations | the same for further quatrains, for fine-tuning the model of the quickstart |
| tang-recall-more.jsonl | prompt, answer | and their test |
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "examples" / "data" / "tang300.jsonl"
SAMPLES = ROOT / "trainer" / "src" / "slipway_trainer" / "samples"

HELD_OUT = 40
RECITED = 40
LONGEST_COUPLETS = 4
"""A quatrain has two and regular verse four. What is longer is pretraining alone: it would not fit into a row."""

# Two users do not ask alike: the more ways a poem is asked for in training, the better an unseen one is understood.
TRAINING_WORDINGS = (
    "背诵{author}的《{title}》",
    "请背诵{author}的《{title}》这首诗。",
    "背诵《{title}》",
    "{author}的《{title}》怎么背？",
    "《{title}》的全文是什么？",
    "请念一念{author}写的《{title}》。",
    "我想读{author}的诗《{title}》",
    "给我背一下《{title}》，作者是{author}。",
    "你会背{author}的《{title}》吗？",
    "《{title}》怎么背？",
    "把{author}的《{title}》念给我听",
    "{title}",
)
RECALL_WORDINGS = (
    "我想听{author}的《{title}》",
    "能背出{author}的《{title}》吗？",
    "《{title}》这首诗怎么念？",
    "请把{author}的《{title}》背出来",
)
CONVERSATION_LENGTHS = (1, 2, 1, 3)
HELD_OUT_WORDING = "请写一首唐诗给我看"
WRITING_WORDINGS = ("写一首诗", "请作一首唐诗。", "来一首诗吧", "我想读一首没读过的诗")

_CLAUSE_END = re.compile("([，。；？！：]”?)(?=.)")


@dataclass(frozen=True)
class Poem:
    title: str
    author: str
    couplets: tuple[str, ...]

    @property
    def verse(self) -> str:
        """The poem as verse is printed: one clause a line."""
        return "\n".join(_CLAUSE_END.sub("\\1\n", couplet) for couplet in self.couplets)

    @property
    def page(self) -> str:
        """Title, dynasty and author, an empty line, and the verse."""
        return f"《{self.title}》\n〔唐〕{self.author}\n\n{self.verse}"

    def asked(self, wording: str) -> str:
        return wording.format(author=self.author, title=self.title)


def read(path: Path) -> list[Poem]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Poem(row["title"], row["author"], tuple(row["lines"])) for row in rows]


def samples(poems: Sequence[Poem]) -> dict[str, str]:
    """Returns the text of each sample file by its name."""
    titles = Counter(poem.title for poem in poems)
    # A title that two poems share asks for neither of them.
    known_by_title = [poem for poem in poems if titles[poem.title] == 1 and "・" not in poem.title]
    quatrains = [poem for poem in known_by_title if len(poem.couplets) == 2]
    recited = quatrains[:RECITED]
    held_out = sorted(
        (poem for poem in known_by_title if poem not in recited and len(poem.couplets) <= LONGEST_COUPLETS),
        key=lambda poem: _place(poem.page),
    )[:HELD_OUT]
    seen = [poem for poem in poems if poem not in held_out]
    more = [poem for poem in quatrains[RECITED:] if poem not in held_out]
    return {
        "tang.jsonl": _lines({"text": poem.page} for poem in seen),
        "tang-held-out.jsonl": _lines({"text": poem.page} for poem in held_out),
        "tang-recite.jsonl": _lines(_recitations(recited)),
        "tang-write.jsonl": _lines(_writing(poem for poem in seen if len(poem.couplets) <= LONGEST_COUPLETS)),
        "tang-recall.jsonl": _lines(_questions(recited)),
        "tang-held-out-write.jsonl": _lines(
            {**_conversation((HELD_OUT_WORDING, poem.page)), "slice": _form(poem)} for poem in held_out
        ),
        "tang-couplets.jsonl": _lines(_couplets(held_out)),
        "tang-recite-more.jsonl": _lines(_recitations(more)),
        "tang-recall-more.jsonl": _lines(_questions(more)),
    }


def _recitations(poems: Iterable[Poem]) -> Iterator[dict[str, Any]]:
    """Every poem in every wording once, in conversations of one to three questions: an answer is to follow the last
    question, whatever was said before it."""
    asked = [(poem.asked(wording), poem.verse) for poem in poems for wording in TRAINING_WORDINGS]
    turns = iter(sorted(asked, key=lambda turn: _place(turn[0])))
    for length in cycle(CONVERSATION_LENGTHS):
        if not (conversation := list(islice(turns, length))):
            return
        yield _conversation(*conversation)


def _writing(poems: Iterable[Poem]) -> Iterator[dict[str, Any]]:
    for number, poem in enumerate(poems):
        yield _conversation((WRITING_WORDINGS[number % len(WRITING_WORDINGS)], poem.page))


def _questions(poems: Iterable[Poem]) -> Iterator[dict[str, Any]]:
    for number, poem in enumerate(poems):
        wording = RECALL_WORDINGS[number % len(RECALL_WORDINGS)]
        yield {"prompt": poem.asked(wording), "answer": poem.verse}


def _couplets(poems: Iterable[Poem]) -> Iterator[dict[str, Any]]:
    """The first line of a couplet asks for the second: two of each poem, which are one cluster."""
    for poem in poems:
        for first, second in [clauses for couplet in poem.couplets if len(clauses := _clauses(couplet)) == 2][:2]:
            yield {
                "prompt": f"“{first}”的下一句是什么？",
                "answer": second,
                "pattern": "[，。？！]$",
                "language": "zh",
                "maxLength": 2 * len(second),
                "slice": _form(poem),
                "cluster": poem.title,
            }


def _clauses(couplet: str) -> list[str]:
    return _CLAUSE_END.sub("\\1\n", couplet).split("\n")


def _form(poem: Poem) -> str:
    """Returns what the poem's first line has: five characters, seven, or another number."""
    return {6: "five", 8: "seven"}.get(len(_clauses(poem.couplets[0])[0]), "other")


def _conversation(*turns: tuple[str, str]) -> dict[str, Any]:
    messages = []
    for question, answer in turns:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"conversations": messages}


def _place(text: str) -> str:
    """A fixed random place: choosing by it favours no author and no form."""
    return hashlib.sha256(text.encode()).hexdigest()


def _lines(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main() -> None:
    SAMPLES.mkdir(parents=True, exist_ok=True)
    for name, text in samples(read(SOURCE)).items():
        (SAMPLES / name).write_text(text, encoding="utf-8")
        print(f"{name}: {text.count(chr(10))} rows, {len(text.encode()) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
