"""The generated files. No API server runs here: the schema's rules are evaluated by an implementation of CEL."""

import copy
import json
from pathlib import Path

import cel
import jsonschema
import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.documents.test_loading import GOOD

from slipway_core.documents import crd, generate, yaml12
from slipway_core.documents.loading import DocumentError, load, problems
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.training_run import TrainingRun

RUN = crd.training_run(TrainingRun)
ENDPOINT = crd.model_endpoint(ModelEndpoint)
DIGEST = "sha256:" + "0" * 64


def schema_of(definition):
    return definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def nodes(schema, path=""):
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


@pytest.mark.parametrize("definition", [RUN, ENDPOINT], ids=["run", "endpoint"])
def test_an_api_server_takes_every_pattern(definition):
    """It has Go's expressions, which are RE2's: they repeat nothing more than a thousand times, inner times outer."""
    for path, schema in nodes(schema_of(definition)):
        if "pattern" in schema:
            assert re2.compile(schema["pattern"]), path


def broken_rules(schema, value, path="", old=None):
    """Returns (field, message) for every rule that does not hold, as the API server would name it."""
    for rule in schema.get("x-kubernetes-validations", []):
        if "oldSelf" in rule["rule"] and old is None:
            continue
        context = cel.Context({"self": value, "oldSelf": old})
        # Kubernetes adds it to the language.
        context.add_function("sum", lambda numbers: float(sum(numbers)))
        if not cel.evaluate(rule["rule"], context):
            yield f"{path}{rule.get('fieldPath', '')}".lstrip("."), rule["message"]
    if isinstance(value, dict):
        for name, inner in schema.get("properties", {}).items():
            if name in value:
                yield from broken_rules(inner, value[name], f"{path}.{name}", (old or {}).get(name))
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from broken_rules(schema["items"], item, f"{path}[{index}]")


@pytest.mark.parametrize("definition", [RUN, ENDPOINT], ids=["TrainingRun", "ModelEndpoint"])
def test_schemas_are_structural_and_everything_has_a_bound(definition):
    for path, node in nodes(schema_of(definition)):
        if path == ".metadata":
            continue
        assert not node.keys() & {"$ref", "anyOf", "oneOf", "allOf", "not", "default", "nullable", "title", "const"}, (
            path
        )
        if node.get("x-kubernetes-int-or-string"):
            assert "type" not in node, path
            assert "maxLength" in node, path
            continue
        match node["type"]:
            case "string":
                assert "maxLength" in node or "enum" in node or path in (".apiVersion", ".kind"), path
            case "array":
                assert "maxItems" in node, path
            case "object":
                assert "properties" in node or "maxProperties" in node, path
            case kind:
                assert kind in ("integer", "number", "boolean"), path


def test_conditions_are_merged_by_their_type():
    for definition in (RUN, ENDPOINT):
        conditions = schema_of(definition)["properties"]["status"]["properties"]["conditions"]
        assert conditions["x-kubernetes-list-type"] == "map"
        assert conditions["x-kubernetes-list-map-keys"] == ["type"]


def test_descriptions_name_the_default():
    stage = schema_of(RUN)["properties"]["spec"]["properties"]["stages"]["items"]["properties"]
    assert stage["maxLength"]["description"].endswith("Default: 512.")
    assert schema_of(RUN)["properties"]["spec"]["properties"]["suspend"]["description"].endswith("Default: false.")


def test_every_column_reads_a_field_that_there_is():
    for definition in (RUN, ENDPOINT):
        known = {path for path, _ in nodes(schema_of(definition))} | {".metadata.creationTimestamp"}
        for column in definition["spec"]["versions"][0]["additionalPrinterColumns"]:
            assert column["jsonPath"].replace('[?(@.state=="Running")]', "[]") in known, column


def test_every_rule_points_at_a_field_that_there_is():
    for definition in (RUN, ENDPOINT):
        known = {path for path, _ in nodes(schema_of(definition))}
        for path, node in nodes(schema_of(definition)):
            for rule in node.get("x-kubernetes-validations", []):
                assert f"{path}{rule.get('fieldPath', '')}" in known | {""}, rule


