"""The models refuse what the API server refuses, and nothing else: both judge runs that were changed at random."""

import copy
import json

import jsonschema
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.core.documents.test_generate import RUN, broken_rules, schema_of
from tests.unit.core.documents.test_loading import GOOD

from slipway_core.documents import yaml12
from slipway_core.documents.loading import problems

FULL = (
    GOOD
    + """\
  compute: {nodes: 1, resources: {limits: {cpu: 2, memory: 4Gi}}, nodeSelector: {a: b}, tolerations: [{key: a}]}
  checkpoints: {everySteps: 10, keep: 2}
  retries: 2
  export: {mergeAdapter: true, quantization: None}
  storage: {claimName: claim}
  retention: {ttlAfterFinished: 2h, keepArtifacts: 3}
  suspend: false
"""
)


def served(schema):
    """Returns a structural schema as JSON schema, closed as the API server's strict field validation closes it."""
    out = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes") and key != "format"}
    if schema.get("x-kubernetes-int-or-string"):
        out["type"] = ["integer", "string"]
    if "properties" in schema:
        out["properties"] = {name: served(inner) for name, inner in schema["properties"].items()}
        out["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if key in schema:
            out[key] = served(schema[key])
    return out


SPEC = jsonschema.Draft4Validator(served(schema_of(RUN)["properties"]["spec"]))


def server_accepts(document):
    return SPEC.is_valid(document["spec"]) and not list(broken_rules(schema_of(RUN), document))


def places(value, path=()):
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))


def changed(document, path, change):
    document = copy.deepcopy(document)
    parent = document
    for part in path[:-1]:
        parent = parent[part]
    if change == "REMOVE":
        del parent[path[-1]]
    else:
        parent[path[-1]] = copy.deepcopy(change)
    return document


DOCUMENT = yaml12.read(FULL).value
PLACES = [path for path in places(DOCUMENT) if path[:1] == ("spec",) and len(path) > 1]
CHANGES = [
    "REMOVE", 0, 1, 3, -1, 10**7, 2.5, True, False, "", "x", "3", "1h", "Auto", "None", "Best", "Chat", "a" * 5000,
    [], {}, [1], ["a"], {"a": 1}, {"fraction": 0.5}, {"uri": "file://a"}, [{"uri": "file://a"}], {"name": "b"},
]  # fmt: skip
SOME_FIELDS = (
    "epochs",
    "steps",
    "tokens",
    "select",
    "earlyStop",
    "precision",
    "adapter",
    "zeroStage",
    "max",
    "min",
    "bogus",
)


def test_the_run_that_is_changed_is_good():
    assert server_accepts(DOCUMENT)
    assert list(problems(json.dumps(DOCUMENT))) == []


@settings(max_examples=200)
@given(st.sampled_from(PLACES), st.sampled_from(CHANGES), st.sampled_from(SOME_FIELDS), st.booleans())
def test_a_changed_run_is_refused_by_both_or_by_neither(path, change, field, add):
    target = path
    if add and isinstance(value_at(DOCUMENT, path), dict):
        target = (*path, field)
        change = change if change != "REMOVE" else 1
        if field in value_at(DOCUMENT, path):
            return
    document = changed(DOCUMENT, target, change)
    found = list(problems(json.dumps(document)))
    assert server_accepts(document) == (found == []), [str(problem) for problem in found]
    for problem in found:
        assert problem.field.startswith("spec")
        assert problem.message


def value_at(value, path):
    for part in path:
        value = value[part]
    return value
