"""The route of one operation, with its starts, its report and its runs."""

import attrs
from aiohttp import web

from orchestrator.intake.access import Access
from orchestrator.intake.app_keys import TRANSACTIONS, WIRE
from orchestrator.intake.documentation import Answer, documented
from orchestrator.intake.operation_views import OperationHistory, view_history
from orchestrator.intake.problems import NOT_FOUND, REFUSED, UNAVAILABLE
from orchestrator.intake.run_views import RunSummary, summarize_run

routes = web.RouteTableDef()


@attrs.frozen(kw_only=True)
class OperationDetail(OperationHistory):
    """An operation with the runs that opened, reported and ended its starts, the first one first.
    A run that joined it is in its tenant's timeline."""

    runs: list[RunSummary]


@routes.get("/operations/{operationId:[^/]+}", name="operation")
@documented(
    "Get an operation with its starts, its report and its runs",
    description=(
        "One tenant's provisioning, deployment, deprovisioning or clean-up, from its request "
        "to its end: each start with its job, the report to the control plane with its last "
        "attempts, and the runs that opened and ended it."
    ),
    tag="tenants",
    access=Access("runs:read"),
    answers={
        200: Answer("The operation", OperationDetail),
        401: REFUSED,
        404: NOT_FOUND,
        503: UNAVAILABLE,
    },
)
async def get_operation(request: web.Request) -> web.Response:
    operation_id, transactions = request.match_info["operationId"], request.app[TRANSACTIONS]
    operation = await transactions.find_operation(operation_id)
    if operation is None:
        raise web.HTTPNotFound(text=f"There is no operation {operation_id!r}.")
    starts = (*operation.starts, operation.as_past)
    named = {run_id for start in starts for run_id in (start.opener, start.outcome) if run_id}
    named |= {operation.told_by} if operation.told_by else set()
    runs = await transactions.find_runs(sorted(named))
    shown = OperationDetail(
        **attrs.asdict(view_history(operation, runs, transactions.timings), recurse=False),
        runs=list(map(summarize_run, sorted(runs.values(), key=lambda run: run.position))),
    )
    return web.json_response(request.app[WIRE].unstructure(shown))
