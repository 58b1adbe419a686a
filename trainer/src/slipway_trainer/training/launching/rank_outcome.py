"""How the ranks of a stage ended, said as one process: by the gravest of their failures, or by what rank 0 reports."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from slipway_core.protocol import exit_codes, step_result
from slipway_core.protocol.step_result import ResultError, StepResult
from slipway_trainer.step import errors
from slipway_trainer.step.errors import StepFailure


def read_results(folder: Path, *, seconds: float, expected: int) -> dict[int, StepResult]:
    """Returns what the ranks reported, by rank; a rank that was killed reported nothing."""
    deadline = time.monotonic() + seconds
    while True:
        found: dict[int, StepResult] = {}
        for path in folder.glob("*.json"):
            try:
                found[int(path.stem)] = step_result.decode(path.read_text(encoding="utf-8"))
            except (ResultError, ValueError, OSError):
                continue
        if len(found) == expected or any(r.error for r in found.values()) or time.monotonic() >= deadline:
            return found
        time.sleep(0.2)


def outcome(results: dict[int, StepResult], codes: list[int]) -> StepResult:
    """Returns what the first rank that is here reported. Raises the gravest failure of all of them.

    Args:
        results: what the ranks reported, by rank.
        codes: exit codes of ranks that failed.
    """
    failures = [as_failure(result.error.kind, result.error.message) for result in results.values() if result.error]
    progress = next((result.progress for _, result in sorted(results.items()) if result.progress), None)
    reported = [failure.exit_code for failure in failures]
    # A rank that was killed has a code and no report. The launcher's own SIGTERM to the rest is no failure of theirs.
    killed = [code for code in codes if code not in (0, *reported, exit_codes.RESTARTABLE)]
    if (killed and not failures) or (killed and exit_codes.gravest_code([*reported, *killed]) not in reported):
        failures.append(_killed(killed[0]))
    if not failures and exit_codes.RESTARTABLE in codes and len(results) == 0:
        raise errors.Interrupted("stopped before the ranks had started")
    if failures:
        gravest = exit_codes.gravest_code([failure.exit_code for failure in failures])
        worst = next(failure for failure in failures if failure.exit_code == gravest)
        worst.progress = progress
        errors.leave_warnings(worst, next((one.warnings for _, one in sorted(results.items()) if one.warnings), None))
        raise worst
    if not results:
        raise StepFailure("the ranks ended without a word")
    return results[min(results)]


def as_failure(kind: str, message: str) -> StepFailure:
    """Returns the failure of another process as one of ours."""
    for candidate in vars(errors).values():
        if isinstance(candidate, type) and issubclass(candidate, StepFailure) and candidate.kind == kind:
            return candidate(message)
    return StepFailure(f"{kind}: {message}")


def _killed(code: int) -> StepFailure:
    if code < 0:
        name = signal.Signals(-code).name
        hint = ": the kernel does that when memory runs out" if -code == signal.SIGKILL else ""
        return StepFailure(f"a rank was killed by {name}{hint}")
    return StepFailure(f"a rank ended with exit code {code} and said nothing; its log says more")
