"""The command `orchestrator`, also as `python -m orchestrator`."""

import sys


def main() -> None:
    """Run the command line; without the extra that it needs, one sentence says so."""
    try:
        from orchestrator.cli.main import main as run
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("orchestrator"):
            raise
        sys.exit(
            f"Error: the command line needs the package {missing.name}: "
            "pip install 'saas-orchestrator[service]'"
        )
    run()


if __name__ == "__main__":
    main()
