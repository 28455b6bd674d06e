"""Opens the builders that the settings name, and a user's own."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from orchestrator.adapters.aws import AWS
from orchestrator.adapters.codebuild.builder import CodeBuildBuilder
from orchestrator.adapters.codebuild.builds import CODE_BUILD
from orchestrator.adapters.codebuild.listings import BuildListings
from orchestrator.adapters.dry_run import DryRunBuilder
from orchestrator.adapters.jenkins.builder import JENKINS, open_jenkins
from orchestrator.adapters.step_functions.builder import StepFunctionsBuilder
from orchestrator.adapters.step_functions.executions import STEP_FUNCTIONS
from orchestrator.adapters.tracing import traced_sessions
from orchestrator.core.clock import Clock
from orchestrator.core.jobs.builder import Builder
from orchestrator.core.secrets.redaction import Redactor
from orchestrator.core.secrets.secret_resolver import SecretResolver
from orchestrator.core.tracing import NO_TRACING, Tracing
from orchestrator.settings import Builders, SettingsError


@asynccontextmanager
async def open_builders(
    settings: Builders,
    own: Mapping[str, Builder],
    aws: AWS,
    credentials: SecretResolver,
    clock: Clock,
    secrets: Redactor,
    tracing: Tracing = NO_TRACING,
) -> AsyncIterator[Mapping[str, Builder]]:
    """The builders by name, opened for the life of the context; in a dry run none starts anything.

    Raises:
        SettingsError: the default builder doesn't exist.
    """
    listings = BuildListings(aws.codebuild, clock, name=CODE_BUILD)
    builders: dict[str, Builder] = {
        CODE_BUILD: CodeBuildBuilder(aws.codebuild, listings, name=CODE_BUILD)
    }
    if machines := settings.step_functions.state_machines:
        builders[STEP_FUNCTIONS] = StepFunctionsBuilder(
            aws.step_functions, name=STEP_FUNCTIONS, state_machines=machines
        )
    async with AsyncExitStack() as stack:
        jenkins = settings.jenkins
        if jenkins.url is not None:
            builders[JENKINS] = await stack.enter_async_context(
                open_jenkins(
                    url=jenkins.url,
                    user=jenkins.user,
                    token=partial(credentials.resolve, jenkins.token),
                    name=JENKINS,
                    unstable_is_success=jenkins.unstable_is_success,
                    trace_configs=traced_sessions(tracing),
                    connect_timeout_s=jenkins.connect_timeout_s,
                    timeout_s=jenkins.timeout_s,
                )
            )
        builders |= own
        if settings.default not in builders:
            raise SettingsError(
                f"The setting builders.default is {settings.default!r}, which is no builder "
                f"here; there is {', '.join(sorted(builders))}."
            )
        if settings.dry_run:
            builders = {
                name: DryRunBuilder(builder, name=name, secrets=secrets)
                for name, builder in builders.items()
            }
        yield builders
