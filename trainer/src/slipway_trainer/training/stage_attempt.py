"""One attempt of a stage, as one of its ranks has it: what it trains, where it writes, and whom it tells."""

from __future__ import annotations

from dataclasses import dataclass

from slipway_core.plan import Plan
from slipway_core.protocol.workspace import StageFolder, Workspace
from slipway_core.resources.stage import Stage
from slipway_trainer.step.fence import Fence
from slipway_trainer.step.progress import Reporter
from slipway_trainer.training.process_group import Ranks


@dataclass(frozen=True)
class StageAttempt:
    plan: Plan
    workspace: Workspace
    stage: Stage
    number: int
    ranks: Ranks
    reporter: Reporter | None
    """Rank 0 alone has one."""

    @property
    def folder(self) -> StageFolder:
        return self.workspace.stage(self.stage.name)

    @property
    def fence(self) -> Fence:
        return Fence(self.workspace.fence(self.stage.name), self.number)

    def say(self, message: str) -> None:
        """Shows what goes on when it is not a step."""
        if self.reporter:
            self.reporter.say(message)

    def show(self, message: str) -> None:
        """Shows how far that has come, without a line in the log."""
        if self.reporter:
            self.reporter.show(message)

    def add_warning(self, message: str) -> None:
        """Says, and keeps, what whoever wrote the run should know."""
        if self.reporter:
            self.reporter.add_warning(message)

    def log(self, message: str) -> None:
        if self.reporter:
            self.reporter.log(message)
