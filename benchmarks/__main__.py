"""`python -m benchmarks`: measures all rows, or `--only` some, and prints the table."""

import argparse
import sys
import time

from benchmarks.measure import measure_noise
from benchmarks.paths import PATHS
from benchmarks.profiled import profile_path
from benchmarks.report import Circumstances, as_table, write_latest, write_page
from benchmarks.results import Bench
from benchmarks.rows import ROWS
from benchmarks.servers import Failed, stand_in


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="ROW,...", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--rounds", type=int, metavar="N", help="by default 3, with --full 7")
    parser.add_argument("--full", action="store_true", help="more events, and larger ledgers")
    parser.add_argument(
        "--write", action="store_true", help="write docs/performance.md and its picture"
    )
    parser.add_argument(
        "--profile", choices=PATHS, help="print where the time of this path goes, and nothing else"
    )
    given = parser.parse_args()
    names = given.only.split(",") if given.only else list(ROWS)
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"there is no row {', '.join(unknown)}: choose of {', '.join(ROWS)}")
    if given.write and given.only:
        parser.error("--write needs all rows: leave --only out")
    try:
        if given.profile:
            with stand_in() as aws:
                print("\n".join(profile_path(PATHS[given.profile], aws).as_text(top=45)))
            return
        _measure(names, given)
    except Failed as failed:
        sys.exit(f"benchmark: {failed}")


def _measure(names: list[str], given: argparse.Namespace) -> None:
    rounds = given.rounds or (7 if given.full else 3)
    noise = [measure_noise()]
    with stand_in() as aws:
        bench = Bench(aws=aws, rounds=rounds, is_full=given.full)
        rows = [ROWS[name] for name in names]
        paths = list(dict.fromkeys(path for row in rows for path in row.paths))
        for step in bench.measure(paths):
            _say(step)
        noise.append(measure_noise())
        results = []
        for row in rows:
            _say(f"row {row.name}")
            results.append(row.evaluate(row, bench))
        profiled = ("empty", "durable") if given.write else ()
        profiles = [profile_path(PATHS[name], aws) for name in profiled]
    noise.append(measure_noise())
    about = Circumstances.now(rounds=rounds, noise=noise)
    print("\n".join(as_table(results)))
    print(about)
    if not given.only:
        write_latest(results)
    if given.write:
        write_page(results, profiles, about)


def _say(step: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {step}", file=sys.stderr)


if __name__ == "__main__":
    main()
