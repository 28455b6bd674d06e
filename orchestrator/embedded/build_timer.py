"""Ends the builds of the CodeBuild stand-in after a while, for `orchestrator dev`."""

import attrs

from orchestrator.core.clock import Clock, Dice
from orchestrator.embedded.codebuild import Build, CodeBuildStandIn

_SIDES = 1_000_000


@attrs.frozen(kw_only=True)
class BuildTimer:
    """Ends builds `after_s` seconds after their start; of them the share `failing`, from 0 to 1,
    as failed."""

    codebuild: CodeBuildStandIn
    clock: Clock
    dice: Dice
    after_s: float
    failing: float

    async def end(self, build: Build) -> None:
        """Wait, and end the build unless it has ended otherwise by then."""
        await self.clock.sleep(self.after_s)
        if build.ended is not None:
            return
        if self.dice.pick(_SIDES) < self.failing * _SIDES:
            self.codebuild.finish(build.id, "FAILED", reason="chosen to fail by --failing")
        else:
            self.codebuild.finish(build.id)
