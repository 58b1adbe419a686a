"""For every rule of the two resources: what breaks it, and the nearest thing that keeps it.

Both are overrides, as of `slipway run --set`, of a run or an endpoint that is good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from slipway_core.documents import overrides, schema_walk, yaml12
from slipway_core.resources.api import Rule
from slipway_core.resources.model_endpoint import ModelEndpoint
from slipway_core.resources.training_run import TrainingRun

RUN = """\
apiVersion: slipway.dev/v1alpha1
kind: TrainingRun
metadata: {name: a-run}
spec:
  model: {from: hf://org/name}
  stages:
  - {name: learn, data: {train: [{uri: package://tang}]}}
  evaluation:
    data: [{uri: package://tang-held-out}]
    gates: [{metric: perplexity, max: 20}]
"""
ENDPOINT = """\
apiVersion: slipway.dev/v1alpha1
kind: ModelEndpoint
metadata: {name: an-endpoint}
spec: {port: 8000}
"""
_SCRATCH = "model={scratch: {tokenizer: {train: {vocabSize: 512}}}}"
_TWO_STAGES = "stages=[{name: learn, data: {train: [{uri: package://tang}]}}, {name: last, data: {train: [{uri: package://tang}]}}]"
_AGAINST_BASE = "[{metric: perplexity, maxRegression: 1, against: Base}]"
_SERVING = "serving={endpoint: chat}"
_ASKED = "evaluation.prompts=[{uri: package://p}]"
_JUDGE = "url: 'http://judge:8000/v1', model: m, criteria: Be kind."
_WINS = "evaluation.gates=[{metric: win_rate, min: 0.5}]"
_SCORES = "evaluation.gates=[{metric: judge_score, min: 0.5}]"


def _judge(more: str = "") -> str:
    return f"evaluation.judge={{{_JUDGE}{f', {more}' if more else ''}}}"


@dataclass(frozen=True)
class Case:
    holder: str
    """The object that has the rule."""
    words: str
    """How its message begins."""
    breaks: tuple[str, ...]
    keeps: tuple[str, ...]


def _source_cases(holder: str, field: str) -> tuple[Case, ...]:
    """Returns the cases of what all sources of rows have in common."""
    found = (
        (
            "config, split, revision and streaming are of a dataset",
            "uri: s3://hf/b.jsonl, split: test",
            "uri: hf://a/b, config: de, split: test, revision: main, streaming: true",
        ),
        (
            "config and split choose from a whole",
            "uri: hf://datasets/a/b@main/c.jsonl, config: de",
            "uri: hf://datasets/a/b@main, config: de",
        ),
        (
            "the uri has a revision",
            "uri: hf://datasets/a/b@main/c.jsonl, revision: main",
            "uri: hf://datasets/a/b/c@d.jsonl, revision: main",
        ),
        (
            "a slice of a split",
            "uri: hf://a/b, split: 'train+test[1:]', streaming: true",
            "uri: hf://a/b, split: 'train+test[1:]', streaming: false",
        ),
    )
    return tuple(
        Case(holder, words, (f"{field}=[{{{breaks}}}]",), (f"{field}=[{{{keeps}}}]",)) for words, breaks, keeps in found
    )


RUN_CASES = (
    *_source_cases("DataSource", "stages.learn.data.train"),
    *_source_cases("HeldOutSource", "evaluation.data"),
    *_source_cases("PromptSource", "evaluation.prompts"),
    Case(
        "TrainingRunSpec",
        "two stages have the same name",
        ("stages=[{name: a, data: {train: [{uri: package://t}]}}, {name: a, data: {train: [{uri: package://t}]}}]",),
        ("stages=[{name: a, data: {train: [{uri: package://t}]}}, {name: b, data: {train: [{uri: package://t}]}}]",),
    ),
    Case(
        "TrainingRunSpec",
        "maxLength of a stage must not be above",
        (_SCRATCH, "model.scratch.maxLength=256", "stages.learn.maxLength=257"),
        (_SCRATCH, "model.scratch.maxLength=256", "stages.learn.maxLength=256"),
    ),
    Case(
        "TrainingRunSpec",
        "template.engine.maxModelLength must not be above",
        (_SCRATCH, _SERVING, "serving.template={engine: {maxModelLength: 1025}}"),
        (_SCRATCH, _SERVING, "serving.template={engine: {maxModelLength: 1024}}"),
    ),
    Case(
        "TrainingRunSpec",
        "serving needs at least one gate",
        (_SERVING, "evaluation.gates=[{metric: perplexity, maxRegression: 0.1}]"),
        (_SERVING, "evaluation.gates=[{metric: perplexity, max: 0.1}]"),
    ),
    Case(
        "TrainingRunSpec",
        "push needs at least one gate",
        ("export={push: {uri: hf://a/b, credentials: c}}", "evaluation.gates=[]"),
        ("export={push: {uri: hf://a/b, credentials: c}}",),
    ),
    Case("Tracking", "set at least one of wandb", ("tracking={}",), ("tracking={tensorboard: {}}",)),
    Case(
        "Mlflow",
        "the uri must hold no user",
        ("tracking={mlflow: {uri: 'https://me:word@host', experiment: e}}",),
        ("tracking={mlflow: {uri: 'https://host:5000', experiment: e}}",),
    ),
    Case("Model", "set exactly one of from and scratch", ("model={chatTemplate: Plain}",), (_SCRATCH,)),
    Case(
        "Model",
        "chatTemplateArguments must not have what",
        ("model.chatTemplateArguments={add_generation_prompt: 'true'}",),
        ("model.chatTemplateArguments={generation_prompt: 'true'}",),
    ),
    Case(
        "Model",
        "chatTemplateArguments are variables of the template",
        ("model.chatTemplateArguments={enable-thinking: 'false'}",),
        ("model.chatTemplateArguments={enable_thinking: 'false'}",),
    ),
    Case(
        "Model",
        "True, False and None in chatTemplateArguments",
        ("model.chatTemplateArguments={enable_thinking: 'False'}",),
        ("model.chatTemplateArguments={enable_thinking: 'false'}",),
    ),
    Case(
        "Stage",
        "set at most one of epochs, steps and tokens",
        ("stages.learn.epochs=0.5", "stages.learn.tokens=1000"),
        ("stages.learn.epochs=0.5",),
    ),
    Case(
        "Checkpoints",
        "set at most one of interval and everySteps",
        ("checkpoints={interval: 10m, everySteps: 5}",),
        ("checkpoints={everySteps: 5}",),
    ),
    Case(
        "Checkpoints",
        "interval must be longer than nothing",
        ("checkpoints={interval: 0m00s}",),
        ("checkpoints={interval: 0m01s}",),
    ),
    Case(
        "Stage", "prepare, export, evaluate and publish", ("stages.learn.name=export",), ("stages.learn.name=exports",)
    ),
    Case(
        "Stage",
        "a conversation cannot be split",
        ("stages.learn.tooLong=Split", "stages.learn.objective=Chat"),
        ("stages.learn.tooLong=Truncate", "stages.learn.objective=Chat"),
    ),
    Case(
        "Stage",
        "a pair of answers cannot be cut",
        ("stages.learn.tooLong=Truncate", "stages.learn.objective=Preference"),
        ("stages.learn.tooLong=Drop", "stages.learn.objective=Preference"),
    ),
    Case(
        "Stage",
        "preference is of pairs of answers",
        ("stages.learn.preference={loss: DPO}", "stages.learn.objective=Chat"),
        ("stages.learn.preference={loss: DPO}", "stages.learn.objective=Preference"),
    ),
    Case(
        "Stage",
        "labelSmoothing is of targets",
        ("stages.learn.labelSmoothing=0.1", "stages.learn.objective=Preference"),
        ("stages.learn.labelSmoothing=0", "stages.learn.objective=Preference"),
    ),
    Case(
        "Stage",
        "virtual tokens are not trained by preferences",
        ("stages.learn.adapter={method: PTuning}", "stages.learn.objective=Preference"),
        ("stages.learn.adapter={method: DoRA}", "stages.learn.objective=Preference"),
    ),
    Case(
        "Preference",
        "gamma is SimPO's margin",
        ("stages.learn.preference={gamma: 1}", "stages.learn.objective=Preference"),
        ("stages.learn.preference={loss: SimPO, gamma: 1}", "stages.learn.objective=Preference"),
    ),
    Case(
        "Stage",
        "only conversations have answers",
        ("stages.learn.learn=LastAnswer",),
        ("stages.learn.learn=LastAnswer", "stages.learn.objective=Chat"),
    ),
    Case(
        "Stage",
        "select: Best and earlyStop need",
        ("stages.learn.select=Best",),
        ("stages.learn.select=Best", "stages.learn.data.validation={fraction: 0.1}"),
    ),
    Case("Evaluation", "a gate on perplexity", ("evaluation.data=",), ("evaluation.data=[{uri: file://held-out}]",)),
    Case(
        "Evaluation",
        "a gate on recall_count",
        ("evaluation.gates=[{metric: recall_rate, min: 1}]", "evaluation.prompts=[{uri: package://p}]"),
        ("evaluation.gates=[{metric: recall_rate, min: 1}]", "evaluation.prompts=[{uri: package://p, recall: true}]"),
    ),
    Case(
        "Evaluation",
        "a gate on generated text",
        ("evaluation.gates=[{metric: distinct_1, min: 1}]",),
        ("evaluation.gates=[{metric: distinct_1, min: 1}]", "evaluation.prompts=[{uri: package://p}]"),
    ),
    Case(
        "Evaluation",
        "a gate on what answers are held against",
        (
            "evaluation.gates=[{metric: bleu, min: 1, source: a}]",
            "evaluation.prompts=[{uri: package://p, name: a, recall: true}, {uri: package://p, name: b}]",
        ),
        (
            "evaluation.gates=[{metric: bleu, min: 1, source: a}]",
            "evaluation.prompts=[{uri: package://p, name: a}, {uri: package://p, name: b}]",
        ),
    ),
    Case(
        "Evaluation",
        "a source has the name of another one",
        ("evaluation.data=[{uri: file://a, name: a}, {uri: file://b}, {uri: file://c, name: a}]",),
        ("evaluation.data=[{uri: file://a, name: a}, {uri: file://b}, {uri: file://c, name: c}]",),
    ),
    Case("Evaluation", "a gate on win_rate or judge_score", (_ASKED, _SCORES), (_ASKED, _SCORES, _judge())),
    Case("Evaluation", "judge.compare says what", (_ASKED, _WINS, _judge()), (_ASKED, _WINS, _judge("compare: Live"))),
    Case(
        "Gate",
        "win_rate takes min",
        (_ASKED, "evaluation.gates=[{metric: win_rate, max: 0.5}]", _judge("compare: Live")),
        (_ASKED, _WINS, _judge("compare: Live")),
    ),
    Case(
        "Gate",
        "win_rate and judge_score are from 0 to 1",
        (_ASKED, "evaluation.gates=[{metric: judge_score, min: 7}]", _judge()),
        (_ASKED, "evaluation.gates=[{metric: judge_score, min: 1}]", _judge()),
    ),
    Case(
        "Judge",
        "the url must hold no user",
        (_ASKED, _SCORES, _judge(), "evaluation.judge.url=http://me:word@judge/v1"),
        (_ASKED, _SCORES, _judge(), "evaluation.judge.url=http://judge/v1"),
    ),
    Case(
        "Judge",
        "the url is that of the API",
        (_ASKED, _SCORES, _judge(), "evaluation.judge.url=http://judge/v1/chat/completions"),
        (_ASKED, _SCORES, _judge(), "evaluation.judge.url=http://judge/v1/chat"),
    ),
    Case(
        "Judge",
        "timeout must be longer than nothing",
        (_ASKED, _SCORES, _judge("timeout: 0h")),
        (_ASKED, _SCORES, _judge("timeout: 10s")),
    ),
    Case(
        "TrainingRunSpec",
        "serving needs at least one gate",
        (_SERVING, _ASKED, _WINS, _judge("compare: Live")),
        (_SERVING, _ASKED, _WINS, _judge("compare: Reference")),
    ),
    Case(
        "TrainingRunSpec",
        "against: Base compares with the model of model.from",
        (_SCRATCH, _ASKED, _WINS, _judge("compare: Base")),
        (_SCRATCH, _ASKED, _WINS, _judge("compare: Live")),
    ),
    Case(
        "Compute",
        "podLabels must not have keys",
        ("compute={podLabels: {slipway.dev/run: other}}",),
        ("compute={podLabels: {slipway.example/run: other}}",),
    ),
    Case(
        "Compute",
        "podAnnotations must not have keys",
        ("compute={podAnnotations: {batch.kubernetes.io/job-name: other}}",),
        ("compute={podAnnotations: {cluster-autoscaler.kubernetes.io/safe-to-evict: 'false'}}",),
    ),
    Case(
        "EndpointTemplate",
        "podLabels must not have keys",
        (_SERVING, "serving.template={podLabels: {app.kubernetes.io/managed-by: me}}"),
        (_SERVING, "serving.template={podLabels: {app.kubernetes.io/part-of: shop}}"),
    ),
    Case(
        "EndpointTemplate",
        "podAnnotations must not have keys",
        (_SERVING, "serving.template={podAnnotations: {slipway.dev/frozen: '{}'}}"),
        (_SERVING, "serving.template={podAnnotations: {prometheus.io/scrape: 'true'}}"),
    ),
    Case(
        "TrainingRunSpec",
        "serving an adapter that is not merged",
        (_SERVING, "stages.learn.adapter={rank: 4}", "export.mergeAdapter=false"),
        ("stages.learn.adapter={rank: 4}", "export.mergeAdapter=false"),
    ),
    Case(
        "TrainingRunSpec",
        "serving an adapter that is not merged",
        (_SERVING, "stages.learn.adapter={method: Prefix}"),
        (_SERVING, "stages.learn.adapter={rank: 4}"),
    ),
    Case(
        "TrainingRunSpec",
        "stages: [] judges a model that exists",
        ("stages=[]", "model={scratch: {tokenizer: {from: hf://org/name}}}"),
        ("stages=[]",),
    ),
    Case(
        "TrainingRunSpec",
        "stages: [] needs something to judge or to export",
        ("stages=[]", "evaluation={}", "export={gguf: None}"),
        ("stages=[]", "evaluation={}", "export={gguf: Q8_0}"),
    ),
    Case(
        "TrainingRunSpec",
        "model.addTokens needs a stage",
        ("stages=[]", "model.addTokens=[a]"),
        ("stages=[]", "model.addTokens=[]"),
    ),
    Case(
        "TrainingRunSpec",
        "against: Base compares with the model of model.from",
        (_SCRATCH, f"evaluation.gates={_AGAINST_BASE}"),
        (f"evaluation.gates={_AGAINST_BASE}",),
    ),
    Case(
        "TrainingRunSpec",
        "against: Base compares a model with itself",
        ("stages=[]", f"evaluation.gates={_AGAINST_BASE}"),
        ("stages=[]", "evaluation.gates=[{metric: perplexity, maxRegression: 1, against: Live}]"),
    ),
    Case(
        "Gate",
        "against is of maxRegression",
        ("evaluation.gates=[{metric: perplexity, max: 20, against: Base}]",),
        (f"evaluation.gates={_AGAINST_BASE}",),
    ),
    Case(
        "TrainingRunSpec",
        "export.mergeAdapter: false needs an adapter",
        ("export.mergeAdapter=false",),
        ("stages.learn.adapter={}", "export.mergeAdapter=false"),
    ),
    Case(
        "TrainingRunSpec",
        "a stage of virtual tokens must be the last",
        (_TWO_STAGES, "stages.learn.adapter={method: Prefix}"),
        (_TWO_STAGES, "stages.last.adapter={method: Prefix}"),
    ),
    Case(
        "TrainingRunSpec",
        "export.gguf is one plain model",
        ("export.gguf=F16", "stages.learn.adapter={method: Prefix}"),
        ("export.gguf=F16", "stages.learn.adapter={method: LoRA}"),
    ),
    Case(
        "TrainingRunSpec",
        "export.quantization is of one plain model",
        ("export.quantization=INT8", "stages.learn.adapter={method: LoRA}", "export.mergeAdapter=false"),
        ("export.quantization=INT8", "stages.learn.adapter={method: LoRA}"),
    ),
    Case(
        "Export",
        "gguf is written from weights that are not quantised",
        ("export.quantization=INT4", "export.gguf=Q8_0"),
        ("export.quantization=INT4", "export.gguf=None"),
    ),
    Case("Storage", "set exactly one of claimName and uri", ("storage={}",), ("storage={claimName: a}",)),
    Case("Storage", "storage.uri is not built yet", ("storage={uri: 's3://a/b'}",), ("storage={claimName: a}",)),
    Case(
        "Scratch",
        "hiddenSize must be a multiple of heads",
        (_SCRATCH, "model.scratch.hiddenSize=250"),
        (_SCRATCH, "model.scratch.hiddenSize=252"),
    ),
    Case(
        "Scratch",
        "heads must be a multiple of kvHeads",
        (_SCRATCH, "model.scratch.kvHeads=3"),
        (_SCRATCH, "model.scratch.kvHeads=2"),
    ),
    Case(
        "Tokenizer",
        "set exactly one of train and from",
        (_SCRATCH, "model.scratch.tokenizer.from=hf://a/b"),
        (_SCRATCH, "model.scratch.tokenizer={from: hf://a/b}"),
    ),
    Case(
        "Batch",
        "set at most one of tokens and sequences",
        ("stages.learn.batch={tokens: 512, sequences: 1}",),
        ("stages.learn.batch={sequences: 1}",),
    ),
    Case("Model", "addTokens has a token twice", ("model.addTokens=[a, b, a]",), ("model.addTokens=[a, b, ab]",)),
    Case(
        "Stage",
        "Muon needs whole matrices",
        ("stages.learn.optimizer={name: Muon}", "stages.learn.memory={zeroStage: 3}"),
        ("stages.learn.optimizer={name: Muon}", "stages.learn.memory={zeroStage: 2}"),
    ),
    Case(
        "Stage",
        "memory.zeroStage 3 fetches weights within each block",
        ("stages.learn.compile=Enabled", "stages.learn.memory={zeroStage: 3}"),
        ("stages.learn.compile=Auto", "stages.learn.memory={zeroStage: 3}"),
    ),
    Case(
        "Stage",
        "blocks with virtual tokens in front of them are not compiled",
        ("stages.learn.compile=Enabled", "stages.learn.adapter={method: PTuning}"),
        ("stages.learn.compile=Enabled", "stages.learn.adapter={method: LoRA}"),
    ),
    Case(
        "Optimizer",
        "momentum is Muon's",
        ("stages.learn.optimizer={momentum: 0.9}",),
        ("stages.learn.optimizer={name: Muon, momentum: 0.9}",),
    ),
    Case(
        "Optimizer",
        "decayRatio is the end of the schedule WSD",
        ("stages.learn.optimizer={schedule: Linear, decayRatio: 0.1}",),
        ("stages.learn.optimizer={schedule: WSD, decayRatio: 0.1}",),
    ),
    Case(
        "Optimizer",
        "warmupRatio (0.03 when left out) and decayRatio are shares",
        ("stages.learn.optimizer={schedule: WSD, decayRatio: 0.98}",),
        ("stages.learn.optimizer={schedule: WSD, decayRatio: 0.98, warmupRatio: 0.02}",),
    ),
    Case(
        "Memory", "zeroStage must be", ("stages.learn.memory={zeroStage: 4}",), ("stages.learn.memory={zeroStage: 3}",)
    ),
    Case(
        "Memory",
        "ZeRO offloads the optimizer from stage 1 on",
        ("stages.learn.memory={offload: Optimizer, zeroStage: 0}",),
        ("stages.learn.memory={offload: Optimizer, zeroStage: 1}",),
    ),
    Case(
        "Memory",
        "offload: All moves weights",
        ("stages.learn.memory={offload: All, zeroStage: 2}",),
        ("stages.learn.memory={offload: All}",),
    ),
    Case(
        "Stage",
        "with memory.offload the host takes",
        ("stages.learn.optimizer={name: Muon}", "stages.learn.memory={offload: Optimizer}"),
        ("stages.learn.optimizer={name: AdamW}", "stages.learn.memory={offload: Optimizer}"),
    ),
    *(
        Case(
            "Adapter",
            "rank, alpha, rankStabilized",
            (f"stages.learn.adapter={{method: PTuning, {field}}}",),
            (f"stages.learn.adapter={{method: LoRA, {field}}}",),
        )
        for field in (
            "rank: 4",
            "alpha: 8",
            "rankStabilized: true",
            "dropout: 0.1",
            "targetModules: q_proj",
            "modulesToSave: [lm_head]",
        )
    ),
    Case(
        "Adapter",
        "virtualTokens and encoderHiddenSize are of",
        ("stages.learn.adapter={method: LoRA, virtualTokens: 8}",),
        ("stages.learn.adapter={method: Prefix, virtualTokens: 8}",),
    ),
    Case(
        "Adapter",
        "encoderHiddenSize is of PTuning",
        ("stages.learn.adapter={method: Prefix, encoderHiddenSize: 64}",),
        ("stages.learn.adapter={method: PTuning, encoderHiddenSize: 64}",),
    ),
    *(
        Case(
            "Stage",
            "ZeRO-3 divides neither",
            (f"stages.learn.adapter={{method: {method}}}", "stages.learn.memory={zeroStage: 3}"),
            (f"stages.learn.adapter={{method: {method}}}", "stages.learn.memory={zeroStage: 2}"),
        )
        for method in ("QLoRA", "PTuning")
    ),
    Case(
        "Stage",
        "a layer that is computed twice forgets the prefix",
        ("stages.learn.adapter={method: Prefix}", "stages.learn.memory={gradientCheckpointing: Enabled}"),
        ("stages.learn.adapter={method: PTuning}", "stages.learn.memory={gradientCheckpointing: Enabled}"),
    ),
    Case(
        "Gate",
        "set exactly one of max, min and maxRegression",
        ("evaluation.gates=[{metric: perplexity, max: 2, min: 1}]",),
        ("evaluation.gates=[{metric: perplexity, max: 2}, {metric: perplexity, min: 1}]",),
    ),
    Case(
        "Evaluation",
        "a task is named twice",
        ("evaluation.tasks=[{name: arc_easy}, {name: piqa}, {name: arc_easy, limit: 8}]",),
        ("evaluation.tasks=[{name: arc_easy}, {name: piqa}]",),
    ),
    Case(
        "Evaluation",
        "a gate with task names one of evaluation.tasks",
        ("evaluation.tasks=[{name: arc_easy}]", "evaluation.gates=[{metric: acc, task: piqa, min: 0.5}]"),
        ("evaluation.tasks=[{name: piqa}]", "evaluation.gates=[{metric: 'acc,none', task: piqa, min: 0.5}]"),
    ),
    Case(
        "Gate",
        "task is of a gate on a task alone",
        ("evaluation.tasks=[{name: a}]", "evaluation.gates=[{metric: acc, task: a, slice: b, min: 0.5}]"),
        ("evaluation.tasks=[{name: a}]", "evaluation.gates=[{metric: acc, task: a, min: 0.5}]"),
    ),
    Case(
        "Gate",
        "minTokens counts the tokens",
        ("evaluation.gates=[{metric: distinct_1, min: 0.5, minTokens: 100}]", _ASKED),
        ("evaluation.gates=[{metric: perplexity, max: 2, minTokens: 100}]", _ASKED),
    ),
    Case(
        "Gate",
        "no such metric",
        ("evaluation.gates=[{metric: perplexityy, max: 2}]",),
        ("evaluation.gates=[{metric: perplexity, max: 2}]",),
    ),
    Case(
        "Validation",
        "set at most one of fraction and data",
        ("stages.learn.data.validation={fraction: 0.1, data: [{uri: package://a}]}",),
        ("stages.learn.data.validation={data: [{uri: package://a}]}",),
    ),
    Case(
        "EndpointTemplate",
        "set replicas or autoscaling",
        (_SERVING, "serving.template={replicas: 1, autoscaling: {maxReplicas: 2}}"),
        (_SERVING, "serving.template={autoscaling: {maxReplicas: 2}}"),
    ),
    Case(
        "EndpointTemplate",
        "route is not built yet",
        (_SERVING, "serving.template={route: {host: chat.example.org}}"),
        (_SERVING, "serving.template={port: 80}"),
    ),
    Case(
        "Autoscaling",
        "minReplicas must not be above maxReplicas",
        (_SERVING, "serving.template={autoscaling: {minReplicas: 3, maxReplicas: 2}}"),
        (_SERVING, "serving.template={autoscaling: {minReplicas: 2, maxReplicas: 2}}"),
    ),
    Case(
        "Access",
        "set anonymous or keys",
        (_SERVING, "serving.template={access: {anonymous: true, keysSecret: keys}}"),
        (_SERVING, "serving.template={access: {anonymous: false, keysSecret: keys}}"),
    ),
    Case(
        "Stage",
        "proportion and temperature are shares of what the stage sees",
        ("stages.learn.data.temperature=3",),
        ("stages.learn.data.temperature=3", "stages.learn.tokens=1000"),
    ),
    Case(
        "StageData",
        "give each source of the stage a proportion, or none",
        ("stages.learn.steps=9", "stages.learn.data.train=[{uri: package://a, proportion: 1.0}, {uri: package://b}]"),
        (
            "stages.learn.steps=9",
            "stages.learn.data.train=[{uri: package://a, proportion: 0.3}, {uri: package://b, proportion: 0.7}]",
        ),
    ),
    Case(
        "StageData",
        "set weight or proportion of a source",
        ("stages.learn.steps=9", "stages.learn.data.train=[{uri: package://a, proportion: 1.0, weight: 2.0}]"),
        ("stages.learn.steps=9", "stages.learn.data.train=[{uri: package://a, proportion: 1.0, weight: 1.0}]"),
    ),
    Case(
        "StageData",
        "the proportions of the sources must be 1 together",
        (
            "stages.learn.steps=9",
            "stages.learn.data.train=[{uri: package://a, proportion: 0.3}, {uri: package://b, proportion: 0.6}]",
        ),
        (
            "stages.learn.steps=9",
            "stages.learn.data.train=[{uri: package://a, proportion: 0.33}, {uri: package://b, proportion: 0.66}]",
        ),
    ),
    Case(
        "StageData",
        "temperature takes the shares from the sizes",
        (
            "stages.learn.steps=9",
            "stages.learn.data={temperature: 3, train: [{uri: package://a, weight: 2.0}, {uri: package://b}]}",
        ),
        (
            "stages.learn.steps=9",
            "stages.learn.data={temperature: 3, train: [{uri: package://a, weight: 1.0}, {uri: package://b}]}",
        ),
    ),
    Case(
        "StageData",
        "a normalization is named twice",
        ("stages.learn.data.normalization=[NFC, NFC]",),
        ("stages.learn.data.normalization=[NFC, Strip]",),
    ),
    Case(
        "Validation",
        "validation data is measured once",
        ("stages.learn.data.validation={data: [{uri: package://a, proportion: 1.0}]}",),
        ("stages.learn.data.validation={data: [{uri: package://a, weight: 2.0}]}",),
    ),
)
ENDPOINT_CASES = (
    Case(
        "ModelEndpointSpec",
        "set replicas or autoscaling",
        ("replicas=1", "autoscaling={maxReplicas: 2}"),
        ("autoscaling={maxReplicas: 2}",),
    ),
    Case("ModelEndpointSpec", "route is not built yet", ("route={host: chat.example.org}",), ("replicas=0",)),
    Case(
        "ModelEndpointSpec",
        "podLabels must not have keys",
        ("podLabels={pod-template-hash: a}",),
        ("podLabels={hash: a}",),
    ),
    Case(
        "ModelEndpointSpec",
        "podAnnotations must not have keys",
        ("podAnnotations={slipway.dev/frozen: a}",),
        ("podAnnotations={frozen: a}",),
    ),
    Case(
        "Autoscaling",
        "minReplicas must not be above maxReplicas",
        ("autoscaling={minReplicas: 3, maxReplicas: 2}",),
        ("autoscaling={minReplicas: 2, maxReplicas: 2}",),
    ),
    Case(
        "Access",
        "set anonymous or keys",
        ("access={anonymous: true, keysFile: keys}",),
        ("access={anonymous: true}",),
    ),
    Case(
        "RequiredGate",
        "set exactly one of max, min and maxRegression",
        ("promotion={requiredGates: [{metric: perplexity, max: 2, min: 1}]}",),
        ("promotion={requiredGates: [{metric: perplexity, max: 2}, {metric: perplexity, min: 1}]}",),
    ),
    Case(
        "RequiredGate",
        "against is of maxRegression",
        ("promotion={requiredGates: [{metric: perplexity, max: 20, against: Base}]}",),
        (f"promotion={{requiredGates: {_AGAINST_BASE}}}",),
    ),
    Case(
        "RequiredGate",
        "no such metric",
        ("promotion={requiredGates: [{metric: perplexityy, max: 2}]}",),
        ("promotion={mode: Approval, requiredGates: [{metric: perplexity, max: 2}]}",),
    ),
    Case(
        "Promotion",
        "win_rate and judge_score cannot be required",
        ("promotion={requiredGates: [{metric: chrf, min: 20}, {metric: judge_score, min: 0.5}]}",),
        ("promotion={requiredGates: [{metric: chrf, min: 20}]}",),
    ),
    Case(
        "RequiredGate",
        "win_rate takes min",
        ("promotion={requiredGates: [{metric: win_rate, max: 0.5}]}",),
        ("promotion={requiredGates: [{metric: empty_rate, max: 0.5}]}",),
    ),
    Case(
        "RequiredGate",
        "win_rate and judge_score are from 0 to 1",
        ("promotion={requiredGates: [{metric: judge_score, min: 7}]}",),
        ("promotion={requiredGates: [{metric: chrf, min: 7}]}",),
    ),
    Case(
        "RequiredGate",
        "task is of a gate on a task alone",
        ("promotion={requiredGates: [{metric: acc, task: arc_easy, source: web, min: 0.5}]}",),
        ("promotion={requiredGates: [{metric: acc, task: arc_easy, min: 0.5}]}",),
    ),
    Case(
        "RequiredGate",
        "minTokens counts the tokens",
        ("promotion={requiredGates: [{metric: chrf, min: 20, minTokens: 100}]}",),
        ("promotion={requiredGates: [{metric: perplexity, max: 20, minTokens: 100}]}",),
    ),
)


@dataclass(frozen=True)
class RuleCase:
    """A rule of a resource with its case."""

    rule: Rule
    holder: str
    base: str
    case: Case | None

    @property
    def broken(self) -> dict[str, Any]:
        return changed(self.base, *self._found.breaks)

    @property
    def kept(self) -> dict[str, Any]:
        return changed(self.base, *self._found.keeps)

    @property
    def _found(self) -> Case:
        assert self.case, f"rule_cases.py has no case for the rule of {self.holder}: {self.rule.message}"
        return self.case

    def __str__(self) -> str:
        return f"{self.holder}: {self.rule.message[:40]}"


def every_rule() -> list[RuleCase]:
    """Returns every rule there is, with each of its cases or without one."""
    found: list[RuleCase] = []
    for model, base, cases in ((TrainingRun, RUN, RUN_CASES), (ModelEndpoint, ENDPOINT, ENDPOINT_CASES)):
        for holder in schema_walk.objects(model):
            for rule in holder.rules:
                own = [c for c in cases if c.holder == holder.__name__ and rule.message.startswith(c.words)]
                found += [RuleCase(rule, holder.__name__, base, case) for case in own or [None]]
    return found


def changed(base: str, *assignments: str) -> dict[str, Any]:
    """Returns the document with some of its values replaced."""
    document = yaml12.read(base).value
    for assignment in assignments:
        overrides.apply(document, assignment)
    return document
