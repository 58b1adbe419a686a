"""What is said of a preview, at the terminal and on its page alike."""

from __future__ import annotations

from collections.abc import Iterator

from slipway_core.protocol.preview import (
    Amount,
    AskedByEndpoint,
    Cost,
    Fate,
    FileView,
    HeldOutView,
    Lengths,
    MemoryView,
    Preview,
    StageView,
)

_NAMED = 4
"""Gates that a sentence names: a run may have 32."""
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def about(preview: Preview) -> str:
    """Returns model, tokenizer and device in a line."""
    return f"{preview.model} · {preview.tokenizer} · {preview.device}"


def looked_at(preview: Preview) -> str:
    """Returns of how much of the data the rest is told."""
    if not preview.stages:
        return "Nothing is trained: the model is judged as it is."
    if preview.sampled >= 1:
        return "All rows were looked at."
    return (
        f"Rows are counted, and {preview.sampled:.1%} of them were looked at: ± is half of the 95 % interval. Faults, "
        "duplicates and overlap are those of these rows; prepare looks at all."
    )


def amount(value: Amount) -> str:
    """Returns a number with its margin."""
    number = f"{value.value:,.0f}"
    return f"{number} ± {value.margin:,.0f}" if value.margin else number


def size(count: float) -> str:
    """Returns bytes as a person reads them."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"


def file(view: FileView, name: str) -> tuple[str, ...]:
    """Returns the cells of a file's row: name, form, rows, size, remark."""
    remarks = [
        "validation" if view.split == "validation" else "",
        f"weight {view.weight:g}" if view.weight != 1 else "",
        f"{view.looked_at:,} looked at" if view.looked_at < view.rows else "",
    ]
    return name, view.form or "unknown", f"{view.rows:,} rows", size(view.bytes), ", ".join(filter(None, remarks))


def stage(view: StageView) -> str:
    return f"{view.name}: {view.objective}, maxLength {view.max_length:,}"


def tokens(view: StageView) -> Iterator[str]:
    """Yields what an epoch holds, and what of the rows is not learned as it stands."""
    yield (
        f"{amount(view.tokens)} tokens in {amount(view.documents)} texts of {view.rows:,} rows; "
        f"{amount(view.learned)} are learned"
    )
    if view.validation_tokens is not None:
        yield f"{amount(view.validation_tokens)} tokens for the validation loss"
    for fate in view.fates:
        yield _fate(fate)
    if view.duplicates:
        yield f"{view.duplicates:,} rows say the same as one before them, and are learned again"


def bin_of(view: Lengths, place: int) -> str:
    """Returns how many tokens the rows of a bin have."""
    low, high = view.edges[place] + 1, view.edges[place + 1]
    return f"{low:,} and more" if view.longest > high and place == len(view.counts) - 1 else f"{low:,}–{high:,}"


def lengths(view: Lengths, max_length: int) -> str:
    above = f"{view.above:.1%} are longer than maxLength {max_length:,}" if view.above else "none is cut"
    return (
        f"half have at most {view.median:,} tokens, 90 % {view.p90:,}, 99 % {view.p99:,}; the longest has "
        f"{view.longest:,}; {above}"
    )


def cost(view: Cost) -> Iterator[str]:
    """Yields steps and time; of the memory there is a table."""
    extent = view.extent
    epochs = f"{extent.epochs:,.2f}".rstrip("0").rstrip(".")
    yield (
        f"{extent.steps:,} steps of {extent.sequences:,} packed rows: {epochs} epochs, {extent.tokens:,.0f} tokens; "
        f"{extent.padding:.1%} of the rows is padding"
    )
    # Where all are seen alike, that says nothing.
    for source in view.sources if len({source.times for source in view.sources}) > 1 else ():
        yield f"{source.uri}: {source.share:.1%} of what is seen, each document {source.times:,.2f} times"
    yield f"{view.parameters:,} weights, {view.trained:,} of them trained"
    if view.hours is not None and view.tokens_per_second is not None:
        yield f"about {_time(view.hours)} at {view.tokens_per_second:,.0f} tokens/s, {view.speed}"
    else:
        yield "the time depends on the speed: state one with --tokens-per-second"


def memory(view: MemoryView) -> str:
    """Returns what was chosen, and whether it fits."""
    checkpointing = ", gradient checkpointing" if view.gradient_checkpointing else ""
    offload = f", offload {view.offload}" if view.offload != "None" else ""
    chosen = (
        f"{view.precision}, ZeRO stage {view.zero_stage}, {view.processes:,} process{'es' * (view.processes > 1)}, "
        f"micro batch {view.micro_batch:,}{checkpointing}{offload}"
    )
    needed = f"about {size(view.device)} of memory a process, of {size(view.available)} ({chosen})"
    return f"{needed}: that does not fit" if view.refused else needed


