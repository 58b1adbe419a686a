"""What was found, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Row = dict[str, Any]


def markdown(machine: Row, rows: list[Row], seconds: float) -> str:
    """Returns one page: the machine, the checks, the speeds with their memory, the checkpoints, what was left out."""
    versions = ", ".join(f"{name} {version}" for name, version in machine.get("versions", {}).items())
    lines = [f"{machine.get('device', 'no device')}; {versions}; {seconds:.0f} s", ""]
    lines += _table(("check", "", "found"), _checks(_of(rows, "check")))
    lines += _table(("step of the quickstart", "s", ""), _steps(_of(rows, "step")))
    lines += _table(
        ("model", "rows", "trains", "by", "tokens/s", "MFU", "Slipway is", "peak memory", "estimate", "remarks"),
        _speeds(_of(rows, "speed"), machine.get("flops")),
    )
    lines += _table(
        ("checkpoint of", "GB", "synchronous save, s", "stall, s", "first stall, s", "share"),
        _stalls(_of(rows, "stall")),
    )
    lines += [f"- left out: {row['what']}" for row in _of(rows, "left out")]
    return "\n".join(lines) + "\n"


def passed(rows: Iterable[Row]) -> bool:
    """Whether no check failed and everything that was tried was measured; what had no time is no failure."""
    return all(row.get("passed", True) and "failed" not in row and row["kind"] != "broken" for row in rows)


def _of(rows: Iterable[Row], kind: str) -> list[Row]:
    return [row for row in rows if row["kind"] == kind]


def _checks(rows: list[Row]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        yield row["name"], "yes" if row["passed"] else "**NO**", row["found"]


def _steps(rows: list[Row]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        seconds = f"{row['seconds']:.1f}" if "seconds" in row else ""
        trained = f"{row['steps']} steps, the later half {row['step_ms']:.1f} ms each" if "steps" in row else ""
        yield row["name"], seconds, row.get("found", trained)


def _speeds(rows: list[Row], flops: float | None) -> Iterator[tuple[str, ...]]:
    own = {_setting(row): row for row in rows if row["contender"] == "slipway" and "failed" not in row}
    for row in rows:
        told = (row["model"], f"{row['rows']:,}", row["trains"], row["contender"])
        if "failed" in row:
            yield *told, "", "", "", "", _gib(row["estimated_bytes"]), row["failed"]
            continue
        ours = own.get(_setting(row))
        ratio = ours["tokens_per_second"] / row["tokens_per_second"] if ours and ours is not row else None
        yield (
            *told,
            f"{row['tokens_per_second']:,.0f}",
            f"{row['flops_per_second'] / flops:.1%}" if flops else "",
            f"{ratio:.2f} times as fast" if ratio else "",
            _gib(row["peak_bytes"]),
            _gib(row["estimated_bytes"])
            + (f" ({row['estimated_bytes'] / peak:.2f})" if (peak := row["peak_bytes"]) else ""),
            f"{row['rows_at_once']} rows at once, {row['precision']}, {row['note']}",
        )


def _setting(row: Row) -> tuple[Any, ...]:
    return row["model"], row["rows"], row["trains"]


def _stalls(rows: list[Row]) -> Iterator[tuple[str, ...]]:
    for row in rows:
        share = row["stall"] / row["whole"]
        sizes = (row["model"], f"{row['bytes'] / 1e9:.2f}")
        yield *sizes, f"{row['whole']:.2f}", f"{row['stall']:.3f}", f"{row['first']:.3f}", f"{share:.0%}"


def _gib(count: float) -> str:
    return f"{count / 2**30:.2f} GiB"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    body = [f"| {' | '.join(row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *body, ""] if body else []
