"""The embedded AWS, for `orchestrator dev`, `orchestrator demo` and the tests (the `dev` extra)."""

from orchestrator.embedded.aws import SAMPLE_TIERS, EmbeddedAWS, open_embedded_aws
from orchestrator.embedded.codebuild import Build, CodeBuildStandIn, Fault, open_codebuild

__all__ = [
    "SAMPLE_TIERS",
    "Build",
    "CodeBuildStandIn",
    "EmbeddedAWS",
    "Fault",
    "open_codebuild",
    "open_embedded_aws",
]
