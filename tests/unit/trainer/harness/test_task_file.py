"""A task file is data: whatever could run, import or fetch something is refused, with the line or the field."""

from __future__ import annotations

import pytest

from slipway_trainer.harness import task_file
from slipway_trainer.harness.task_file import BadTaskFile

GOOD = """\
task: sums
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
tag: [mine, others]
generation_kwargs: {until: ["\\n"], max_gen_toks: 8}
metric_list:
- {metric: exact_match, aggregation: mean, higher_is_better: true}
"""


def test_a_task_file_is_read_as_the_harness_reads_it() -> None:
    found = task_file.read(GOOD)
    assert (found["task"], found["generation_kwargs"]["until"], found["tag"]) == ("sums", ["\n"], ["mine", "others"])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("process_results: !function utils.score", "line 10: has !function, which names code"),
        ("doc_to_choice: !!python/object/apply:os.system [id]", "names code, and code of a task file is never run"),
        ("metric: &a [1]\nmetadata: {version: *a}", "line 11: has an alias"),
        ("process_docs: utils.process", "process_docs: names code"),
        ("class: tasks.Mine", "class: names a class"),
        ("custom_dataset: fetch", "custom_dataset: names code that fetches rows"),
        ("unsafe_code: true", "unsafe_code: asks for code to be run"),
        ("include: ../arc/arc_easy.yaml", "include: takes another file in"),
        ("use_prompt: promptsource:*", "use_prompt: names a collection"),
        ("model: other", "model: is no field"),
        ("description: [1]", "description: is list, and a text is wanted"),
        ("metric_list: [acc]", "metric_list: is no list of metrics"),
        ("metric_list: [{aggregation: mean}]", "metric_list: has an entry without the name"),
        ("doc_to_choice: [", "is no YAML"),
    ],
)
def test_what_is_code_or_unknown_is_refused(more: str, words: str) -> None:
    with pytest.raises(BadTaskFile, match=words.replace("[", r"\[").replace("(", r"\(")):
        task_file.read(f"{GOOD}{more}\n")


@pytest.mark.parametrize("text", ["", "- task: a", "group: a", f"{GOOD}description: '{'x' * task_file.MOST_BYTES}'"])
def test_what_is_no_task_is_refused(text: str) -> None:
    with pytest.raises(BadTaskFile):
        task_file.read(text)
