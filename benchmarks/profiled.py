"""A contestant under Python's profiler: where the time of its events goes.

As a process, `python -m benchmarks.profiled FILE MODULE ARGUMENT...`, it runs the module, profiles
it from SIGUSR1 to SIGUSR2, and then writes the profile to the file.
"""

import cProfile
import io
import pstats
import runpy
import signal
import sys
import tempfile
import time
from pathlib import Path as File

import attrs

from benchmarks.measure import send
from benchmarks.paths import Path
from benchmarks.servers import StandIn, started

_EVENTS = 1000
_TOP = 45


def profile_path(path: Path, aws: StandIn) -> str:
    """The functions that most of the path's time is spent in, by their own time."""
    with tempfile.TemporaryDirectory() as folder:
        file = File(folder, "profile")
        module = ["benchmarks.profiled", str(file), *path.contestant.module]
        contestant = attrs.evolve(path.contestant, module=module)
        with started(contestant, aws_port=aws.port if path.requests else None) as server:
            send(server, path, aws, first=1, count=_EVENTS)
            server.process.send_signal(signal.SIGUSR1)
            time.sleep(0.2)
            # Of duplicates, all that come now.
            send(server, path, aws, first=1 if path.resends else 1 + _EVENTS, count=_EVENTS)
            server.process.send_signal(signal.SIGUSR2)
            while not file.exists():
                time.sleep(0.05)
        text = io.StringIO()
        stats = pstats.Stats(str(file), stream=text)
        calls = sum(one[1] for one in stats.stats.values())  # type: ignore[attr-defined]
        text.write(f"{path.name}: {calls / _EVENTS:,.0f} calls an event\n")
        stats.sort_stats("tottime").print_stats(_TOP)
        stats.sort_stats("cumulative").print_stats(_TOP)
        return text.getvalue()


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
