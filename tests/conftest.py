"""What the tests share: an embedded CodeBuild, and the service over it."""

import gc
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import TraceConfig, web
from aiohttp.test_utils import TestClient
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from orchestrator import Settings, create_app
from orchestrator.embedded import CodeBuildStandIn, EmbeddedAWS, open_codebuild
from orchestrator.settings import Aws, Intake, LedgerSettings, Operations, Tiers
from orchestrator.testing import ManualClock
from tests.dynamodb_local.fixtures import dynamodb_local as dynamodb_local
from tests.ministack.fixtures import ministack as ministack
from tests.time_limit import IS_SOAK
from tests.time_limit import pytest_runtest_teardown as pytest_runtest_teardown
from tests.time_limit import pytest_timeout_set_timer as pytest_timeout_set_timer
from tests.transport import TRANSPORT

# How long an example takes is the machine's business. Two runs of one tree try the same examples:
# what fails is then due to a change. `make search` tries others.
hypothesis_settings.register_profile(
    "patient",
    deadline=None,
    derandomize=not IS_SOAK,
    suppress_health_check=[HealthCheck.too_slow],
)
hypothesis_settings.load_profile("patient")

# Each client of AWS and each process reads all authorities, which takes longer than the rest of
# its start. Nothing here has TLS: one is enough.
os.environ |= dict.fromkeys(
    ("AWS_CA_BUNDLE", "SSL_CERT_FILE"), str(Path(__file__).with_name("authority.pem"))
)
os.environ.pop("NODE_EXTRA_CA_CERTS", None)

#: The stand-in that the service's builds run on.
CODEBUILD = web.AppKey("codebuild", CodeBuildStandIn)

#: Without time and colour, which would take more than what most log lines are about.
_PROCESSORS: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.dev.set_exc_info,
    structlog.processors.format_exc_info,
    structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
]

Client = TestClient[web.Request, web.Application]
StartService = Callable[..., Awaitable[Client]]

TIERS: dict[str, dict[str, Any]] = {
    "BASIC": {"jobName": "basic-tenant", "VPC_ID": "vpc-1", "ACCESS_TOKEN_EXPIRATION": 3600},
    "STANDARD": {
        "jobIdentifier": "standard-tenant",
        "deprovisioningJobIdentifier": "standard-tenant-teardown",
        "VPC_ID": "vpc-2",
        "ACCESS_TOKEN_EXPIRATION": 3600,
        "POSTGRES_SIZE": "5",
    },
    "PREMIUM": {
        "jobIdentifier": "premium-tenant",
        "deploymentJobIdentifier": "premium-tenant-deployment",
    },
    "EMPTY": {"VPC_ID": "vpc-3"},
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One for each processor, and three more unless only unit tests run: the others wait for a
    lease, a retry or an index. With two more the processors had nothing to do for a fifth of the
    time."""
    wait = not all(f"{Path(chosen)}/".startswith("tests/unit/") for chosen in config.args)
    return (os.cpu_count() or 1) + 3 * wait


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that take a minute come first on each worker, so that none of them is waited for at
    the end; a worker begins with its share of the list, in this order (`--dist worksteal`)."""
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    slow = [item for item in items if item.get_closest_marker("timeout")]
    quick = [item for item in items if not item.get_closest_marker("timeout")]
    share = -(-len(quick) // workers)
    items[:] = [
        item
        for worker in range(workers)
        for item in (*slow[worker::workers], *quick[worker * share : (worker + 1) * share])
    ]


def pytest_collection_finish() -> None:
    """What was imported and collected stays: the garbage collector needn't look at it each time.
    With its default threshold it takes a seventh of the tests' CPU."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


@pytest.fixture(autouse=True)
def plain_tracebacks() -> Iterator[None]:
    """structlog's own set-up prints tracebacks by rich, which takes half a second each.

    A logger that keeps its configuration from its first line on, as in a Lambda function, would
    keep that of this test.
    """
    structlog.configure(processors=_PROCESSORS)
    yield
    structlog.reset_defaults()
    for log in _loggers(len(sys.modules)):
        vars(log).pop("bind", None)


@cache
def _loggers(_imported: int) -> list[Any]:
    """Those of the package's modules; they are looked for anew once more modules are imported."""
    modules = [vars(one) for name, one in sys.modules.items() if name.startswith("orchestrator")]
    return [module["log"] for module in modules if "log" in module]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def codebuild(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CodeBuildStandIn]:
    """A CodeBuild stand-in that AWS's own variables lead to, with a project for each tier."""
    async with open_codebuild() as stand_in:
        for attributes in TIERS.values():
            for name, value in attributes.items():
                if name == "jobName" or name.lower().endswith("jobidentifier"):
                    stand_in.add_project(str(value))
        aws = EmbeddedAWS(endpoint_url="http://127.0.0.1:9", codebuild=stand_in)
        for variable, value in aws.environment().items():
            monkeypatch.setenv(variable, value)
        yield stand_in


@pytest.fixture
def settings() -> Settings:
    """Ledger and tiers in memory, no sweep by itself, and patience with a slow machine."""
    return Settings(
        intake=Intake(deadline_s=60),
        ledger=LedgerSettings(backend="memory"),
        operations=Operations(reconcile_every_s=0),
        tiers=Tiers(backend="static", static=TIERS),
        aws=Aws(connect_timeout_s=10.0, read_timeout_s=30.0, transport=TRANSPORT),
    )


@pytest.fixture
def trace_configs() -> list[TraceConfig]:
    """What listens to the services' answers."""
    return []


@pytest.fixture
def start_service(
    aiohttp_client: Any,
    settings: Settings,
    codebuild: CodeBuildStandIn,
    clock: ManualClock,
    trace_configs: list[TraceConfig],
) -> StartService:
    """Start the service, with the keyword arguments of `create_app`."""

    async def start(settings: Settings = settings, **parts: Any) -> Client:
        app = create_app(settings, **{"clock": clock, "drain_s": 0, **parts})
        app[CODEBUILD] = codebuild
        client: Client = await aiohttp_client(app, trace_configs=trace_configs)
        return client

    return start


@pytest.fixture
async def service(start_service: StartService) -> Client:
    """The service as it is without an extension."""
    return await start_service()
