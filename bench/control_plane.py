"""What the operator costs a cluster: runs created at once on a real API server, beside as many bare Indexed Jobs.

    make bench-control-plane       # or: python -m bench.control_plane [--runs 1000] [--qps 200]

One control plane (tools/testcluster), pods by KWOK that leave believable termination messages, serving left out. First
as many bare Indexed Jobs are created as the runs will make, with the very pods of their steps, then the runs. Both come
from one client with the same limit; the operator, the controller manager and the scheduler have that limit each. The
Jobs stay, so that the runs have the fuller API server. What counts:

- Jobs a second of the runs, as a share of that of the bare Jobs: at least 0.5
- writes by the operator: at most 3 for each Job, and 5 more for each run
- runs that finish do not wait behind those that begin: the p50 of the first half created is below that of the second
- afterwards, with all of them finished: under 1 % of a core and under 200 MB

Afterwards begins once the operator has settled: what is on its way when the last run ends is told by itself, and so is
a list of everything, which comes every ten minutes and counts with its share of them.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

from bench.created_at_once import Timed, create_and_wait
from bench.operator_at_rest import IDLE_SECONDS, RESYNC_SECONDS, AtRest, observe, with_lists
from bench.process_usage import Usage, usage_of
from tests.integration.api_client import Manifest
from tests.integration.control_plane import ControlPlane, started
from tests.integration.fresh_namespace import fresh_namespace
from tests.integration.operator.audit import OPERATOR, writes
from tests.integration.operator.operator_process import OperatorProcess
from tests.integration.operator.runs_on_cluster import SPEC, STEPS

from slipway_core import plan as plans
from slipway_core.resources.training_run import TrainingRun
from slipway_operator.kube.kinds import JOB, TRAINING_RUN
from slipway_operator.manifests.owner import Owner
from slipway_operator.manifests.run.step_job import step_job
from slipway_operator.manifests.run.workspace_claim import workspace_claim
from slipway_operator.settings import Settings

LISTS_EVERY = "15s"
"""Of everything, where what one takes is measured."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--qps", type=int, default=200, help="requests a second of each client, burst twice that")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder,
        started(Path(folder, "cluster"), qps=options.qps) as plane,
    ):
        compare(plane, Path(folder), options.runs, options.qps)


def compare(plane: ControlPlane, folder: Path, number: int, qps: int) -> None:
    jobs = number * len(STEPS)
    with fresh_namespace(plane.api, "bare"), fresh_namespace(plane.api, "runs"):
        plane.api.create(workspace_claim("bare", Settings()), "bare")
        bare = create_and_wait(plane.api, JOB, "bare", [a_bare_job(index) for index in range(jobs)], qps, job_ended)
        with running(plane, folder, settings(qps)) as operator:
            assert operator.process is not None
            pid = operator.process.pid
            before = usage_of(pid)
            runs = create_and_wait(
                plane.api, TRAINING_RUN, "runs", [a_run(index) for index in range(number)], qps, run_ended
            )
            busy = usage_of(pid) - before
            rest = observe(operator)
        with running(plane, folder, {**settings(qps), "resync": LISTS_EVERY}) as operator:
            rest = with_lists(rest, operator)
        report(plane, number, qps, bare, runs, busy, rest)


@contextmanager
def running(plane: ControlPlane, folder: Path, given: dict[str, Any]) -> Iterator[OperatorProcess]:
    operator = OperatorProcess(plane.operator_kubeconfig, folder / "operator", given)
    operator.start()
    try:
        yield operator
    finally:
        operator.stop()


def job_ended(job: Manifest) -> bool:
    conditions = job.get("status", {}).get("conditions") or []
    return any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions)


def run_ended(run: Manifest) -> bool:
    return run.get("status", {}).get("phase") in ("Completed", "Failed", "Rejected", "Held")


def a_run(index: int) -> Manifest:
    return {
        "apiVersion": "slipway.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": f"run-{index:05}"},
        "spec": copy.deepcopy(SPEC),
    }


