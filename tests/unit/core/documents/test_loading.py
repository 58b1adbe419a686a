import json
import textwrap

import pytest

from slipway_core.documents import loading, overrides, yaml12
from slipway_core.documents.loading import DocumentError
from slipway_core.resources.evaluation import Gate

GOOD = textwrap.dedent("""\
    apiVersion: slipway.dev/v1alpha1
    kind: TrainingRun
    metadata:
      name: tang
    spec:
      model:
        scratch: {layers: 2, tokenizer: {train: {vocabSize: 512}}}
      stages:
      - name: pretrain
        objective: CausalLM
        data: {train: [{uri: package://tang}]}
        optimizer: {learningRate: 2e-4}
      - name: sft
        objective: Chat
        data: {train: [{uri: file://chat.jsonl}]}
      evaluation:
        data: [{uri: file://heldout.jsonl}]
        gates:
        - {metric: bits_per_byte, max: 3, minTokens: 1000}
      serving: {endpoint: chat}
    """)


def problems_of(text, *sets):
    with pytest.raises(DocumentError) as caught:
        loading.load(text, "run.yaml", overrides=sets)
    return [str(problem) for problem in caught.value.problems]


def replaced(old, new):
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def test_a_good_run_is_read_with_its_numbers():
    run = loading.load(GOOD)
    assert run.kind == "TrainingRun"
    assert run.spec.stages[0].optimizer.learning_rate == 2e-4
    assert run.spec.evaluation.gates[0].max == 3


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("objective: CausalLM", "objectve: CausalLM",
         "run.yaml:10: spec.stages[0].objectve: unknown field; did you mean objective?"),
        ("{learningRate: 2e-4}", "{learning_rate: 2e-4}",
         "run.yaml:12: spec.stages[0].optimizer.learning_rate: unknown field; did you mean learningRate?"),
        ("objective: CausalLM", "learningRate: 1e-3",
         "run.yaml:10: spec.stages[0].learningRate: unknown field; it belongs to spec.stages[].optimizer"),
        ("{learningRate: 2e-4}", "{learningRate: 2e-4, epochs: 2}",
         "run.yaml:12: spec.stages[0].optimizer.epochs: unknown field; it belongs to spec.stages[]"),
        ("  serving:", "  compute: {resources: {memory: 900Gi}}\n  serving:",
         "run.yaml:20: spec.compute.resources.memory: unknown field; known here: requests, limits"),
        ("  serving:", "  compute: {epochs: 2}\n  serving:",
         "run.yaml:20: spec.compute.epochs: unknown field; it belongs to spec.stages[]"),
        ("objective: Chat", "objective: chat",
         'run.yaml:14: spec.stages[1].objective: "chat" is not one of CausalLM, Chat, Preference; did you mean Chat?'),
        ("layers: 2", 'layers: "2"',
         'run.yaml:7: spec.model.scratch.layers: "2" is text, and a whole number is expected; '
         "write layers: 2 without quotes"),
        ("layers: 2", "layers: 0", "run.yaml:7: spec.model.scratch.layers: 0 must be at least 1"),
        ("name: tang", "name: 12",
         'run.yaml:4: metadata.name: 12 is a whole number, and text is expected; write name: "12" in quotes'),
        ("  serving:", "  checkpoints: {interval: 10}\n  serving:",
         "run.yaml:20: spec.checkpoints.interval: 10 is a whole number, and text is expected; write it like 90s, "
         "15m or 1h30m"),
        ("{learningRate: 2e-4}", "{learningRate: 2e-4}\n    adapter: {targetModules: [q_proj, v_proj]}",
         'run.yaml:13: spec.stages[0].adapter.targetModules: ["q_proj", "v_proj"] is a list, and text is expected; '
         "write targetModules: q_proj,v_proj"),
        ("{learningRate: 2e-4}", "{learningRate: 2e-4}\n    adapter: {targetModules: 'q_proj, v_proj'}",
         'run.yaml:13: spec.stages[0].adapter.targetModules: "q_proj, v_proj" are no names of layers with commas '
         "between them; write q_proj,v_proj"),
        ("  model:\n", "  model:\n    addTokens: ['<a> ']\n",
         'run.yaml:7: spec.model.addTokens[0]: "<a> " begins or ends with a space, or is nothing else; write the token '
         "alone"),
        ("name: tang", "name: Tang Poems",
         "run.yaml:4: metadata.name: \"Tang Poems\" may hold lower-case letters, digits and '-' alone, and starts and "
         "ends with a letter or digit; write tang-poems"),
        ("  - name: sft\n", "  -\n",
         "run.yaml:14: spec.stages[1].name: is missing; write it like name: pretrain"),
        ("scratch: {", "from: hf://a/b\n    scratch: {",
         "run.yaml:6: spec.model: set exactly one of from and scratch: from takes a model that exists, scratch makes "
         "a new one"),
        ("name: sft", "name: pretrain", "run.yaml:8: spec.stages: two stages have the same name (pretrain)"),
        ("layers: 2", "layers: 2, hiddenSize: 64, heads: 3",
         "run.yaml:7: spec.model.scratch.hiddenSize: hiddenSize must be a multiple of heads (hiddenSize 64, heads 3)"),
        ("layers: 2", "layers: 2, maxLength: 256",
         "run.yaml:8: spec.stages: maxLength of a stage must not be above model.scratch.maxLength, the longest "
         "sequence that the model takes (pretrain has maxLength 512; sft has maxLength 512; the model takes 256)"),
        ("{endpoint: chat}", "{endpoint: chat, template: {engine: {maxModelLength: 4096}}}",
         "run.yaml:20: spec.serving: template.engine.maxModelLength must not be above model.scratch.maxLength, the "
         "longest sequence that the model takes (maxModelLength 4096; the model takes 1024)"),
        ("name: tang", "name: ta\0ng", "run.yaml:4: is not YAML: holds the control character U+0000; remove it; it is "
         "no text"),
        ("bits_per_byte", "exact_matches",
         "run.yaml:19: spec.evaluation.gates[0].metric: no such metric: the metrics are perplexity, bits_per_byte, "
         "word_perplexity, byte_perplexity, chat_perplexity, chat_bits_per_byte, recall_count, recall_rate, "
         "distinct_1, distinct_2, repetition_rate, empty_rate, exact_match, contains, token_f1, rouge_l, chrf, bleu, "
         "number_match, regex_match, json_valid, json_schema, language_match, answer_length, win_rate, "
         "judge_score (it is exact_matches; did you mean exact_match?)"),
        ("{metric: bits_per_byte, max: 3, minTokens: 1000}", "{metric: exact_match, min: 0.5}",
         "run.yaml:18: spec.evaluation.gates: a gate on what answers are held against, or on what a judge says of "
         "them, needs evaluation.prompts without recall, with the name that its source says: nothing else computes "
         "it (the gate on exact_match has none)"),
        ("{metric: bits_per_byte,", "{metric: bits_per_byte, source: poems,",
         "run.yaml:18: spec.evaluation.gates: a gate on perplexity or bits_per_byte, of text or chat, needs "
         "evaluation.data, with the name that its source says: nothing else computes it (the gate on bits_per_byte "
         "names the source poems)"),
        ("{metric: bits_per_byte,", "{metric: empty_rate,",
         "run.yaml:19: spec.evaluation.gates[0].minTokens: minTokens counts the tokens that perplexity, bits_per_byte, "
         "word_perplexity, byte_perplexity, chat_perplexity, chat_bits_per_byte score, and this gate's metric scores "
         "none: leave it out (empty_rate)"),
        ("max: 3", "max: .nan", "run.yaml:19: spec.evaluation.gates[0].max: .nan is not a finite number"),
        ("package://tang", "tang.jsonl",
         "run.yaml:11: spec.stages[0].data.train[0].uri: 'tang.jsonl' does not start with one of hf://, s3://, gs://, "
         "pvc://, file://, package://, run://. Did you mean file://tang.jsonl?"),
        ("file://chat.jsonl", "hf://chat",
         "run.yaml:15: spec.stages[1].data.train[0].uri: 'hf://chat' is not of the form hf://org/name or "
         "hf://org/name@revision"),
        ("{endpoint: chat}", "{endpoint: chat, template: {limits: {requestTimeout: 10 min}}}",
         'run.yaml:20: spec.serving.template.limits.requestTimeout: "10 min" is no duration; write it like 90s, 15m '
         "or 1h30m"),
        ("{endpoint: chat}", "{endpoint: chat, template: {resources: {limits: {cpu: 2x}}}}",
         "run.yaml:20: spec.serving.template.resources.limits.cpu: '2x' is no quantity; write it like 2, 500m or 4Gi"),
        ("{endpoint: chat}", "{endpoint: chat}\n  serving: {endpoint: other}",
         "run.yaml:21: spec.serving: stands here twice; keep one; the first is in line 20"),
        ("kind: TrainingRun", "kind: trainingrun",
         'run.yaml:2: kind: "trainingrun" is not known; did you mean TrainingRun?'),
        ("v1alpha1", "v1", 'run.yaml:1: apiVersion: "slipway.dev/v1" is not known; write apiVersion: '
         "slipway.dev/v1alpha1"),
        ("data: {train: [{uri: package://tang}]}", "data:",
         "run.yaml:11: spec.stages[0].data: is empty; write it like data: {train: [{uri: file://corpus.jsonl}]}"),
        ("[{uri: package://tang}]", "[]", "run.yaml:11: spec.stages[0].data.train: has 0 and needs at least 1 item"),
        ("[{uri: package://tang}]", "[package://tang]",
         'run.yaml:11: spec.stages[0].data.train[0]: "package://tang" is text, and a mapping is expected; write it '
         "like train: [{uri: file://corpus.jsonl}]"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line_its_value_and_its_fix(old, new, problem):
    assert problems_of(replaced(old, new)) == [problem]


def test_all_mistakes_are_named_at_once_in_the_order_of_their_lines():
    text = (
        replaced("layers: 2", "layer: 2")
        .replace("learningRate: 2e-4", "learningRate: fast")
        .replace("max: 3", "max: yes")
    )
    found = problems_of(text)
    assert [problem.split(": ")[0] for problem in found] == ["run.yaml:7", "run.yaml:12", "run.yaml:19"]


def test_all_rules_that_one_object_breaks_are_named():
    found = problems_of(replaced("serving: {endpoint: chat}", "storage: {uri: 's3://a/b', claimName: c}"))
    assert len(found) == 2


@pytest.mark.parametrize("text", ["", "- a\n", "text", "a: 1\n---\nb: 2\n", "a: [1\n"])
def test_what_is_no_resource_at_all_is_refused(text):
    [problem] = problems_of(text)
    assert problem.startswith("run.yaml")


def test_a_field_without_a_value_is_left_out_as_the_api_server_does():
    run = loading.load(replaced("objective: CausalLM", "objective:"))
    assert run.spec.stages[0].objective == "CausalLM"


def test_names_of_the_code_are_not_names_of_the_file():
    assert problems_of(replaced("vocabSize", "vocab_size"))


def test_a_run_can_be_asked_for_alone():
    endpoint = "apiVersion: slipway.dev/v1alpha1\nkind: ModelEndpoint\nmetadata: {name: a}\nspec: {}\n"
    assert loading.load(endpoint).kind == "ModelEndpoint"
    with pytest.raises(DocumentError, match="only a TrainingRun can be run"):
        loading.load_run(endpoint)


@pytest.mark.parametrize(
    ("assignment", "path"),
    [
        ("spec.stages[0].epochs=3", ("spec", "stages", 0, "epochs")),
        ("stages.pretrain.epochs=3", ("spec", "stages", 0, "epochs")),
        ("stages.1.epochs=3", ("spec", "stages", 1, "epochs")),
        ("evaluation.gates.bits_per_byte.max=3", ("spec", "evaluation", "gates", 0, "max")),
        ("metadata.name=3", ("metadata", "name")),
        ('compute.nodeSelector["a.b/c"]=3', ("spec", "compute")),
    ],
)
def test_an_override_reaches_its_field_by_index_or_by_name(assignment, path):
    document = yaml12.read(GOOD).value
    assert overrides.apply(document, assignment) == path


def test_overrides_are_read_as_yaml_and_the_last_one_wins():
    run = loading.load(GOOD, overrides=["stages.sft.epochs=1", "stages.sft.epochs=2.5", "retries=0"])
    assert run.spec.stages[1].epochs == 2.5
    assert run.spec.retries == 0
    run = loading.load(GOOD, overrides=["evaluation.gates=[{metric: perplexity, max: 20}]", "stages.sft.objective="])
    assert run.spec.evaluation.gates[0].metric == "perplexity"
    assert run.spec.stages[1].objective == "CausalLM"


def test_an_override_mends_what_the_file_has_wrong():
    assert loading.load(replaced("max: 3", "max: .nan"), overrides=["evaluation.gates[0].max=3"])


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        ("epochs", "--set epochs: is not of the form path=value, as in spec.stages[0].epochs=3"),
        ("stages.x.epochs=1", "--set stages.x.epochs=1: spec.stages has no x; it has pretrain, sft"),
        ("stages[7].epochs=1", "--set stages[7].epochs=1: spec.stages has no 7; it has pretrain, sft"),
        ("retries.x=1", "--set retries.x=1: spec.retries is 3 and has no x"),
        ("stages..x=1", "--set stages..x=1: 'stages..x' is no path; write it like spec.stages[0].epochs"),
        ("stages.sft.epochs=x", '--set stages.sft.epochs=x: spec.stages[1].epochs: "x" is text, and a number is '
         "expected; write it like epochs: 1"),
        ("foo.bar=1", "--set foo.bar=1: spec.foo: unknown field; known here: model, stages, compute, checkpoints, "
         "retries, evaluation, export, serving, tracking, storage, retention, suspend"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_named_as_it_was_typed(assignment, problem):
    text = GOOD + "  retries: 3\n" if assignment.startswith("retries") else GOOD
    assert problems_of(text, assignment) == [problem]


UNSCORED = {"metric": "acc", "task": "t", "min": 0.5, "minTokens": 100}


def test_a_gate_that_counts_tokens_where_none_are_scored_is_refused_of_an_endpoint_too():
    endpoint = "apiVersion: slipway.dev/v1alpha1\nkind: ModelEndpoint\nmetadata: {name: chat}\nspec:\n"
    problems = problems_of(f"{endpoint}  promotion: {{requiredGates: [{json.dumps(UNSCORED)}]}}\n")
    assert problems[0].startswith("run.yaml:5: spec.promotion.requiredGates[0].minTokens: minTokens counts the tokens")
    assert problems[0].endswith("leave it out (acc of task t)")


def test_what_an_earlier_release_took_and_stored_is_read_as_it_was():
    assert Gate.model_validate(UNSCORED, by_alias=True, by_name=False).min_tokens == 100
