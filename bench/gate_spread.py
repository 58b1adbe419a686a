"""By how much documents and answers differ: what `slipway preview` assumes of gates on texts and on a whole corpus.

    .venv/bin/python -m bench.gate_spread [REPORT.json ...]

Of references of which words (of Chinese, characters) are exchanged: all answers as bad, as bad as prompts are hard
(Beta), or each of them right or wrong. Of each report of an evaluation (`evaluation/<n>/report.json` of a run's
folder): of every source, and of gates on a regression. Told is the standard deviation that a bound comes to, by its
distance from the figure: of a text as a share of the figure, or of a perplexity's logarithm; of BLEU and chrF as a
share of sqrt(f (100 - f)) points; of a regression in the metric's own unit. The tables go to the standard output.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench.samples import rows

from slipway_core.resources.gate_metrics import SCORED_METRICS
from slipway_trainer.bounds import intervals, student
from slipway_trainer.evaluation import corpus_scores

CONFIDENCE = 0.95
PROMPTS = (20, 40, 80)
SHARES = (0.2, 0.5, 0.8, 0.95)
SEED = 5
_CHINESE = re.compile("[\u4e00-\u9fff]")


def width(distance: float, clusters: int) -> float:
    """Returns the standard deviation of clusters whose bound is so far from the figure."""
    return distance * math.sqrt(clusters) / student.quantile(clusters - 1, CONFIDENCE)


def references() -> dict[str, list[str]]:
    prose = [str(row["text"]) for row in rows("general-text")]
    english = [text for text in prose if not _CHINESE.search(text)]
    chinese = [text for text in prose if _CHINESE.search(text)]
    return {
        "lines of verse": [str(row["answer"]) for row in rows("tang-couplets")],
        "poems": [str(row["text"]) for row in rows("tang")],
        "English sentences": [s for text in english for s in re.split(r"(?<=[.!?])\s+", text) if 30 < len(s) < 250],
        "Chinese sentences": [s for text in chinese for s in re.findall("[^。！？]+[。！？]", text) if 8 < len(s) < 80],
        "English paragraphs": english,
    }


def spoilt(text: str, share: float, others: dict[bool, np.ndarray], draw: np.random.Generator) -> str:
    """Returns a text with so many of its words, or characters, exchanged for those of other texts."""
    chinese = _CHINESE.search(text) is not None
    words = list(text) if chinese else text.split()
    told = [
        str(others[chinese][draw.integers(len(others[chinese]))]) if draw.random() < share else word for word in words
    ]
    return ("" if chinese else " ").join(told)


def shares_of(mode: str, share: float, count: int, draw: np.random.Generator) -> list[float]:
    """Returns how much of each answer is exchanged."""
    if mode == "as bad":
        return [share] * count
    if mode == "as bad as prompts are hard":
        return [float(one) for one in draw.beta(2 * share, 2 * (1 - share), count)]
    return [float(draw.random() < share) for _ in range(count)]


def of_references() -> Iterator[str]:
    draw = np.random.default_rng(SEED)
    known = references()
    every = [
        word for texts in known.values() for text in texts for word in (text if _CHINESE.search(text) else text.split())
    ]
    others = {
        chinese: np.array([word for word in every if bool(_CHINESE.search(word)) is chinese])
        for chinese in (True, False)
    }
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    paired: dict[str, list[float]] = defaultdict(list)
    for texts in known.values():
        for mode in ("as bad", "as bad as prompts are hard", "right or wrong"):
            for share in SHARES:
                for count in (one for one in PROMPTS if one <= len(texts)):
                    wanted = [texts[place] for place in draw.choice(len(texts), count, replace=False)]
                    shares = shares_of(mode, share, count, draw)
                    first, second = (
                        [spoilt(w, s, others, draw) for w, s in zip(wanted, shares, strict=True)] for _ in "12"
                    )
                    for metric in ("chrf", "bleu"):
                        own, then = (
                            getattr(corpus_scores, f"{metric}_parts")(said, [[one] for one in wanted])
                            for said in (first, second)
                        )
                        figure, sizes = getattr(corpus_scores, metric), np.ones(count)
                        bounds = intervals.of_sums(own, sizes, figure, CONFIDENCE)
                        if 0 < bounds.value < 100:
                            most = math.sqrt(bounds.value * (100 - bounds.value))
                            found[metric, mode].append(width(bounds.value - bounds.lower, count) / most)
                        between = intervals.of_sums_difference(own, sizes, then, figure, CONFIDENCE)
                        paired[metric].append(width((between.upper - between.lower) / 2, count))
    for (metric, mode), own in found.items():
        low, high = np.quantile(own, [0.1, 0.9])
        yield f"{metric:5} {mode:27} {statistics.median(own):.2f} ({low:.2f} to {high:.2f}) of sqrt(f (100 - f))"
    for metric, own in paired.items():
        yield f"{metric:5} spoilt twice                {statistics.median(own):.0f} points"


def of_report(report: dict[str, Any]) -> Iterator[str]:
    for who in ("candidate", "base"):
        for scope in (report.get(who) or {}).get("scopes", []):
            if scope["slice"] is None:
                yield from (
                    f"{who:9} {scope['source']!s:12} {metric:20} {said}"
                    for metric, bounds in scope["metrics"].items()
                    if (said := _of_figure(metric, bounds)) is not None
                )
    for gate in report["gates"]:
        estimate = gate.get("estimate")
        if gate.get("other") is not None and estimate is not None and estimate["upper"] is not None:
            told = width((estimate["upper"] - estimate["lower"]) / 2, estimate["clusters"])
            share = f", {told / gate['value']:.2f} of the figure" if "perplexity" in gate["metric"] else ""
            yield f"worse     {gate.get('source')!s:12} {gate['metric']:20} {told:.3g}{share}"


def _of_figure(metric: str, bounds: dict[str, Any]) -> str | None:
    value, lower, upper = (bounds.get(name) for name in ("value", "lower", "upper"))
    if value is None or lower is None or upper is None:
        return None
    if metric in ("chrf", "bleu") and 0 < value < 100:
        down, up = width(value - lower, bounds["clusters"]), width(upper - value, bounds["clusters"])
        return (
            f"{value:.3g}: {down / math.sqrt(value * (100 - value)):.2f} of sqrt(f (100 - f)), {up:.0f} points upwards"
        )
    if metric not in SCORED_METRICS:
        return None
    if "perplexity" in metric:
        value, lower, upper = math.log(value), math.log(lower), math.log(upper)
    down, up = (width(one, bounds["clusters"]) / value for one in (value - lower, upper - value))
    return f"{value:.3g}: {down:.3f} and {up:.3f} of it"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="*", type=Path, metavar="REPORT.json")
    for line in of_references():
        print(line, flush=True)
    for path in parser.parse_args().reports:
        print(f"\n{path}")
        for line in of_report(json.loads(path.read_text())):
            print(line)


if __name__ == "__main__":
    main()
