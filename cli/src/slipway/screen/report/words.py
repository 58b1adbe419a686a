"""The words of the pages, in English and Chinese. What a run or an evaluation said of itself stays as it was said."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Language(StrEnum):
    EN = "en"
    ZH = "zh"


_BOTH: dict[str, tuple[str, str]] = {
    "report": ("report", "报告"),
    "compared": ("{a} and {b}", "{a} 与 {b}"),
    "skip": ("To the gates", "跳到门槛"),
    "Passed": ("Passed", "通过"),
    "Failed": ("Not passed", "未通过"),
    "Inconclusive": ("Could not be judged", "无法判定"),
    "NotApplicable": ("Not applicable", "不适用"),
    "UnderWay": ("Under way", "进行中"),
    "Broken": ("Ended before it was judged", "判定之前已失败"),
    "Unjudged": ("Without a verdict", "没有判定"),
    "why_passed": ("all {n} gates that apply hold.", "适用的 {n} 个门槛全部满足。"),
    "why_one_passed": ("the one gate that applies holds.", "适用的一个门槛满足。"),
    "why_no_gate": ("no gate applied.", "没有适用的门槛。"),
    "why_underway": (
        "it is {phase}, {done} of {all} steps are done, and there is no verdict yet.",
        "现在是 {phase} 阶段，{all} 步中完成了 {done} 步，还没有判定。",
    ),
    "why_broken": ("{step}: {message}", "{step}：{message}"),
    "why_broken_unknown": ("no step says why.", "没有步骤说明原因。"),
    "why_unjudged": ("it ended as {phase} and was not evaluated.", "以 {phase} 结束，没有评测。"),
    "gate_is": ("{name} is {figure}, asked was {threshold}", "{name} 为 {figure}，要求 {threshold}"),
    "gate_none": ("{name} has no value, asked was {threshold}", "{name} 没有数值，要求 {threshold}"),
    "joint": ("; ", "；"),
    "end": (".", "。"),
    "listing": (", ", "、"),
    "more": ("and {n} more", "另有 {n} 个"),
    "gates": ("Gates", "门槛"),
    "gate": ("gate", "门槛"),
    "drawn": ("interval against what is asked", "区间与要求"),
    "measured": ("measured", "测得"),
    "asked": ("asked", "要求"),
    "live": ("live", "线上"),
    "base": ("base", "基座"),
    "verdict": ("verdict", "判定"),
    "worse": ("{value}, worse by {difference}", "{value}，变差 {difference}"),
    "bounds": ("{figure} ({lower} to {upper})", "{figure}（{lower} 至 {upper}）"),
    "legend": (
        "The bar is {interval}, the dot what was measured, the dashed line what is asked, and the shaded "
        "side passes. ◇ is the live version, △ the base. Of a gate on a regression, how much worse it is: right of 0 "
        "is worse.",
        "横条是{interval}，圆点是测得的值，虚线是要求，有底色的一侧为通过。◇ 是线上版本，△ 是基座。"
        "对退化门槛，画的是变差多少：0 的右边是更差。",
    ),
    "judged_on": ("judged on {what}", "评测数据 {what}"),
    "interval_one": ("the {percent} interval", " {percent} 区间"),
    "interval_some": (
        "the {percents} or {percent} interval, by the gate",
        " {percents} 或 {percent} 区间（依门槛而定）",
    ),
    "rests_on_documents": ("{n} documents", "{n} 个文档"),
    "rests_on_conversations": ("{n} conversations", "{n} 个对话"),
    "rests_on_prompts": ("{n} prompts", "{n} 个提示"),
    "rests_on_task": ("{n} documents of the task", "任务的 {n} 个文档"),
    "judge": (
        "The judge {model} at {url} had {questions} questions; {unanswered} have no usable answer. What was sent "
        "and answered: {file}",
        "裁判模型 {model}（{url}）共有 {questions} 个问题，{unanswered} 个没有可用的回答。问答记录：{file}",
    ),
    "judge_by": (
        "{beside}Repeats of each question: {repeats}. Its criteria are {criteria}",
        "{beside}每个问题的重复次数：{repeats}；评判标准为 {criteria}",
    ),
    "judge_beside": ("It compared with {compare}. ", "比较对象：{compare}。"),
    "judge_controls": (
        "It found nearly all answers alike, and told {told} of {shown} answers to another prompt from the right one",
        "裁判几乎认为所有回答都一样；在 {shown} 个答非所问的回答中，它分辨出了 {told} 个",
    ),
    "judge_trouble": ("The first without one: {why}", "第一个没有回答的原因：{why}"),
    "judge_orders": ("{of}: both orders of a pair agree in {share}", "{of}：两种顺序一致的比例为 {share}"),
    "judge_repeats": ("{of}: repeats of a question agree by {share}", "{of}：重复提问的一致程度为 {share}"),
    "judged_upon": (
        "Held-out data: judged upon {n} times for this endpoint, this run and data that shares documents with its own "
        "included.",
        "保留数据：此端点的模型已在与其共有文档的数据上评测 {n} 次（包括本次训练）。",
    ),
    "judged_upon_once": (
        "Held-out data: judged upon once for this endpoint.",
        "保留数据：此端点的模型在这些数据上评测过 1 次。",
    ),
    "worn": (
        "From {n} on a pass may be the luck of many tries: hold out other documents.",
        "从 {n} 次起，通过可能只是多次尝试的运气：请换用其他保留文档。",
    ),
    "no_gates": ("The run has no gates.", "该训练没有门槛。"),
    "not_drawn": ("not drawn: no figure", "没有数值可画"),
    "figures": ("All figures", "所有数值"),
    "metric": ("metric", "指标"),
    "this": ("this model", "本模型"),
    "slices": ("Sources, slices and tasks", "来源、切片与任务"),
    "part": ("part", "部分"),
    "answers": ("Answers", "回答"),
    "worst": ("The worst", "最差的"),
    "changed": ("The most changed beside the live version's", "与线上版本相比变化最大的"),
    "changed_between": (
        "The most changed, of {n} prompts that both answered",
        "变化最大的（两者都回答的 {n} 个提示中）",
    ),
    "answer": ("answer", "回答"),
    "wanted": ("wanted", "期望"),
    "prompt": ("prompt", "提示"),
    "like_wanted": ("{percent} like what was wanted", "与期望相似 {percent}"),
    "like_live": ("{percent} like the live version's", "与线上版本相似 {percent}"),
    "like_other": ("{percent} alike", "相似 {percent}"),
    "repeats": ("empty, or repeats itself", "为空，或自我重复"),
    "all_right": ("No answer is wrong, empty or repeats itself.", "没有错误、空白或自我重复的回答。"),
    "no_answers": ("No prompt was answered.", "没有回答任何提示。"),
    "no_live_answers": ("There are no answers of a live version.", "没有线上版本的回答。"),
    "none_changed": ("None of the {n} answers changed.", "{n} 个回答都没有变化。"),
    "cut": ("… {n} more characters", "……还有 {n} 个字符"),
    "cut_record": ("… the record ends here", "……记录到此为止"),
    "empty": ("(empty)", "（空）"),
    "curves": ("Curves", "曲线"),
    "loss": ("loss, nats a token", "损失（每词元奈特）"),
    "training": ("training", "训练"),
    "validation": ("validation", "验证"),
    "throughput": ("tokens a second", "每秒词元数"),
    "steps": ("optimizer steps, over all stages", "优化器步数（所有阶段）"),
    "no_curves": ("No training step was logged.", "没有记录训练步。"),
    "chart_of": ("{what}: {series}", "{what}：{series}"),
    "series_of": ("{name} from {first} to {last}", "{name} 从 {first} 到 {last}"),
    "data": ("Data", "数据"),
    "rows": ("rows", "行数"),
    "tokens": ("tokens", "词元"),
    "file": ("file", "文件"),
    "digest": ("digest", "摘要"),
    "held_out": ("held out", "保留数据"),
    "no_data": ("No data was prepared.", "还没有准备数据。"),
    "settings": ("Hyperparameters", "超参数"),
    "setting": ("setting", "设置"),
    "value": ("value", "值"),
    "resolved": ("decided on the device", "在设备上决定"),
    "model": ("model", "模型"),
    "lineage": ("Lineage", "谱系"),
    "lineage_list": ("The same as a list, with every digest", "以列表显示，含全部摘要"),
    "warnings": ("What the steps warn of", "各步骤的警告"),
    "warning": ("warning", "警告"),
    "troubles": ("What could not be read", "无法读取的部分"),
    "made": ("Made {when} by slipway {version}.", "由 slipway {version} 于 {when} 生成。"),
    "number": ("evaluation {n}", "评测 {n}"),
    "phase": ("{phase}", "{phase}"),
    "stopped": ("version {version} at {endpoint}, which is stopped", "{endpoint} 的版本 {version}，已停止服务"),
    "silent": ("version {version} at {endpoint} does not answer", "{endpoint} 的版本 {version} 没有应答"),
    "serves": ("serves at {endpoint}, version {version}", "在 {endpoint} 上线，版本 {version}"),
    "differences": ("What differs", "差异"),
    "no_differences": ("Settings and data are the same.", "设置与数据相同。"),
    "other_data": (
        "They were judged on different held-out data: figures of one say little beside those of the other.",
        "两者在不同的保留数据上评测：数值不宜直接比较。",
    ),
    "unknown_data": (
        "Whether both were judged on the same held-out data is not known.",
        "不知道两者是否在相同的保留数据上评测。",
    ),
    "same_data": ("Both were judged on the same held-out data.", "两者在相同的保留数据上评测。"),
    "no_common": ("No prompt was answered by both.", "没有两者都回答的提示。"),
    "absent": ("not there", "无"),
    "difference": ("difference", "差"),
    "gate_Pass": ("Pass", "通过"),
    "gate_Fail": ("Fail", "未通过"),
    "gate_Inconclusive": ("Inconclusive", "无法判定"),
    "gate_NotApplicable": ("NotApplicable", "不适用"),
}  # fmt: skip


@dataclass(frozen=True)
class Words:
    language: Language = Language.EN

    def __call__(self, key: str, **values: object) -> str:
        """Returns a phrase, its places filled in."""
        text = _BOTH[key][self.language is Language.ZH]
        return text.format(**values) if values else text

    @property
    def html_language(self) -> str:
        return "zh-Hans" if self.language is Language.ZH else "en"

    def verdict(self, value: str) -> str:
        """Returns the verdict on a gate."""
        return self(f"gate_{value}")


def keys() -> dict[str, tuple[str, str]]:
    """Returns all phrases, in English and in Chinese."""
    return dict(_BOTH)