def a_bare_job(index: int) -> Manifest:
    """The Job of a training step, of no run: nobody but Kubernetes looks after it."""
    document = a_run(index)
    document["metadata"] |= {"uid": f"{index:08}-0000-0000-0000-000000000000", "namespace": "bare"}
    run = TrainingRun.model_validate(document, by_alias=True, by_name=False)
    plan = plans.resolve(run)
    job = step_job(plan, Owner.run(run.name, plan.run.uid), "learn", 1, settings=Settings(), claim="slipway-workspace")
    job["metadata"] = {"name": f"job-{index:05}"}
    job["spec"]["template"]["metadata"] = {"labels": {"bench": "bare"}}
    return job


def settings(qps: int) -> dict[str, Any]:
    """The operator as the chart installs it, but for the limit and for pods that answer nothing."""
    return {
        "client": {"qps": qps, "burst": 2 * qps},
        "podUrl": "http://127.0.0.1:9/{namespace}/{pod}",
        "progressSeconds": 10,
        "backoff": "10s",
        "longestBackoff": "5m",
    }


def report(plane: ControlPlane, number: int, qps: int, bare: Timed, runs: Timed, busy: Usage, rest: AtRest) -> None:
    jobs = number * len(STEPS)
    made = list(writes(plane.audit_log, "runs"))
    ours = [one for one in made if one.actor == OPERATOR]
    half = number // 2
    first, second = p(runs.lives[:half], 50), p(runs.lives[half:], 50)
    ratio = (jobs / runs.wall) / (jobs / bare.wall)
    allowed = 3 * jobs + 5 * number
    print(f"\n{number} runs of {len(STEPS)} Jobs; {qps} requests a second and a burst of {2 * qps} for each client\n")
    print(f"{'':24}{'objects':>9}{'wall s':>9}{'Jobs/s':>9}{'p50 s':>9}{'p95 s':>9}{'p99 s':>9}")
    for name, timed, objects in (("bare Indexed Jobs", bare, jobs), ("TrainingRuns", runs, number)):
        shares = "".join(f"{p(timed.lives, share):9.1f}" for share in (50, 95, 99))
        print(f"{name:24}{objects:9}{timed.wall:9.1f}{jobs / timed.wall:9.1f}{shares}")
    print(f"\n{'writes to the runs by':48}{'all':>9}{'a run':>9}")
    for actor, count in Counter(one.actor for one in made).most_common():
        print(f"{actor.removeprefix('system:'):48}{count:9}{count / number:9.2f}")
    print(f"\n{'of these by the operator':48}{'all':>9}{'a run':>9}")
    for (verb, resource), count in Counter((one.verb, one.resource) for one in ours).most_common():
        print(f"{verb + ' ' + resource:48}{count:9}{count / number:9.2f}")
    print(f"\nthe operator: {busy.cpu_seconds:.1f} CPU-seconds, {busy.peak_megabytes:.0f} MB at most")
    print(
        f"settles in {rest.settling_seconds:.0f} s after the last end: {rest.settling_did.passes} passes, "
        f"{rest.settling_did.requests} requests, {rest.settling.cpu_seconds:.2f} CPU-seconds"
    )
    print(
        f"then idle for {IDLE_SECONDS} s: {rest.idle_did.passes} passes, {rest.idle_did.requests} requests, "
        f"{100 * rest.idle_share:.2f} % of a core, {rest.idle.megabytes:.0f} MB"
    )
    print(f"a list of everything, each {RESYNC_SECONDS} s: {rest.list_cpu_seconds:.2f} CPU-seconds\n")
    told("rate, as a share of that of the bare Jobs", f"{ratio:.2f}", "at least 0.50", ratio >= 0.5)
    told("writes by the operator", f"{len(ours)}", f"at most {allowed}", len(ours) <= allowed)
    told("p50 of the first half created", f"{first:.1f} s", f"below {second:.1f} s", first < second)
    share = 100 * rest.share
    told("idle with all of them finished, lists too", f"{share:.2f} %", "under 1 % of a core", share < 1)
    megabytes = rest.idle.megabytes
    told("memory with all of them finished", f"{megabytes:.0f} MB", "under 200 MB", megabytes < 200)


def told(what: str, found: str, wanted: str, holds: bool) -> None:
    print(f"{'ok ' if holds else 'NO '} {what:44}{found:>10}   {wanted}")


def p(values: list[float], share: int) -> float:
    """Returns a percentile."""
    return quantiles(values, n=100, method="inclusive")[share - 1]


if __name__ == "__main__":
    main()
