"""The file of a task that the harness does not ship: what it says is taken as data, never as code.

Such a file comes from whoever wrote the plan, or from whoever can write where its URI points; the harness would run
what it names. So the fields are a list, and whatever could import, run or fetch something is refused with the field.
"""

from __future__ import annotations

from typing import Any

import yaml

MOST_BYTES = 64 << 10
_TEXTS = frozenset(
    (
        "task", "task_alias", "tag", "output_type", "test_split", "validation_split", "training_split", "fewshot_split",
        "doc_to_text", "doc_to_target", "description", "target_delimiter", "fewshot_delimiter", "gen_prefix",
        "dataset_path", "dataset_name",
    )
)  # fmt: skip
_OTHERS = frozenset(
    (
        "doc_to_choice", "num_fewshot", "fewshot_config", "generation_kwargs", "metric_list", "filter_list", "metadata",
        "repeats", "dataset_kwargs", "should_decontaminate", "doc_to_decontamination_query",
    )
)  # fmt: skip
_CODE = {
    "class": "names a class",
    "custom_dataset": "names code that fetches rows",
    "unsafe_code": "asks for code to be run",
    "process_docs": "names code",
    "process_results": "names code",
    "use_prompt": "names a collection of prompts that is code",
    "include": "takes another file in",
    "group": "is a group of tasks",
}


class BadTaskFile(ValueError):
    """The file cannot be used; the message says why, and what to do."""


class _Loader(yaml.SafeLoader):
    """YAML as the harness reads it, without what makes it code."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1
            raise BadTaskFile(f"line {line}: has an alias (*name): write out what it stands for")
        return super().compose_node(parent, index)


def _refuse_tag(loader: _Loader, suffix: str, node: yaml.Node) -> Any:
    raise BadTaskFile(
        f"line {node.start_mark.line + 1}: has !{suffix}, which names code, and code of a task file is never run. "
        "Write a template in its place, or take a task that the harness ships"
    )


_Loader.add_multi_constructor("!", _refuse_tag)
_Loader.add_multi_constructor("tag:yaml.org,2002:python/", _refuse_tag)


def read(text: str) -> dict[str, Any]:
    """Returns the fields of a task file. Raises BadTaskFile."""
    if len(text.encode()) > MOST_BYTES:
        raise BadTaskFile(f"has more than {MOST_BYTES // 1024} KiB, which no task needs")
    try:
        found = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise BadTaskFile(f"{where}is no YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("task"), str):
        raise BadTaskFile("has no field `task` with the name of the task")
    for field, value in found.items():
        if field in _CODE:
            raise BadTaskFile(f"{field}: {_CODE[field]}, and a task file is taken as data alone. Leave it out")
        if field not in _TEXTS | _OTHERS:
            raise BadTaskFile(f"{field}: is no field that a task file may have here")
        if field in _TEXTS and not isinstance(value, str | int | type(None)) and field != "tag":
            raise BadTaskFile(f"{field}: is {type(value).__name__}, and a text is wanted")
    _check_metrics(found)
    return found


def _check_metrics(found: dict[str, Any]) -> None:
    metrics = found.get("metric_list") or []
    if not isinstance(metrics, list) or not all(isinstance(one, dict) for one in metrics):
        raise BadTaskFile("metric_list: is no list of metrics, each with its name under `metric`")
    for one in metrics:
        if not isinstance(one.get("metric"), str):
            raise BadTaskFile("metric_list: has an entry without the name of its `metric`")