JUDGE = {"url": "http://judge:8000/v1", "model": "m", "criteria": "Be kind."}
BROKEN = {
    "spec.model": {"model": {"from": "hf://a/b", "scratch": {"tokenizer": {"from": "hf://a/b"}}}},
    "spec.model.chatTemplateArguments": {
        "model": {"from": "hf://a/b", "chatTemplateArguments": {"tools": "[]", "enable-thinking": "False"}}
    },
    "spec.model.scratch.tokenizer": {"model": {"scratch": {"tokenizer": {}}}},
    "spec.model.scratch.hiddenSize": {"model": {"scratch": {"hiddenSize": 257, "tokenizer": {"from": "hf://a/b"}}}},
    "spec.model.scratch.kvHeads": {"model": {"scratch": {"kvHeads": 3, "tokenizer": {"from": "hf://a/b"}}}},
    "spec.checkpoints": {"checkpoints": {"interval": "10m", "everySteps": 2}},
    "spec.checkpoints.interval": {"checkpoints": {"interval": "0s"}},
    "spec.stages[0]": {"stages": [{"epochs": 1, "steps": 2}]},
    "spec.stages[0].name": {"stages": [{"name": "export"}]},
    "spec.stages[0].tooLong": {"stages": [{"tooLong": "Split", "objective": "Chat"}]},
    "spec.stages[0].preference": {"stages": [{"preference": {"loss": "DPO"}}]},
    "spec.stages[0].preference.gamma": {"stages": [{"objective": "Preference", "preference": {"gamma": 1.0}}]},
    "spec.stages[0].labelSmoothing": {"stages": [{"objective": "Preference", "labelSmoothing": 0.1}]},
    "spec.stages[0].learn": {"stages": [{"learn": "LastAnswer"}]},
    "spec.stages[0].select": {"stages": [{"select": "Best"}]},
    "spec.stages[0].batch": {"stages": [{"batch": {"tokens": 1, "sequences": 1}}]},
    "spec.stages[0].memory.zeroStage": {"stages": [{"memory": {"zeroStage": 7}}]},
    "spec.stages[0].memory.offload": {"stages": [{"memory": {"offload": "All", "zeroStage": 2}}]},
    "spec.stages[1].memory.offload": {
        "stages": [{}, {"name": "b", "memory": {"offload": "Optimizer", "zeroStage": 0}}]
    },
    "spec.model.addTokens": {"model": {"from": "hf://a/b", "addTokens": ["<a>", "<b>", "<a>"]}},
    "spec.stages[0].adapter.method": {"stages": [{"adapter": {"method": "PTuning", "rank": 4}}]},
    "spec.stages[1].adapter.method": {"stages": [{}, {"name": "b", "adapter": {"virtualTokens": 8}}]},
    "spec.stages[0].adapter.encoderHiddenSize": {"stages": [{"adapter": {"method": "Prefix", "encoderHiddenSize": 8}}]},
    "spec.stages[0].adapter": {
        "stages": [
            {
                "objective": "Preference",
                "tooLong": "Truncate",
                "adapter": {"method": "Prefix"},
                "memory": {"zeroStage": 3, "gradientCheckpointing": "Enabled"},
            }
        ]
    },
    "spec.stages[0].data.validation": {
        "stages": [
            {
                "data": {
                    "train": [{"uri": "package://a"}],
                    "validation": {"fraction": 0.1, "data": [{"uri": "package://b"}]},
                }
            }
        ]
    },
    "spec.stages[0].data": {"stages": [{"data": {"temperature": 3, "train": [{"uri": "package://a"}]}}]},
    "spec.stages[0].data.train": {
        "stages": [{"steps": 9, "data": {"train": [{"uri": "package://a", "proportion": x} for x in (0.3, 0.6)]}}]
    },
    "spec.stages[1].data.train": {
        "stages": [
            {},
            {
                "name": "b",
                "steps": 9,
                "data": {"train": [{"uri": "package://a", "proportion": 0.3, "weight": 2}, {"uri": "package://b"}]},
            },
        ]
    },
    "spec.stages[0].data.temperature": {
        "stages": [{"steps": 9, "data": {"temperature": 3, "train": [{"uri": "package://a", "weight": 2}]}}]
    },
    "spec.stages[0].data.normalization": {
        "stages": [{"data": {"normalization": ["NFC", "NFC"], "train": [{"uri": "package://a"}]}}]
    },
    "spec.stages[0].data.validation.data": {
        "stages": [
            {
                "data": {
                    "train": [{"uri": "package://a"}],
                    "validation": {"data": [{"uri": "package://b", "proportion": 1}]},
                }
            }
        ]
    },
    "spec.stages[0].data.train[0]": {"stages": [{"data": {"train": [{"uri": "s3://a/b.jsonl", "split": "test"}]}}]},
    "spec.stages[0].data.train[0].revision": {
        "stages": [{"data": {"train": [{"uri": "hf://datasets/a/b@main", "revision": "main"}]}}]
    },
    "spec.stages[0].data.train[0].split": {
        "stages": [{"data": {"train": [{"uri": "hf://a/b", "split": "train[:1%]", "streaming": True}]}}]
    },
    "spec.evaluation.data[0]": {
        "evaluation": {"data": [{"uri": "hf://datasets/a/b/c.jsonl", "config": "de"}]},
    },
    "spec.evaluation.prompts[0]": {"evaluation": {"prompts": [{"uri": "package://a", "streaming": True}]}},
    "spec.stages[0].optimizer.momentum": {"stages": [{"optimizer": {"momentum": 0.9}}]},
    "spec.stages[0].optimizer.decayRatio": {
        "stages": [
            {"optimizer": {"decayRatio": 0.1}},
            {"name": "b", "optimizer": {"schedule": "WSD", "decayRatio": 0.98}},
        ]
    },
    "spec.stages[0].memory": {
        "stages": [{"optimizer": {"name": "Muon"}, "memory": {"zeroStage": 3, "offload": "Optimizer"}}]
    },
    "spec.stages[0].compile": {"stages": [{"compile": "Enabled", "memory": {"zeroStage": 3}}]},
    "spec.stages[1].compile": {
        "stages": [{}, {"name": "b", "compile": "Enabled", "adapter": {"method": "Prefix", "virtualTokens": 4}}]
    },
    "spec.stages": {
        "model": {"scratch": {"maxLength": 256, "tokenizer": {"from": "hf://a/b"}}},
        "stages": [{"name": "a", "maxLength": 256, "adapter": {"method": "Prefix"}}, {"name": "a"}],
    },
    "spec.serving": {
        "model": {"scratch": {"tokenizer": {"from": "hf://a/b"}}},
        "stages": [{"adapter": {}}],
        "export": {"mergeAdapter": False, "quantization": "INT8"},
        "serving": {"endpoint": "a", "template": {"engine": {"maxModelLength": 2048}}},
    },
    "spec.evaluation.gates[0]": {"evaluation": {"gates": [{"metric": "perplexity"}], "data": [{"uri": "package://a"}]}},
    "spec.evaluation.gates": {
        "evaluation": {"gates": [{"metric": "recall_count", "min": 1}], "prompts": [{"uri": "package://a"}]}
    },
    "spec.evaluation.gates[0].metric": {
        "evaluation": {"gates": [{"metric": "bleurt", "min": 1}], "prompts": [{"uri": "package://a"}]}
    },
    "spec.evaluation.data": {
        "evaluation": {
            "data": [{"uri": "package://a", "name": "one"}, {"uri": "package://b"}],
            "prompts": [{"uri": "package://a", "name": "one"}],
        }
    },
    "spec.evaluation": {"serving": {"endpoint": "a"}},
    "spec.compute.podLabels": {"compute": {"podLabels": {"team": "a", "slipway.dev/run": "other"}}},
    "spec.compute.podAnnotations": {
        "compute": {"podAnnotations": {"container.apparmor.security.beta.kubernetes.io/trainer": "unconfined"}}
    },
    "spec.serving.template.podLabels": {
        "serving": {"endpoint": "a", "template": {"podLabels": {"app.kubernetes.io/managed-by": "me"}}}
    },
    "spec.serving.template.podAnnotations": {
        "serving": {"endpoint": "a", "template": {"podAnnotations": {"kueue.x-k8s.io/queue-name": "q"}}}
    },
    "spec.evaluation.gates[0].against": {
        "evaluation": {
            "data": [{"uri": "package://b"}],
            "gates": [{"metric": "perplexity", "max": 1, "against": "Live"}],
        }
    },
    "spec.evaluation.gates[0].minTokens": {
        "evaluation": {
            "prompts": [{"uri": "package://a"}],
            "gates": [{"metric": "empty_rate", "max": 0.1, "minTokens": 100}],
        }
    },
    "spec.evaluation.gates[1].metric": {
        "evaluation": {
            "prompts": [{"uri": "package://a"}],
            "judge": {**JUDGE, "compare": "Live"},
            "gates": [
                {"metric": "win_rate", "min": 0.5},
                {"metric": "win_rate", "max": 0.5},
                {"metric": "judge_score", "min": 7},
            ],
        }
    },
    "spec.evaluation.judge": {
        "evaluation": {
            "prompts": [{"uri": "package://a"}],
            "judge": JUDGE,
            "gates": [{"metric": "win_rate", "min": 0.5}],
        }
    },
    "spec.evaluation.judge.url": {
        "evaluation": {
            "prompts": [{"uri": "package://a"}],
            "judge": {**JUDGE, "url": "http://me:word@judge/v1/chat/completions"},
            "gates": [{"metric": "judge_score", "min": 0.5}],
        }
    },
    "spec.evaluation.judge.timeout": {
        "evaluation": {
            "prompts": [{"uri": "package://a"}],
            "judge": {**JUDGE, "timeout": "0s"},
            "gates": [{"metric": "judge_score", "min": 0.5}],
        }
    },
    "spec.export.gguf": {"export": {"quantization": "FP8", "gguf": "F16"}},
    "spec.export": {
        "export": {
            "mergeAdapter": False,
            "gguf": "F16",
            "push": {"uri": "hf://a/b", "credentials": "c"},
        },
        "evaluation": {"gates": []},
    },
    "spec.tracking": {"tracking": {}},
    "spec.tracking.mlflow.uri": {"tracking": {"mlflow": {"uri": "http://me:word@host", "experiment": "e"}}},
    "spec.storage": {"storage": {}},
    "spec.storage.uri": {"storage": {"uri": "s3://a/b"}},
    "spec.serving.template": {
        "serving": {"endpoint": "a", "template": {"replicas": 1, "autoscaling": {"maxReplicas": 2}}}
    },
    "spec.serving.template.route": {"serving": {"endpoint": "a", "template": {"route": {"host": "x"}}}},
    "spec.serving.template.access": {
        "serving": {"endpoint": "a", "template": {"access": {"anonymous": True, "keysFile": "k"}}}
    },
    "spec.serving.template.autoscaling": {
        "serving": {"endpoint": "a", "template": {"autoscaling": {"minReplicas": 3, "maxReplicas": 2}}}
    },
}

