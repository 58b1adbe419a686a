"""One rank of a stage that has several: what the launcher starts. It reports to the launcher, not to the executor."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from slipway_core.protocol import variables
from slipway_host import imports


def main() -> None:
    from slipway_trainer.step import startup
    from slipway_trainer.step.run_step import run_step
    from slipway_trainer.training.launching import launch

    launch.die_with_launcher()
    startup.prepare_process()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--stage", required=True)
    parser.add_argument("--attempt", type=int, required=True)
    parser.add_argument("--results", type=Path, required=True)
    arguments = parser.parse_args()
    from slipway_core.plan import Plan
    from slipway_core.protocol.step_result import StepResult
    from slipway_core.protocol.workspace import Workspace
    from slipway_trainer.training.process_group import Ranks

    ranks = Ranks.from_environment()
    os.environ[variables.RESULT_VARIABLE] = str(arguments.results / f"{ranks.rank}.json")

    def body(plan: Plan, workspace: Workspace) -> StepResult:
        with imports.of_libraries():
            from slipway_trainer.training.stage import train_stage

        return train_stage(plan, workspace, stage=arguments.stage, attempt=arguments.attempt, ranks=ranks)

    code = run_step(
        arguments.stage,
        body,
        plan_file=arguments.plan,
        folder=arguments.workspace,
        attempt=arguments.attempt,
    )
    sys.stdout.flush()
    sys.stderr.flush()
    # ZeRO-3 on gloo aborts in one of five normal exits, after its work is done.
    os._exit(code)


if __name__ == "__main__":
    main()
