"""The embedded AWS, for `orchestrator dev`, `orchestrator demo` and the tests (the `dev` extra)."""

from orchestrator.embedded.aws import (
    SAMPLE_TIERS,
    BusQueue,
    EmbeddedAWS,
    open_bus_queue,
    open_embedded_aws,
)
from orchestrator.embedded.build_timer import BuildTimer
from orchestrator.embedded.codebuild import Build, CodeBuildStandIn, open_codebuild
from orchestrator.embedded.control_plane import ControlPlaneStandIn, open_control_plane
from orchestrator.embedded.faults import Fault, Faults, hang_up

__all__ = [
    "SAMPLE_TIERS",
    "Build",
    "BuildTimer",
    "BusQueue",
    "CodeBuildStandIn",
    "ControlPlaneStandIn",
    "EmbeddedAWS",
    "Fault",
    "Faults",
    "hang_up",
    "open_bus_queue",
    "open_codebuild",
    "open_control_plane",
    "open_embedded_aws",
]
