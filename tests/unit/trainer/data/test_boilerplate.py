"""Passages that many training documents have count for nothing where a held-out text has others of its own (C)."""

import random

import pytest
from tests.unit.trainer.training_overlap import overlaps

RNG = random.Random(5)
WORDS = [f"w{n}" for n in range(30_000)]


def words(count: int) -> str:
    return " ".join(RNG.choices(WORDS, k=count))


LICENCE, OWN, OTHER = words(150), words(100), words(100)
LICENSED = [f"{LICENCE} {words(80)}" for _ in range(200)]


def changed(document: str, rate: float) -> str:
    return " ".join(RNG.choice(WORDS) if RNG.random() < rate else word for word in document.split())


def test_c_two_files_that_share_only_a_licence_are_no_overlap_and_the_file_says_so(tmp_path):
    found = overlaps(tmp_path, train=LICENSED, held=[f"{LICENCE} {OWN}"])
    assert found[0] | {"held": "", "training": ""} == {
        "held": "", "training": "", "rule": "contained", "share": 0.593,
        "discounted": "59% of its text stands in 32 training documents or more, and 40% in none", "shareOfRest": 0.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "train", "held"),
    [
        ("scraped hundreds of times", [f"{OWN} {words(30)}" for _ in range(300)], OWN),
        ("scraped and edited", [changed(f"{LICENCE} {OWN}", 0.05) for _ in range(300)], f"{LICENCE} {OWN}"),
        ("scraped, and edited here", [OWN + words(9) for _ in range(300)], changed(OWN, 0.06)),
        ("scraped, with a sentence more here", [OWN + words(9) for _ in range(300)], f"{OWN} {words(20)}"),
        ("its own part stands elsewhere", [*LICENSED, f"{words(300)} {OWN}"], f"{LICENCE} {OWN}"),
        ("most of its own part", [*LICENSED, f"{words(300)} {OWN}"], f"{LICENCE} {OWN} {words(40)}"),
        ("half of the rest", [*LICENSED, f"{LICENCE[:400]} {OWN}"], f"{LICENCE[:400]} {OWN} {words(95)}"),
        ("the other half is copied", [*LICENSED, OWN], f"{LICENCE[: len(OWN)]} {OWN}"),
        ("the licence alone", LICENSED, LICENCE),
        ("mostly the licence", LICENSED, f"{LICENCE} {words(30)}"),
        ("in 31 documents", LICENSED[:31], f"{LICENCE} {OWN}"),
        ("one document, hundreds of times", [f"{LICENCE} {OTHER}"] * 300, f"{LICENCE} {OWN}"),
        ("the same licence, and the whole of it", [*LICENSED, f"{LICENCE} {OWN}"], f"{LICENCE} {OWN}"),
        ("a page in a book", [*LICENSED, f"{LICENCE} {OWN}"], f"{words(900)} {OWN} {LICENCE}"),
    ],
    ids=lambda value: value if isinstance(value, str) and " w" not in value else "",
)
def test_c_what_is_known_otherwise_is_found_however_common_the_rest(tmp_path, name, train, held):
    assert "discounted" not in overlaps(tmp_path, train=train, held=[held])[0]


def test_c_a_licence_that_is_a_document_is_no_part_of_what_carries_it(tmp_path):
    licences = [f"{LICENCE} copyright {words(3)}" for _ in range(60)]
    found = overlaps(tmp_path, train=[*licences, *LICENSED], held=[f"{LICENCE} {words(600)}"])
    assert (found[0]["rule"], "discounted" in found[0]) == ("part", True)


FORM = [words(30) for _ in range(20)]


def filled(answer: int) -> str:
    return " ".join(f"{question} {words(answer)}" for question in FORM)


def test_a_form_is_judged_whole_where_nothing_in_it_is_a_passage_of_its_own(tmp_path):
    found = overlaps(tmp_path, train=[filled(2) for _ in range(100)], held=[filled(2)])
    assert "discounted" not in found[0]


def test_a_form_with_long_answers_is_no_overlap_of_another(tmp_path):
    found = overlaps(tmp_path, train=[filled(12) for _ in range(100)], held=[filled(12)])
    assert "discounted" in found[0]


def test_c_in_chats_the_conversation_counts_once_and_its_answers_are_told_apart(tmp_path):
    def chats(answer) -> list[dict]:
        said = [("hello", f"{LICENCE} {answer()}", "and again?", f"{LICENCE} {answer()}") for _ in range(100)]
        roles = ("user", "assistant") * 2
        return [
            {"messages": [{"role": r, "content": c} for r, c in zip(roles, one, strict=True)]} for one in said
        ]  # fmt: skip

    held = [f"{LICENCE} {OWN}"]
    assert "discounted" in overlaps(tmp_path, train=[], chats=chats(lambda: words(50)), held=held)[0]
    copied = [*chats(lambda: words(50)), *chats(lambda: OWN)[:1]]
    assert "discounted" not in overlaps(tmp_path, train=[], chats=copied, held=held)[0]


def test_a_hundred_held_out_files_of_one_licence_are_each_judged(tmp_path):
    held = [f"{LICENCE} {words(100)}" for _ in range(100)]
    found = overlaps(tmp_path, train=[*LICENSED, held[7], held[93].split(maxsplit=150)[-1]], held=held)
    assert sorted(number for number, row in found.items() if "discounted" not in row) == [7, 93]
    assert len(found) == 100


def test_the_verdict_depends_on_no_order_and_no_number_of_processes(tmp_path):
    held = [f"{LICENCE} {OWN}", f"{LICENCE} {OTHER}"]
    train = [*LICENSED, f"{words(50)} {OTHER}"]
    shuffled = RNG.sample(train, len(train))

    def verdicts(rows: list[str], workers: int) -> list[tuple]:
        found = overlaps(tmp_path, train=rows, held=held, workers=workers)
        return [(n, "discounted" in row, row["rule"], row.get("shareOfRest")) for n, row in found.items()]

    assert verdicts(train, 1) == verdicts(train, 2) == verdicts(shuffled, 1)
