"""A contestant under Python's profiler: where the time of its events goes.

As a process, `python -m benchmarks.profiled FILE MODULE ARGUMENT...`, it runs the module, profiles
it from SIGUSR1 to SIGUSR2, and then writes the profile to the file.
"""

import cProfile
import pstats
import re
import runpy
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path as File
from typing import Any

import attrs

from benchmarks.measure import next_number, send
from benchmarks.paths import Path
from benchmarks.servers import StandIn, started

#: What a function's file is called by: what follows the place where packages are.
_PACKAGES = re.compile(r".*/(?:site-packages|python\d\.\d+|(?=(?:orchestrator|benchmarks)/))/?")

#: File, line and name of a function, as pstats has it; a built-in one has no file.
Function = tuple[str, int, str]


@attrs.frozen(kw_only=True)
class Profile:
    """Times are in microseconds an event, and larger than without the profiler."""

    name: str
    calls: float
    by_package: Mapping[str, float]
    """Each package's own time, with the built-in functions that it calls."""
    by_function: Mapping[str, tuple[float, float, float]]
    """Calls, own time, and time with all that is called."""

    def as_text(self, *, top: int) -> Iterator[str]:
        total = sum(self.by_package.values())
        yield f"{self.name}: {self.calls:,.0f} calls an event, {total:,.0f} µs under the profiler"
        yield ""
        for package, own_us in sorted(self.by_package.items(), key=lambda one: -one[1]):
            if own_us >= total / 100:
                yield f"{own_us / total:4.0%} {package}"
        yield ""
        yield "  calls   own µs   all µs  function"
        functions = sorted(self.by_function.items(), key=lambda one: -one[1][1])[:top]
        for function, (calls, own_us, all_us) in functions:
            yield f"{calls:7.1f} {own_us:8.1f} {all_us:8.1f}  {function}"


def profile_path(path: Path, aws: StandIn) -> Profile:
    """Where the time of a path's events goes."""
    aws.ask("Forget")
    events = 300 if path.requests else 1000
    with tempfile.TemporaryDirectory() as folder:
        file = File(folder, "profile")
        module = ["benchmarks.profiled", str(file), *path.contestant.module]
        contestant = attrs.evolve(path.contestant, module=module)
        with started(contestant, aws_port=aws.port if path.requests else None) as server:
            first = next_number()
            send(server, path, aws, first=first, count=events)
            server.process.send_signal(signal.SIGUSR1)
            time.sleep(0.2)
            # Of duplicates, all that come now.
            again = first if path.resends else first + events
            send(server, path, aws, first=again, count=events)
            server.process.send_signal(signal.SIGUSR2)
            while not file.exists():
                time.sleep(0.05)
        return _read(path.name, pstats.Stats(str(file)), events)


def _read(name: str, stats: pstats.Stats, events: int) -> Profile:
    found: dict[Function, Any] = stats.stats  # type: ignore[attr-defined]
    by_package: Counter[str] = Counter()
    for function, (_, _, own_s, _, callers) in found.items():
        if function[0] != "~":
            by_package[_package(function)] += own_s / events * 1e6
        elif "epoll" not in function[2]:
            for caller, (_, _, caller_s, _) in callers.items():
                by_package[_package(caller)] += caller_s / events * 1e6
    return Profile(
        name=name,
        calls=sum(calls for _, calls, _, _, _ in found.values()) / events,
        by_package=by_package,
        by_function={
            _label(function): (calls / events, own_s / events * 1e6, all_s / events * 1e6)
            for function, (_, calls, own_s, all_s, _) in found.items()
            if "epoll" not in function[2]
        },
    )


def _package(function: Function) -> str:
    """`aiohttp`, or of ours `orchestrator.core.ledger`."""
    file = _PACKAGES.sub("", function[0])
    if file.startswith("<attrs generated methods "):
        file = file.removeprefix("<attrs generated methods ").replace(".", "/")
    parts = file.split("/")
    if parts[0] != "orchestrator":
        return parts[0].removesuffix(".py")
    depth = 3 if parts[1] in ("core", "adapters") else 2
    return ".".join(parts[:depth]).removesuffix(".py")


def _label(function: Function) -> str:
    file, line, name = function
    return name if file == "~" else f"{_PACKAGES.sub('', file)}:{line} {name}"


def _run(file: str, module: str) -> None:
    profile = cProfile.Profile()

    def write(*_: object) -> None:
        profile.disable()
        profile.dump_stats(f"{file}.part")
        File(f"{file}.part").rename(file)

    signal.signal(signal.SIGUSR1, lambda *_: profile.enable())
    signal.signal(signal.SIGUSR2, write)
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _run(*sys.argv[1:3])
