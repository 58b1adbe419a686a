"""What a model is asked to prove that it is served as it was judged: public texts, and conversations made for it.

Nothing of it is anybody's held-out data. The texts are old and in the public domain; they stand in the order in which
they are taken until a record has enough tokens, languages in turns.
"""

from __future__ import annotations

from typing import Final

CHATS: Final[dict[str, list[dict[str, str]]]] = {
    "chat-question": [{"role": "user", "content": "What is the capital of France?"}],
    "chat-turns": [
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hello. How can I help?"},
        {"role": "user", "content": "Count to three."},
    ],
    "chat-chinese": [{"role": "user", "content": "请用一句话介绍长城。"}],
    "chat-system": [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": "Why is the sky blue?"},
    ],
    "chat-lines": [{"role": "user", "content": "  Sort these:\n\n- pear\n- fig\n- apple\n"}],
}

TEXTS: Final[dict[str, str]] = {
    "declaration": (
        "We hold these truths to be self-evident, that all men are created equal, that they are "
        "endowed by their Creator with certain unalienable Rights, that among these are Life, "
        "Liberty and the pursuit of Happiness."
    ),
    "analects": "子曰：学而时习之，不亦说乎？有朋自远方来，不亦乐乎？人不知而不愠，不亦君子乎？",
    "austen": (
        "It is a truth universally acknowledged, that a single man in possession of a good "
        "fortune, must be in want of a wife."
    ),
    "laozi": "道可道，非常道；名可名，非常名。无名，天地之始；有名，万物之母。",
    "melville": (
        "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money "
        "in my purse, and nothing particular to interest me on shore, I thought I would sail about "
        "a little and see the watery part of the world."
    ),
    "mencius": "孟子曰：鱼，我所欲也；熊掌，亦我所欲也。二者不可得兼，舍鱼而取熊掌者也。",
    "lincoln": (
        "Four score and seven years ago our fathers brought forth on this continent, a new nation, "
        "conceived in Liberty, and dedicated to the proposition that all men are created equal."
    ),
    "sunzi": "孙子曰：兵者，国之大事，死生之地，存亡之道，不可不察也。知彼知己，百战不殆。",
    "carroll": (
        "Alice was beginning to get very tired of sitting by her sister on the bank, and of having "
        "nothing to do: once or twice she had peeped into the book her sister was reading, but it "
        "had no pictures or conversations in it."
    ),
    "zhuangzi": "北冥有鱼，其名为鲲。鲲之大，不知其几千里也。化而为鸟，其名为鹏。",
    "dickens": (
        "It was the best of times, it was the worst of times, it was the age of wisdom, it was the "
        "age of foolishness, it was the epoch of belief, it was the epoch of incredulity, it was "
        "the season of Light."
    ),
    "code": (
        "def mean(values):\n    total = 0\n    for value in values:\n        total += value\n    "
        "return total / len(values)\n"
    ),
    "hugo": (
        "Tant qu'il existera, par le fait des lois et des mœurs, une damnation sociale, des livres "
        "de la nature de celui-ci pourront ne pas être inutiles."
    ),
    "darwin": (
        "There is grandeur in this view of life, with its several powers, having been originally "
        "breathed into a few forms or into one; and that, from so simple a beginning endless forms "
        "most beautiful have been evolved."
    ),
    "goethe": (
        "Habe nun, ach! Philosophie, Juristerei und Medizin, und leider auch Theologie durchaus "
        "studiert, mit heißem Bemühn."
    ),
    "figures": "1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144; 3.14159, 2.71828, 1.41421, 1.61803.",
}
