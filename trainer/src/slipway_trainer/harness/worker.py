"""The process in which lm-evaluation-harness runs: the one module of the trainer that imports it.

It answers one question after the other over a pipe, until that is closed. It never uses the network: rows are files of
this machine, and whatever a task's code would fetch is denied. Templates of tasks are rendered in jinja's sandbox:
those of a task file are somebody's text, and the harness's own environment would let them reach Python.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any, cast

from slipway_host.parent import end_with
from slipway_trainer.harness import task_file
from slipway_trainer.harness.description import Described, Metric, Rows
from slipway_trainer.harness.task_file import BadTaskFile

_SEED, _NUMPY_SEED, _SHOTS_SEED = 0, 1234, 1234
"""Those of its own command."""
_ANSWER_TOKENS = 256
"""Longest answer where a task says nothing, as with `--model hf`."""
_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names that a task may have for that, the first of them that it has counts."""
_GREEDY = frozenset(("until", "do_sample", "temperature", "top_p", "top_k", *_LIMITS))
_READING = frozenset(("column_names", "header", "sep", "delimiter", "names", "field", "quoting", "encoding"))
_KINDS = {
    ".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".txt": "text", ".parquet": "parquet",
    ".arrow": "arrow",
}  # fmt: skip
_NEAR = 5
_LONGEST = 2000
"""Characters of what a sample shows."""
_NETWORK = frozenset(("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"))


class _Refused(Exception):
    """The task cannot be judged."""


def run(connection: Any, parent: int) -> None:
    """Answers each of `(describe | copy | judge, arguments)` by `(found, ...)`, or by `(refused, reason)`. While it
    judges it asks `(likelihoods, pairs)` and `(writings, contexts)`, and is sent what was found.

    Args:
        connection: of `multiprocessing.Pipe`.
        parent: its pid, with which this process ends.
    """
    if not end_with(parent, signal.SIGKILL):
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with tempfile.TemporaryDirectory(prefix="slipway-tasks-") as cache:
        os.environ.update(_environment(cache))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            os.environ.pop(name, None)
        sys.addaudithook(_deny_network)
        _quiet()
        _sandbox()
        with contextlib.suppress(EOFError, BrokenPipeError):
            while True:
                what, asked = connection.recv()
                connection.send(_answer(connection, what, asked))


def _answer(connection: Any, what: str, asked: dict[str, Any]) -> tuple[str, Any]:
    try:
        match what:
            case "describe":
                return "found", _described(asked["task"]).to_document()
            case "copy":
                return "found", _copied(**asked)
            case _:
                return "found", _judged(connection, **asked)
    except (_Refused, BadTaskFile) as error:
        return "refused", str(error)
    except (EOFError, BrokenPipeError):
        raise
    except Exception as error:
        # Code of the harness, of a task and of datasets: each raises what it comes upon.
        first = next(iter(str(error).strip().splitlines()), "")
        return "refused", f"lm-eval: {type(error).__name__}: {first}"[:1000]


def _environment(cache: str) -> dict[str, str]:
    return {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_CACHE": cache,
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "HF_MODULES_CACHE": cache,
        "TOKENIZERS_PARALLELISM": "false",
        "TQDM_DISABLE": "1",
    }


def _deny_network(event: str, _: tuple[Any, ...]) -> None:
    if event in _NETWORK:
        raise PermissionError("a task may not use the network: give its rows as evaluation.tasks[].data")