WITHOUT_STAGES = (
    ("spec.model", {"model": {"scratch": {"tokenizer": {"from": "hf://a/b"}}, "addTokens": ["<a>"]}, "stages": []}),
    (
        "spec.evaluation",
        {
            "model": {"scratch": {"tokenizer": {"from": "hf://a/b"}}},
            "stages": [],
            "evaluation": {
                "data": [{"uri": "package://b"}],
                "gates": [{"metric": "perplexity", "maxRegression": 1, "against": "Base"}],
            },
        },
    ),
    ("spec.stages", {"stages": []}),
)
OF_TASKS = (
    ("spec.evaluation.tasks", {"evaluation": {"tasks": [{"name": "piqa"}, {"name": "piqa", "limit": 8}]}}),
    (
        "spec.evaluation.gates",
        {"evaluation": {"tasks": [{"name": "piqa"}], "gates": [{"metric": "acc", "task": "arc_easy", "min": 0.5}]}},
    ),
    (
        "spec.evaluation.gates[0].task",
        {
            "evaluation": {
                "tasks": [{"name": "piqa"}],
                "gates": [{"metric": "acc", "task": "piqa", "source": "one", "min": 0.5}],
            }
        },
    ),
)
CASES = (*BROKEN.items(), *WITHOUT_STAGES, *OF_TASKS)