def memory_table(view: MemoryView) -> list[tuple[str, ...]]:
    """Returns the rows of the table: a head, the parts, and their sum; with a column for the host beside a GPU."""
    both = view.kind != "cpu"
    rows = [(part.name, part.device, part.host) for part in view.parts] + [("together", view.device, view.host)]
    head = ("", "GPU", "host") if both else ("", "memory")
    return [head, *((name, *(size(n) if n else "" for n in ((on, off) if both else (on,)))) for name, on, off in rows)]


def held_out(view: HeldOutView) -> Iterator[str]:
    """Yields how much is held out, what of it stands in the training data, and what gates can show with it."""
    left = view.left_out
    kinds = {
        "held-out documents": (view.documents, left.documents),
        "conversations": (view.conversations, left.conversations),
        "documents of tasks": (view.of_tasks, left.of_tasks),
    }
    counts = [f"{count:,} {name}" for name, (count, _) in kinds.items() if count or name == "held-out documents"]
    if view.prompts or any(count for count, _ in kinds.values()):
        yield f"{', '.join(counts)} and {view.prompts:,} prompts"
    if view.judge:
        yield view.judge
    if view.tasks:
        yield (
            f"the rows of tasks ({', '.join(view.tasks)}) are not looked at: prepare reads them, holds them against "
            "the training data, and says what gates on them can never show"
        )
    if gone := [f"{out:,} of {count:,} {name}" for name, (count, out) in kinds.items() if out]:
        yield (
            f"{', '.join(gone)} stand in the training data and are left out (onOverlap: Drop); "
            f"{sum(count - out for count, out in kinds.values()):,} are judged by"
        )
    for pair in view.overlaps:
        if pair.discounted:
            yield f"{pair.held} shares boilerplate alone with {pair.training}: {pair.discounted}"
        else:
            yield f"{pair.held} stands in {pair.training} ({pair.rule}, {pair.share:.0%})"
    if view.more:
        yield f"and {view.more:,} more; prepare writes all of them to overlap.jsonl"
    for gate in view.gates:
        yield f"{gate.gate}: {gate.says}"
    for why in dict.fromkeys(gate.unsure for gate in view.gates if gate.unsure):
        may = "; ".join(dict.fromkeys(gate.gate for gate in view.gates if gate.unsure == why))
        yield f"these gates may rest on fewer rows, and show less: {may}: {why}"
    yield from measured_on(view)


def measured_on(view: HeldOutView) -> Iterator[str]:
    """Yields each digest of what gates will be measured on: whoever requires a gate on that copies it."""
    known: dict[str, list[str]] = {}
    for one in view.gate_data:
        if one.digest is not None:
            known.setdefault(one.digest, []).append(one.gate)
    for digest, gates in known.items():
        yield f"on {digest}: {'; '.join(dict.fromkeys(gates))}"
    for why in dict.fromkeys(one.unsure for one in view.gate_data if one.unsure):
        own = [one.gate for one in view.gate_data if one.unsure == why and one.digest is None]
        yield f"no digest of {'; '.join(own)}: {why}" if own else f"these digests may be others: {why}"


def endpoint(view: AskedByEndpoint) -> Iterator[str]:
    """Yields what an endpoint asks, and how the run answers it."""
    for gate in view.gates:
        yield f"{gate.gate}: {'NOT ANSWERED: ' if gate.answered is False else ''}{gate.says}"
    if view.approval:
        yield "somebody has to approve the model (spec.promotion.mode: Approval)"
    if not view.gates and not view.approval:
        yield "it takes any model that passes its own gates"


def end(preview: Preview) -> str:
    """Returns what it comes to."""
    if preview.problems:
        return "This would not run as it is."
    never = [gate.never for gate in preview.held_out.gates if gate.never]
    if never:
        more = f" and {len(never) - _NAMED:,} more" if len(never) > _NAMED else ""
        said = f"This would run, and no model could pass it: {', '.join(never[:_NAMED])}{more}."
    else:
        said = "Nothing stands in the way of this run."
    if preview.endpoint is not None and preview.endpoint.lacks:
        taken = f"endpoint {preview.endpoint.name} would not take its model."
        return f"{said} And {taken}" if never else f"This would run, and {taken}"
    return said


def _fate(fate: Fate) -> str:
    examples = f" ({', '.join(fate.examples)}, …)" if fate.examples else ""
    return f"{amount(fate.rows)} rows: {fate.what}{examples}"


def _time(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:,.1f} h"
