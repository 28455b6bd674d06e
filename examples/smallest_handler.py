"""The smallest service with a handler of its own.

python examples/smallest_handler.py
echo '{"name": "Ada"}' | orchestrator send GREETING
"""

import attrs
from aiohttp import web

from orchestrator import Event, Extension, HandlerRegistry, Run, create_app

registry = HandlerRegistry()


@attrs.frozen
class Greeting:
    name: str


@registry.on("GREETING")
async def greet(event: Event[Greeting], run: Run) -> None:
    run.log.info("hello", name=event.payload.name)


if __name__ == "__main__":
    web.run_app(create_app(extension=Extension(registry=registry)))
