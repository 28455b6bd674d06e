"""A Step Functions whose executions end when a test ends them (API reference, AWS Step Functions).

ministack's end on their own, and can neither time out nor be removed.
"""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
from aiohttp import web
from aiohttp.test_utils import TestServer

from orchestrator.embedded import Fault, Faults

Document = dict[str, Any]
_STATES = "arn:aws:states:us-east-1:123456789012"


class _RefusedError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(code)
        self.document = {"__type": code, "message": message}


@attrs.define
class StepFunctionsStandIn:
    """`executions` are by ARN, as DescribeExecution answers them; `machines` types by ARN."""

    url: str = ""
    machines: dict[str, str] = attrs.field(factory=dict)
    executions: dict[str, Document] = attrs.field(factory=dict)
    calls: list[tuple[str, Document]] = attrs.field(factory=list)
    faults: Faults = attrs.field(factory=Faults)
    _denied: set[str] = attrs.field(factory=set)

    def deny(self, arn: str) -> None:
        """Describing that execution is denied from now on."""
        self._denied.add(arn)

    def add_machine(self, name: str, machine_type: str = "STANDARD") -> str:
        """Add a state machine; returns its ARN."""
        arn = f"{_STATES}:stateMachine:{name}"
        self.machines[arn] = machine_type
        return arn

    def finish(
        self,
        arn: str,
        status: str,
        *,
        error: str | None = None,
        cause: str | None = None,
        **output: Any,
    ) -> None:
        """End an execution; `output` is its output."""
        ended: Document = {"status": status, "stopDate": time.time()}
        if status == "SUCCEEDED":
            ended["output"] = json.dumps(output)
        ended |= {k: v for k, v in (("error", error), ("cause", cause)) if v is not None}
        self.executions[arn] |= ended

    def redrive(self, arn: str) -> Document:
        """Run the execution again under the same ARN, as RedriveExecution does (developer guide,
        Redriving executions), and return it."""
        execution = self.executions[arn]
        assert execution["status"] in ("FAILED", "TIMED_OUT", "ABORTED"), execution["status"]
        for gone in ("stopDate", "output", "error", "cause"):
            execution.pop(gone, None)
        count = execution.get("redriveCount", 0) + 1
        execution |= {"status": "RUNNING", "redriveCount": count, "redriveDate": time.time()}
        return execution

    def inject(self, action: str, *faults: Fault) -> None:
        """Let the next requests of an action fail, one fault each."""
        self.faults.inject(action, *faults)

    async def handle_request(self, request: web.Request) -> web.Response:
        action = request.headers["X-Amz-Target"].removeprefix("AWSStepFunctions.")
        parameters = await request.json()
        self.calls.append((action, parameters))
        fault = self.faults.take(action)

        async def respond() -> web.Response:
            try:
                if fault and fault.kind == "error":
                    raise _RefusedError(fault.code, fault.message)
                answer, status = self._perform(action, parameters), 200
            except _RefusedError as refused:
                answer, status = refused.document, 400
            text = json.dumps(answer)
            return web.Response(status=status, text=text, content_type="application/x-amz-json-1.0")

        return await self.faults.meet(fault, request, respond)

    def _perform(self, action: str, parameters: Document) -> Document:
        match action:
            case "DescribeStateMachine":
                arn = self._machine(parameters)
                return {
                    "stateMachineArn": arn,
                    "name": arn.rpartition(":")[2],
                    "definition": "{}",
                    "roleArn": "arn:aws:iam::123456789012:role/machine",
                    "type": self.machines[arn],
                    "creationDate": 0,
                }
            case "StartExecution":
                return self._start(parameters)
            case "DescribeExecution":
                return self._execution(parameters)
            case "StopExecution":
                execution = self._execution(parameters)
                if execution["status"] != "RUNNING":
                    raise _RefusedError("ValidationException", "Execution is not running")
                self.finish(
                    execution["executionArn"], "ABORTED", cause=parameters.get("cause", None)
                )
                return {"stopDate": execution["stopDate"]}
        raise _RefusedError("UnknownOperationException", action)

    def _start(self, parameters: Document) -> Document:
        machine, name = self._machine(parameters), parameters["name"]
        arn = f"{machine.replace(':stateMachine:', ':execution:')}:{name}"
        known = self.executions.get(arn)
        if known is not None:
            is_same = known["status"] == "RUNNING" and known["input"] == parameters["input"]
            if not is_same:
                raise _RefusedError("ExecutionAlreadyExists", f"Execution Already Exists: '{arn}'")
        else:
            json.loads(parameters["input"])
            known = self.executions[arn] = {
                "executionArn": arn,
                "stateMachineArn": machine,
                "name": name,
                "status": "RUNNING",
                "startDate": time.time(),
                "input": parameters["input"],
            }
        return {"executionArn": arn, "startDate": known["startDate"]}

    def _machine(self, parameters: Document) -> str:
        arn: str = parameters["stateMachineArn"]
        if arn not in self.machines:
            message = f"State Machine Does Not Exist: '{arn}'"
            raise _RefusedError("StateMachineDoesNotExist", message)
        return arn

    def _execution(self, parameters: Document) -> Document:
        arn = parameters["executionArn"]
        if arn in self._denied:
            raise _RefusedError("AccessDeniedException", "not you")
        if arn not in self.executions:
            raise _RefusedError("ExecutionDoesNotExist", f"Execution Does Not Exist: '{arn}'")
        return self.executions[arn]


@asynccontextmanager
async def open_step_functions() -> AsyncIterator[StepFunctionsStandIn]:
    stand_in = StepFunctionsStandIn()
    app = web.Application()
    app.router.add_post("/", stand_in.handle_request)
    app.on_shutdown.append(stand_in.faults.release_slow)
    async with TestServer(app, host="127.0.0.1") as server:
        stand_in.url = str(server.make_url("")).rstrip("/")
        yield stand_in
