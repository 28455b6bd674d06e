"""How the tests load settings: from a file and given variables."""

from pathlib import Path

import pytest

from orchestrator import Settings, SettingsError, load_settings


def load(config: Path | str | None = None, **environ: str) -> Settings:
    return load_settings(config, environ=environ)


def refusal(config: Path | str | None = None, **environ: str) -> str:
    """The refusal's sentence, which is one line."""
    with pytest.raises(SettingsError) as refused:
        load(config, **environ)
    sentence = str(refused.value)
    assert sentence.count("\n") == 0
    return sentence
