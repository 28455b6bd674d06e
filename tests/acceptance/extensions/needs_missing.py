"""A user's module that needs a package which isn't installed."""

import a_package_that_nobody_has  # type: ignore[import-not-found]  # noqa: F401

from orchestrator import Extension

extension = Extension()