def run_of(spec):
    """Returns a run that is good but for what the spec says."""
    stage = {"name": "a", "data": {"train": [{"uri": "package://a"}]}}
    gates = {"data": [{"uri": "package://b"}], "gates": [{"metric": "perplexity", "max": 9}]}
    full = {"model": {"from": "hf://a/b"}, "stages": [{}], **copy.deepcopy(spec)}
    full["stages"] = [{**stage, **given} for given in full["stages"]]
    if "serving" in full and full["serving"].keys() != {"endpoint"}:
        full["evaluation"] = gates
    return {"apiVersion": "slipway.dev/v1alpha1", "kind": "TrainingRun", "metadata": {"name": "a"}, "spec": full}


@pytest.mark.parametrize(("field", "spec"), CASES, ids=[field for field, _ in CASES])
def test_the_api_server_and_the_models_refuse_the_same_field_with_the_same_words(field, spec):
    document = run_of(spec)
    with pytest.raises(DocumentError) as caught:
        load(json.dumps(document))
    words = {(problem.field, problem.message) for problem in caught.value.problems}
    broken = list(broken_rules(schema_of(RUN), document))
    assert field in [where for where, _ in broken]
    assert set(broken) == words


def test_every_rule_of_a_run_is_broken_by_an_example():
    messages = {message for _, spec in CASES for _, message in broken_rules(schema_of(RUN), run_of(spec))}
    rules = [rule for _, node in nodes(schema_of(RUN)) for rule in node.get("x-kubernetes-validations", [])]
    spec_rules = [rule for rule in rules if "oldSelf" not in rule["rule"] and "metadata" not in rule["rule"]]
    unproven = {rule["message"] for rule in spec_rules} - messages
    # Those of the gates are in the property test below.
    assert {message for message in unproven if not message.startswith("a gate on")} == set()


