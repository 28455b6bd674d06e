"""A user's module: a builder whose bug prevents it from describing what it would start."""

from collections.abc import Mapping
from typing import Any

from orchestrator import Extension, Job


class Stumbling:
    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job:
        raise AssertionError

    def build_start(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Mapping[str, Any]:
        return {"job": job_identifier, "size": params["SIZE"]}


extension = Extension(builders={"MINE": Stumbling()})
