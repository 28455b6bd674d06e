"""Your handlers on AWS Lambda: a function for API Gateway, a function URL, a queue or a schedule.

    FROM orchestrator-lambda
    COPY examples/on_lambda.py ${LAMBDA_TASK_ROOT}/
    CMD ["on_lambda.handler"]

`orchestrator-lambda` is the image of deploy/lambda.Dockerfile; docs/lambda.md has the settings.
"""

import os

import attrs

from orchestrator import Event, HandlerRegistry, Run

registry = HandlerRegistry()


@attrs.frozen
class Invoice:
    number: str


@registry.on("INVOICE_PAID")
async def paid(event: Event[Invoice], run: Run) -> None:
    run.log.info("paid", number=event.payload.number)


# The service reads its settings at the first invocation.
os.environ.setdefault("ORCHESTRATOR__EXTENSION", "on_lambda:registry")
from orchestrator.lambda_handler import handler  # noqa: E402, F401