_maybe = st.sampled_from


@given(
    gate=st.fixed_dictionaries(
        {"metric": _maybe(["perplexity", "chat_perplexity", "recall_count", "distinct_1", "exact_match", "chrff"])},
        optional={
            "max": st.just(1.5),
            "min": st.just(1.0),
            "maxRegression": st.just(0.5),
            "source": _maybe(["one", "two"]),
            "task": _maybe(["piqa", "boolq"]),
            "minTokens": _maybe([1, 5]),
        },
    ),
    evaluation=st.fixed_dictionaries(
        {},
        optional={
            "data": st.lists(_maybe([{"uri": "package://b"}, {"uri": "package://b", "name": "one"}]), max_size=2),
            "tasks": st.just([{"name": "piqa"}]),
            "prompts": st.lists(
                _maybe(
                    [
                        {"uri": "package://b"},
                        {"uri": "package://a", "name": "two"},
                        {"uri": "package://c", "recall": True},
                    ]
                ),
                max_size=2,
            ),
        },
    ),
    serving=st.booleans(),
)
def test_gates_are_judged_alike_by_cel_and_by_the_models(gate, evaluation, serving):
    document = run_of({"evaluation": {**evaluation, "gates": [gate]}})
    if serving:
        document["spec"]["serving"] = {"endpoint": "a"}
    broken = list(broken_rules(schema_of(RUN), document))
    refused = {(problem.field, problem.message) for problem in problems(json.dumps(document))}
    # The models judge from the inside out: an object that is wrong hides the rules of what holds it.
    assert refused <= set(broken)
    assert bool(refused) == bool(broken)


