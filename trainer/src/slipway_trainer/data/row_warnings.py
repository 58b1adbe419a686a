"""What is most likely not meant of the rows of a stage, and what nobody refuses: said by the preview and by prepare."""

from __future__ import annotations

from collections.abc import Iterator

_MOST_CUT = 0.5


def of_stage(
    stage: str, *, rows: int, cut: int, markers: int, apart: int, max_length: int, median: int | None = None
) -> Iterator[str]:
    """Yields a sentence for each.

    Args:
        rows: that were looked at; the others are counts of these.
        cut: rows that lose answers or their end to maxLength.
        markers: control tokens that are written out in turns.
        apart: texts more than conversations.
        median: tokens of a row, where that is known.
    """
    place, looked = f"stage {stage}", max(1, rows)
    if markers:
        yield (
            f"{place}: {markers:,} control tokens are written out in turns, such as an end of turn: they are learned "
            "as text, and control nothing"
        )
    if cut / looked > _MOST_CUT:
        half = f"Half of the rows have at most {median:,} tokens. " if median is not None else ""
        yield (
            f"{place}: {cut / looked:.0%} of the rows lose answers or their end to maxLength {max_length}. "
            f"{half}Raise maxLength"
        )
    if apart:
        yield (
            f"{place}: the chat template renders a conversation otherwise at each turn, so that its answers are "
            f"learned in texts of their own: {apart / looked:.1f} more texts a conversation"
        )
