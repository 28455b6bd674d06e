"""How `make` sets up the environment at first: it shows progress, and stops at a failure."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: A Python whose environments have a pip that finds three packages, and may fail.
PYTHON = r"""#!/bin/sh
mkdir -p $3/bin
cat > $3/bin/pip <<'PIP'
#!/bin/sh
case "$*" in
  *dev.txt*) for name in one two three; do echo "Collecting $name"; done
             echo "Installing collected packages: one, two, three"
             if [ -e fails ]; then echo "no such hash" >&2; exit 1; fi ;;
esac
PIP
printf '#!/bin/sh\n' > $3/bin/python
chmod +x $3/bin/pip $3/bin/python
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements").mkdir()
    for name in ("requirements/build.txt", "requirements/dev.txt", "requirements/ministack.txt"):
        (tmp_path / name).touch()
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def set_up(checkout: Path, target: str = ".venv/ready") -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    done = subprocess.run(  # noqa: S603 - our own Makefile
        ["make", target, "PYTHON=./python"],  # noqa: S607 - the make of the PATH
        cwd=checkout,
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_the_first_make_shows_what_it_installs(checkout: Path) -> None:
    """Step by step, and the packages as they are found; the second one does nothing."""
    code, out, err = set_up(checkout)
    assert (code, err) == (0, "")
    assert [step for step in ("1/3", "2/3", "3/3") if step not in out] == []
    assert "\r    1 packages\r    2 packages\r    3 packages, being installed\n" in out
    assert "--require-hashes" not in out
    assert "is up to date" in set_up(checkout)[1]


def test_another_aws_is_installed_for_the_tests_alone(checkout: Path) -> None:
    """`make dev` and `make demo` don't wait for it."""
    (checkout / ".venv" / "bin").mkdir(parents=True)
    for name in ("orchestrator", "python"):
        (checkout / ".venv" / "bin" / name).write_text("#!/bin/sh\n")
        (checkout / ".venv" / "bin" / name).chmod(0o755)
    another = checkout / ".venv" / "ministack" / "ready"
    for target in ("demo", "dev"):
        assert set_up(checkout, target)[0] == 0
        assert not another.exists()
    assert set_up(checkout, "test")[0] == 0
    assert another.exists()


def test_the_newest_sdk_is_installed_as_often_as_its_requirements_change(checkout: Path) -> None:
    """Its link to the tests' other AWS is there already then."""
    (checkout / "requirements" / "aiobotocore.txt").touch()
    for _ in range(3):
        code, _, err = set_up(checkout, ".venv/aiobotocore/ready")
        assert (code, err) == (0, "")
        (checkout / ".venv" / "aiobotocore" / "ready").unlink()
    assert not (checkout / ".venv" / "ministack" / "ministack").exists()


def test_a_failed_install_stops_make(checkout: Path) -> None:
    """It shows pip's own message, and the next make begins anew."""
    (checkout / "fails").touch()
    code, _, err = set_up(checkout)
    assert code == 2
    assert "no such hash" in err
    assert not (checkout / ".venv" / "ready").exists()
