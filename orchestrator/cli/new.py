"""Writes a starter project: a handler, its tests, settings, a Dockerfile."""

from collections.abc import Sequence
from pathlib import Path

#: The files' text, each with `.txt` after its name, so that nothing collects or imports them here.
_STARTER = Path(__file__).with_name("starter")


class FilesExistError(Exception):
    """The folder has files of the starter's names."""


def write_starter(folder: Path) -> Sequence[Path]:
    """Write the starter into the folder, which is made if needed; returns its files.

    Raises:
        FilesExistError: the folder has one of them; nothing is written.
        OSError: the folder can't be written.
    """
    texts = {folder / path.stem: path.read_text() for path in sorted(_STARTER.glob("*.txt"))}
    if existing := [str(path) for path in texts if path.exists()]:
        raise FilesExistError(f"There is {', '.join(existing)} already: choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        path.write_text(text)
    return list(texts)