def _quiet() -> None:
    import logging

    for name in ("lm_eval", "lm-eval", "datasets", "evaluate"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _sandbox() -> None:
    from jinja2 import BaseLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from lm_eval import utils

    fenced = ImmutableSandboxedEnvironment(loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True)
    fenced.filters |= {name: own for name, own in utils.env.filters.items() if name not in fenced.filters}
    utils.env = fenced


# --- what a task is ---------------------------------------------------------------------------------------------------


def _described(wanted: dict[str, Any]) -> Described:
    found = _config(wanted)
    output = found.get("output_type") or "generate_until"
    fewshot = _fewshot(found, wanted["fewshot"])
    judged = found.get("test_split") or found.get("validation_split")
    if not judged:
        raise _Refused("it names neither a test_split nor a validation_split that could be judged")
    shots = _shots_split(found) if fewshot else None
    for split in (judged, shots):
        if split is not None and not re.fullmatch(r"[A-Za-z0-9_.]+", split):
            raise _Refused(f"its split {split!r} is a part of one: give its rows as `data`")
    return Described(
        name=wanted["name"],
        judged=judged,
        shots=shots,
        fewshot=fewshot,
        metrics=_metrics(found),
        rows=None if wanted["own_data"] else _rows(found),
        writes=_writes(found) if output == "generate_until" else None,
        version=metadata.version("lm-eval"),
        revision=str((found.get("metadata") or {}).get("version", "")),
    )


def _config(wanted: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of a task, its functions among them where the harness ships it."""
    name = wanted["name"]
    if wanted["definition"] is not None:
        found = task_file.read(wanted["definition"])
        _refuse(found)
        if found["task"] != name:
            raise _Refused(f"its file defines the task {found['task']}: call it so in evaluation.tasks")
    else:
        from lm_eval.tasks._yaml_loader import load_yaml

        path = _shipped(name)
        # Before its code is loaded, which may be of no use, or fetch what it needs.
        _refuse(load_yaml(path, resolve_func=False))
        try:
            found = load_yaml(path, resolve_func=True)
        except ImportError as error:
            raise _Refused(f"its code needs a package that is not installed: {error}") from None
    for field in ("tag", "group", "task_list", "task_alias"):
        found.pop(field, None)
    said = found.get("metadata")
    found["metadata"] = dict(said) if isinstance(said, dict) else {"version": said}
    return found


def _refuse(found: Mapping[str, Any]) -> None:
    """Raises _Refused for a task of a kind that is not judged here."""
    if "class" in found or found.get("custom_dataset") is not None:
        raise _Refused("it is a program that fetches its rows itself; judged are tasks that name a dataset")
    if found.get("output_type") == "loglikelihood_rolling":
        raise _Refused("it scores text token by token, which evaluation.data does: give the text there")
    if found.get("unsafe_code"):
        raise _Refused("it runs code that the model writes, which is never done here")
    if found.get("doc_to_image") or found.get("doc_to_audio"):
        raise _Refused("it shows pictures or plays sound, which these models do not take")
    if int(found.get("repeats") or 1) > 1:
        raise _Refused(f"it asks each document {found['repeats']} times, and answers are greedy: all would be the same")


@lru_cache(maxsize=64)
def _shipped(name: str) -> Path:
    """Returns the file of a task that the harness ships. Without its own index, which parses all of 13,000 files."""
    import lm_eval.tasks

    folder = Path(str(lm_eval.tasks.__file__)).parent
    line = re.compile(rb"""^task:[ \t]*["']?%s["']?[ \t]*(#.*)?\r?$""" % re.escape(name.encode()), re.M)
    found = next((path for path in sorted(folder.rglob("*.yaml")) if line.search(path.read_bytes())), None)
    return found if found is not None else _indexed(name)


def _indexed(name: str) -> Path:
    import difflib

    manager = _manager()
    entry = manager.task_index.get(name)
    if entry is None:
        near = difflib.get_close_matches(name, manager.all_subtasks, n=_NEAR, cutoff=0.7)
        hint = f"; near it are {', '.join(near)}" if near else ""
        version = metadata.version("lm-eval")
        raise _Refused(
            f"lm-eval {version} ships no task of that name{hint}. A task of your own is a .yaml file among its `data`"
        )
    if name in manager.all_subtasks and entry.yaml_path is not None:
        return entry.yaml_path
    inside = sorted(entry.tags) or [one if isinstance(one, str) else str(one.get("task")) for one in _members(entry)]
    some = ", ".join(inside[:_NEAR]) + (", ..." if len(inside) > _NEAR else "")
    raise _Refused(f"it is a group of tasks: name each that is wanted, of {some}")


@lru_cache(maxsize=1)
def _manager() -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _members(entry: Any) -> list[Any]:
    said = (entry.cfg or {}).get("task")
    return cast(list[Any], said) if isinstance(said, list) else []


def _fewshot(found: Mapping[str, Any], wanted: int | None) -> int:
    own = found.get("num_fewshot")
    if wanted is None:
        return int(own or 0)
    if own == 0 and wanted > 0:
        raise _Refused(f"it fixes num_fewshot: 0, so fewshot: {wanted} would change nothing. Leave fewshot out")
    return wanted


def _shots_split(found: Mapping[str, Any]) -> str | None:
    own = _fewshot_config(found)
    split = own.get("split") or found.get("fewshot_split")
    if split is None and own.get("samples") is not None:
        return None
    return split or found.get("training_split") or found.get("validation_split") or found.get("test_split")


def _fewshot_config(found: Mapping[str, Any]) -> dict[str, Any]:
    said = found.get("fewshot_config")
    return dict(said) if isinstance(said, dict) else {}


def _metrics(found: Mapping[str, Any]) -> dict[str, Metric]:
    """Returns the metrics by the names that gates have for them: with the filter behind, where there are several."""
    import lm_eval.api.metrics  # noqa: F401  (it fills the registry)
    from lm_eval.api import registry

    filters = [str(one["name"]) for one in found.get("filter_list") or []] or ["none"]
    own_results = found.get("process_results") is not None
    said = found.get("metric_list")
    if said is None:
        output = found.get("output_type") or "generate_until"
        said = [{"metric": name} for name in registry.DEFAULT_METRIC_REGISTRY[output]]
    metrics: dict[str, Metric] = {}
    for one in said:
        metric = one["metric"]
        name = metric if isinstance(metric, str) else metric.__name__
        if one.get("hf_evaluate"):
            raise _Refused(f"its metric {name} is code that the library evaluate fetches, and such is never run")
        known = name in registry.METRIC_REGISTRY
        if isinstance(metric, str) and not known and not own_results:
            raise _Refused(f"its metric {name} is none that lm-eval has; it would be fetched as code")
        aggregation = one.get("aggregation") or (registry.get_metric_aggregation(name) if known else None)
        share = aggregation in ("mean", registry.AGGREGATION_REGISTRY["mean"])
        higher = one.get("higher_is_better", registry.is_higher_better(name) if known else None)
        for behind in filters:
            metrics[name if len(filters) == 1 else f"{name},{behind}"] = Metric(share, bool(higher))
    return metrics


def _rows(found: Mapping[str, Any]) -> Rows:
    dataset, said = str(found.get("dataset_path") or ""), dict(found.get("dataset_kwargs") or {})
    said.pop("trust_remote_code", None)  # No library runs it any more; a dataset that is a program is refused as such.
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", dataset):
        raise _Refused(
            f"its dataset_path is {dataset or 'missing'}, which is no org/name of the hub: give its rows as `data`"
        )
    files, revision = said.pop("data_files", None), said.pop("revision", None)
    for name in ("streaming", "verification_mode"):
        said.pop(name, None)
    if unknown := sorted(set(said) - _READING):
        raise _Refused(
            f"its dataset_kwargs have {', '.join(unknown)}, which is not known here: give its rows as `data`"
        )
    if isinstance(files, str | list):
        files = {"train": files}
    return Rows(
        dataset,
        found.get("dataset_name"),
        revision,
        None if files is None else {str(k): [v] if isinstance(v, str) else list(v) for k, v in files.items()},
        said,
    )


def _writes(found: Mapping[str, Any]) -> int:
    """Returns how many tokens the longest answer has. Raises _Refused for answers that are drawn."""
    said = found.get("generation_kwargs") or {}
    drawn = said.get("do_sample") or (said.get("do_sample") is None and float(said.get("temperature") or 0) > 0)
    if drawn:
        raise _Refused("it draws its answers (do_sample), and the judge writes the most likely ones alone")
    if unknown := sorted(set(said) - _GREEDY):
        raise _Refused(f"its generation_kwargs have {', '.join(unknown)}, which the judge does not do")
    return _tokens(said)


def _tokens(said: Mapping[str, Any]) -> int:
    return int(next((said[name] for name in _LIMITS if said.get(name) is not None), _ANSWER_TOKENS))


# --- its rows ---------------------------------------------------------------------------------------------------------


def _copied(
    task: dict[str, Any], rows: Mapping[str, Sequence[str]], folder: str, prefix: str, limit: int | None
) -> dict[str, Any]:
    import datasets

    described = _described({**task, "own_data": True})
    given = _reading(task)
    files: dict[str, str] = {}
    for split, paths in rows.items():
        kind, reading = _kind(paths)
        try:
            table = datasets.load_dataset(kind, data_files=list(paths), split="train", **(given | reading))
        except Exception as error:
            if not _has_rows(kind, paths):
                raise _Refused(_no_row(split)) from None
            cause = error.__cause__ or error
            first = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
            raise _Refused(f"its rows of the split {split} cannot be read as {kind}: {first}") from None
        if len(table) == 0:
            raise _Refused(_no_row(split))
        files[split] = f"{prefix}{split}.parquet"
        table.to_parquet(str(Path(folder, files[split])))
    if missing := [name for name in described.splits if name not in files]:
        raise _Refused(f"its split {missing[0]} is given by no file: add one with split: {missing[0]}")
    built = _task(task, {split: Path(folder, name) for split, name in files.items()})
    documents = list(_documents(built, limit))
    return {"files": files, "texts": [_text(built, document) for document in documents]}


def _no_row(split: str) -> str:
    return f"its split {split} holds no row. Give it some as `data`"


def _has_rows(kind: str, paths: Sequence[str]) -> bool:
    """Whether files that could not be read hold some all the same: of files without one, `datasets` says anything."""
    files = [Path(path) for path in paths]
    if not any(file.stat().st_size for file in files):
        return False
    if kind == "parquet":
        from pyarrow import ArrowInvalid, parquet

        with contextlib.suppress(ArrowInvalid):
            return any(parquet.read_metadata(file).num_rows for file in files)
        return True
    if kind == "arrow":
        return True
    return any(_says(file, 2 if kind == "csv" else 1) for file in files)


def _says(file: Path, lines: int) -> bool:
    """Whether a text file has so many lines with more than white space, or JSON without anything in it."""
    with file.open("rb") as opened:
        filled = (line for line in opened if line.strip() not in (b"", b"[]", b"{}"))
        return sum(1 for _ in islice(filled, lines)) == lines


def _reading(task: dict[str, Any]) -> dict[str, Any]:
    """Returns how the files of the hub are read; those that are given say it by their names."""
    if task["own_data"]:
        return {}
    rows = _rows(_config(task))
    return dict(rows.reading)


def _kind(paths: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Returns which reader of datasets reads some files, and with which settings."""
    kinds: set[tuple[str, str]] = set()
    for path in paths:
        name = Path(path).name.lower().removesuffix(".gz").removesuffix(".zst")
        end = Path(name).suffix
        if end not in _KINDS:
            raise _Refused(
                f"{Path(path).name} is none of its kinds of rows: name a file that ends in {', '.join(_KINDS)}"
            )
        kinds.add((_KINDS[end], end))
    if len(kinds) > 1:
        raise _Refused(f"one of its splits has files of several kinds: {', '.join(sorted(end for _, end in kinds))}")
    kind, end = next(iter(kinds))
    return kind, {"sep": "\t"} if end == ".tsv" else {}


def _documents(built: Any, limit: int | None) -> Iterator[Any]:
    for number, document in enumerate(built.eval_docs):
        if limit is not None and number >= limit:
            return
        yield document


def _text(built: Any, document: Any) -> str:
    """Returns what a document asks, and the right answer."""
    asked, target = built.doc_to_text(document), built.doc_to_target(document)
    choices = built.doc_to_choice(document) if built.config.doc_to_choice is not None else None
    if isinstance(asked, int) and choices is not None:
        asked = choices[asked] if 0 <= asked < len(choices) else ""
    if isinstance(target, list):
        target = target[0] if target else ""
    if isinstance(target, int) and choices is not None:
        target = choices[target] if 0 <= target < len(choices) else ""
    return f"{asked} {target}".strip()


def _task(task: dict[str, Any], copies: Mapping[str, Path]) -> Any:
    """Returns the harness's own task over copies of its rows."""
    from lm_eval.api.task import ConfigurableTask

    described, found = _described({**task, "own_data": True}), _config(task)
    # Of splits that are not needed there are no rows; the harness would ask for them.
    for field in ("training_split", "validation_split", "test_split", "fewshot_split"):
        if found.get(field) not in copies:
            found[field] = None
    own = _fewshot_config(found)
    if own and own.get("split") not in (None, *copies):
        found["fewshot_config"] = {name: value for name, value in own.items() if name != "split"}
    found |= {
        "dataset_path": "parquet",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {split: str(path) for split, path in copies.items()}},
    }
    built = ConfigurableTask(config=found)
    built.set_config(key="num_fewshot", value=described.fewshot)
    built.set_fewshot_seed(seed=_SHOTS_SEED)
    return built


# --- what a model does ------------------------------------------------------------------------------------------------


def _judged(
    connection: Any,
    task: dict[str, Any],
    copies: Mapping[str, str],
    limit: int | None,
    left_out: Sequence[int],
    samples: int,
) -> dict[str, Any]:
    import numpy as np
    from lm_eval.evaluator import evaluate

    built = _task(task, {split: Path(path) for split, path in copies.items()})
    random.seed(_SEED)
    np.random.seed(_NUMPY_SEED)
    chosen: dict[str, Any] = {"limit": limit}
    if left_out:
        every = range(len(built.eval_docs))[:limit]
        chosen = {"samples": {task["name"]: [number for number in every if number not in set(left_out)]}}
    results: Any = evaluate(
        lm=_model(connection), task_dict={"tasks": {task["name"]: built}}, bootstrap_iters=0, log_samples=True, **chosen
    )
    logged = results["samples"][task["name"]]
    filters = list(dict.fromkeys(one["filter"] for one in logged))
    by_filter = {name: [one for one in logged if one["filter"] == name] for name in filters}
    metrics: dict[str, float] = {}
    scores: dict[str, list[float]] = {}
    for key, value in results["results"][task["name"]].items():
        name, _, behind = key.partition(",")
        if behind not in by_filter or name.endswith("_stderr") or not isinstance(value, int | float | np.number):
            continue
        called = name if len(filters) == 1 else key
        metrics[called] = float(value)
        own = [one.get(name) for one in by_filter[behind]]
        if all(isinstance(one, bool | int | float | np.number) for one in own):
            scores[called] = [float(cast(float, one)) for one in own]
    first = by_filter[filters[0]]
    return {
        "metrics": metrics,
        "scores": {name: own for name, own in scores.items() if name in _shares(task)},
        "documents": len(first),
        "samples": [_sample(one) for one in first[:samples]],
    }


def _shares(task: dict[str, Any]) -> set[str]:
    return {name for name, one in _described({**task, "own_data": True}).metrics.items() if one.share}


def _sample(one: Mapping[str, Any]) -> dict[str, Any]:
    arguments = one["arguments"]
    answers = [_plain(answer) for answer in one["filtered_resps"]]
    return {
        "number": int(one["doc_id"]),
        "asked": str(arguments[0][0])[-_LONGEST:],
        "answers": answers,
        "target": str(one["target"])[:_LONGEST],
    }


def _plain(answer: Any) -> Any:
    if isinstance(answer, tuple | list):
        return [_plain(one) for one in cast(Sequence[Any], answer)]
    return answer if isinstance(answer, bool | int | float) else str(answer)[:_LONGEST]


def _model(connection: Any) -> Any:
    """Returns the model as the harness sees it: whoever is at the other end of the pipe."""
    from lm_eval.api.model import LM

    def ask(what: str, asked: list[Any]) -> Any:
        connection.send((what, asked))
        kind, told = connection.recv()
        if kind == "failed":
            raise _Refused(told)
        return told

    class Asked(LM):
        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            return ask("likelihoods", [request.args for request in requests])

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            raise _Refused("it scores text token by token, which evaluation.data does")

        def generate_until(self, requests: list[Any]) -> list[str]:
            return ask("writings", [(context, _how(said)) for context, said in (one.args for one in requests)])

    make: Callable[[], Any] = Asked
    return make()


def _how(said: Mapping[str, Any]) -> dict[str, Any]:
    until = said.get("until") or []
    return {"until": [until] if isinstance(until, str) else list(until), "tokens": _tokens(said)}
