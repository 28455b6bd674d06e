"""The route of the overview: how many tenants are in each state, and what is open the longest."""

from collections.abc import Mapping

import attrs
from aiohttp import web

from orchestrator.core.ledger.ledger import Summary
from orchestrator.core.ledger.pages import Count
from orchestrator.intake.access import Access
from orchestrator.intake.app_keys import TRANSACTIONS, WIRE
from orchestrator.intake.documentation import Answer, documented
from orchestrator.intake.operation_views import OperationView, openers_without_job, view_operation
from orchestrator.intake.problems import REFUSED, UNAVAILABLE

routes = web.RouteTableDef()

#: More of a kind are not counted.
_MOST = 1000


@attrs.frozen(kw_only=True)
class CountView:
    """A number; `capped`: there are more, which weren't counted."""

    count: int
    capped: bool


@attrs.frozen(kw_only=True)
class Overview:
    """Tenants by state (`none`: their first request never began), failed runs, and the open
    operation that was opened first, null if none is open."""

    states: Mapping[str, CountView]
    failed_runs: CountView
    oldest_operation: OperationView | None


@routes.get("/overview")
@documented(
    "Count tenants by state and failed runs, and find the oldest open operation",
    description=(
        "The figures of a dashboard, each counted up to 1,000, in a fixed number of requests "
        "of the ledger."
    ),
    tag="tenants",
    access=Access("runs:read"),
    answers={200: Answer("The overview", Overview), 401: REFUSED, 503: UNAVAILABLE},
)
async def get_overview(request: web.Request) -> web.Response:
    transactions = request.app[TRANSACTIONS]
    summary: Summary = await transactions.ledger.summarize(most=_MOST)
    oldest = summary.oldest
    runs = await transactions.find_runs(openers_without_job([oldest] if oldest else []))
    shown = Overview(
        states={state: _count(count) for state, count in summary.tenants.items()},
        failed_runs=_count(summary.failed_runs),
        oldest_operation=view_operation(oldest, runs, transactions.timings) if oldest else None,
    )
    return web.json_response(request.app[WIRE].unstructure(shown))


def _count(count: Count) -> CountView:
    return CountView(count=count.count, capped=count.is_capped)