def planned(spec, attempts=1):
    stages = [{"name": "prepare", "state": "Running", "attempt": attempts}]
    return {**run_of(spec), "status": {"planDigest": DIGEST, "stages": stages}}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"stages": [{"epochs": 9}]}, "spec.stages"),
        ({"model": {"from": "hf://c/d"}}, "spec.model"),
        ({"retries": 1}, "spec.retries"),
        ({"compute": {"nodes": 2}}, "spec.compute.nodes"),
        ({"compute": {"podTemplate": "infiniband"}}, "spec.compute.podTemplate"),
        ({"compute": {"accelerator": "nvidia.com/gpu"}}, "spec.compute.accelerator"),
        ({"suspend": True}, None),
        ({"retention": {"keepArtifacts": 2}}, None),
        ({"tracking": {"tensorboard": {}}}, None),
    ],
)
def test_a_planned_run_keeps_its_spec_but_for_what_may_change(change, field):
    broken = [where for where, _ in broken_rules(schema_of(RUN), planned(change), old=planned({}))]
    assert broken == ([field] if field else [])
    assert list(broken_rules(schema_of(RUN), run_of(change), old=run_of({}))) == []


ELSEWHERE = {
    "nodes": 4, "processesPerNode": 2, "queue": "night", "priorityClassName": "low", "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}], "podLabels": {"team": "a"}, "podAnnotations": {"a": "b"},
    "podTemplate": "infiniband",
}  # fmt: skip


@pytest.mark.parametrize(
    ("was", "is_"),
    [
        (planned({"suspend": True}), planned({"suspend": True, "compute": ELSEWHERE})),
        (planned({"suspend": True}), planned({"suspend": False, "compute": ELSEWHERE})),
        (planned({}), planned({"suspend": True, "compute": ELSEWHERE})),
        (planned({}, attempts=0), planned({"compute": ELSEWHERE}, attempts=0)),
    ],
    ids=["while it is suspended", "as it goes on", "as it is suspended", "before it has begun"],
)
def test_E_where_a_run_runs_may_be_edited_while_nothing_of_it_does(was, is_):
    assert list(broken_rules(schema_of(RUN), is_, old=was)) == []
    what = copy.deepcopy(is_)
    what["spec"]["compute"]["resources"] = {"limits": {"memory": "1Gi"}}
    assert [where for where, _ in broken_rules(schema_of(RUN), what, old=was)] == ["spec.compute.resources"]


def test_E_where_a_run_runs_stays_while_it_does_and_the_words_say_how_to_change_it():
    broken = dict(broken_rules(schema_of(RUN), planned({"compute": ELSEWHERE}), old=planned({})))
    assert set(broken) == {f"spec.compute.{name}" for name in ELSEWHERE}
    assert "compute.nodes cannot change while the run is under way: set suspend: true" in broken["spec.compute.nodes"]


def test_names_that_kubernetes_takes_and_labels_do_not_are_refused():
    for name in ("a.b", "a" * 64):
        document = run_of({})
        document["metadata"]["name"] = name
        assert [message for _, message in broken_rules(schema_of(RUN), document)]


def test_the_editors_schema_takes_a_good_run_and_refuses_a_misspelt_field():
    schema = json.loads(generate.files()["docs/schema/slipway.schema.json"])
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    good = yaml12.read(GOOD).value
    validator.validate(good)
    good["spec"]["stages"][0]["objectve"] = "Chat"
    assert not validator.is_valid(good)


def test_the_files_in_the_repository_are_those_that_the_models_give():
    assert list(generate.differing(Path(__file__).parents[4])) == []


def test_check_names_what_differs_and_writes_nothing(tmp_path, capsys):
    assert generate.main(["--root", str(tmp_path), "--check"]) == 1
    assert "docs/api.md" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert generate.main(["--root", str(tmp_path)]) == 0
    assert generate.main(["--root", str(tmp_path), "--check"]) == 0


def test_the_reference_names_every_field():
    text = generate.files()["docs/api.md"]
    for definition in (RUN, ENDPOINT):
        for path, _ in nodes(schema_of(definition)):
            name = path.rsplit(".", 1)[-1].replace("[]", "")
            if name not in ("", "apiVersion", "kind", "metadata", "spec", "status"):
                assert f"| `{name}` |" in text, path
