"""What the core needs from the world. Adapters implement these; tests have in-memory twins.

Each raises `TemporaryError` or `PermanentError` and nothing else of its own: a foreign
error is turned into one of the two at the edge.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

import attrs

from orchestrator.core.errors import EventTooLarge, TemporaryError
from orchestrator.core.jobs import JobReport
from orchestrator.core.lifecycle import TenantState
from orchestrator.core.pages import Page
from orchestrator.core.records import Job, PayloadRecord, Record, RunRecord, RunStatus, TenantRecord

Tier = Mapping[str, Any]
TierFunction = Callable[[str], Awaitable[Tier | None]]


#: So many unreadable items are named in a sentence.
_MOST_NAMED = 5


class Clock(Protocol):
    def now(self) -> datetime:
        """The time, in UTC."""

    async def sleep(self, seconds: float) -> None:
        """Return when so much time has passed."""


class Ids(Protocol):
    def fresh_id(self) -> str:
        """An id that nobody has seen before."""


class Dice(Protocol):
    def pick(self, count: int) -> int:
        """A number from 0 to `count` - 1, each as likely as the others."""


class Conflict(Exception):
    """A commit was refused: these items don't stand as was thought. None: it isn't there."""

    def __init__(self, items: Mapping[str, Record | None]) -> None:
        super().__init__(", ".join(items))
        self.items = items


class UnreadableItems(TemporaryError):
    """Items that this release can't read: another one wrote them, or somebody damaged them.

    `found` has the others that were asked for. Temporary, since a release that can read them may
    be running beside this one.
    """

    def __init__(self, reasons: Mapping[str, str], *, found: Mapping[str, Record | None]) -> None:
        """`reasons` says of each unreadable key why."""
        named = [f"{key} ({reason})" for key, reason in list(reasons.items())[:_MOST_NAMED]]
        more = [f"{len(reasons) - len(named)} more"] if len(reasons) > len(named) else []
        described = "; ".join([*named, *more])
        super().__init__(f"The ledger's items can't be read by this release: {described}.")
        self.keys = frozenset(reasons)
        self.found = found


class Ledger(Protocol):
    """Where runs, operations, tenants, jobs and payloads are kept; dumb, but atomic.

    What is written and under which conditions is decided in the core, so that every ledger
    has the same guards: it compares versions and nothing else.
    """

    #: The largest payload that it takes, in bytes; None: any.
    max_payload_bytes: int | None

    async def commit(self, records: Sequence[Record], *, unchanged: Mapping[str, int]) -> None:
        """Write all of the records, or none.

        Each must still stand at its `version` (0: not be there) and is kept with the next
        one; `unchanged` are keys and versions of items that must stand, too.

        Raises:
            Conflict: one doesn't; it has all of those that don't.
            UnreadableItems: the same, and one of those can't be read.
            TemporaryError: it is not known whether it was written.
        """

    async def load(self, keys: Collection[str]) -> Mapping[str, Record | None]:
        """The items as they stand now, after every commit that has returned.

        Raises:
            UnreadableItems: some can't be read; it has the others.
        """

    async def find_due(
        self, *, before: datetime, limit: int, start: int = 0, cursor: str | None = None
    ) -> Page[str]:
        """Keys of items that are due, a page at a time; a proposal, perhaps out of date.

        They lie in shards, the longest due first in each. `start`, any number, says with which the
        first page begins; the cursor leads through the others in turn, and past what stays due.
        """

    async def list_runs(
        self,
        *,
        tenant_id: str | None = None,
        event_type: str | None = None,
        status: RunStatus | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[RunRecord]:
        """Runs that match, the one first seen last first; None matches all.

        It looks at no more than `pages.CANDIDATES`, so that a page may be short, or empty, and have
        a cursor. A run that is added while pages are read moves none of the others; one that can't
        be read is left out.

        Raises:
            ValueError: the cursor is none of ours.
        """

    async def list_tenants(
        self, *, state: TenantState | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[TenantRecord]:
        """Tenants that were seen, in the order of their ids; one that can't be read is left out.

        Raises:
            ValueError: as `list_runs` does.
        """

    async def check(self) -> None:
        """Raises TemporaryError if the ledger can't be reached."""


def check_size(ledger: Ledger, payload: PayloadRecord) -> None:
    """Raises EventTooLarge if the ledger can't keep the payload."""
    limit = ledger.max_payload_bytes
    if limit is not None and len(payload.data) > limit:
        raise EventTooLarge(len(payload.data), limit)


class TierCatalog(Protocol):
    async def find_tier(self, tier: str) -> Tier | None:
        """The tier's attributes as they stand in the catalog, None if there is no such tier."""


class Builder(Protocol):
    """Starts jobs. A user's own has `start_job` at least; the rest are protocols below."""

    async def start_job(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Job | None:
        """Start a job with `params`, which are JSON values, as its variables.

        None: it has no id, and is known by its start key. Its `builder` may be left out.
        The same `start_key` (at most 64 characters) never starts a second job. A
        TemporaryError says with `nothing_done` that it surely started none.
        """


@runtime_checkable
class FindsJobs(Protocol):
    """A builder that can tell what a start made whose answer was lost."""

    async def find_job(
        self, *, start_key: str, job_identifier: str, started_after: datetime
    ) -> Job | None:
        """The job that a start with this key made, None if none is to be seen.

        `job_identifier` is what was to be started or, where nobody knows that any more, what would
        be started now; empty: not even that is known.
        """


@runtime_checkable
class FindsJobsAnywhere(Protocol):
    """A builder that can look for a start's job without being told what was to be started."""

    async def find_job_anywhere(self, *, start_key: str, started_after: datetime) -> Job | None:
        """As `find_job`, which is asked before: among the jobs of all identifiers."""


@runtime_checkable
class DescribesJobs(Protocol):
    """A builder that can tell how its jobs stand. Its word outranks a job's own."""

    async def describe_jobs(self, *, job_ids: Sequence[str]) -> Mapping[str, JobReport]:
        """How the jobs stand, by their ids; one that is left out the builder doesn't know.

        Raises:
            SomeNotDescribed: it could tell of some only.
        """


@runtime_checkable
class OwnsJobs(Protocol):
    """A builder on which others may run something under one of our start keys."""

    def owns(self, job_id: str) -> bool:
        """Whether a start of ours may have made it."""


@runtime_checkable
class StopsJobs(Protocol):
    """A builder that can end a job early."""

    async def stop_job(self, *, job_id: str) -> None:
        """Have the job stopped; one that is over or gone is left alone."""


@runtime_checkable
class StopsHarder(StopsJobs, Protocol):
    """A builder that has harder ways to end a job, for one that doesn't heed the first."""

    #: Their names, the mildest first.
    stop_ways: Sequence[str]

    async def stop_job(self, *, job_id: str, way: str = "") -> None:
        """Have the job stopped that way; by the mildest, unless one is named."""


@runtime_checkable
class Configurable(Protocol):
    """A builder that can be told how to run a job, besides its variables."""

    def configured(self, options: Mapping[str, Any]) -> Builder:
        """The same builder, whose starts have these options.

        Raises:
            PermanentError: there is no such option, or its value is wrong.
        """


@runtime_checkable
class TellsStarts(Protocol):
    """A builder that can tell what a start would be: asked before each, and by a dry run."""

    def build_start(
        self, job_identifier: str, params: Mapping[str, Any], *, start_key: str
    ) -> Mapping[str, Any]:
        """The request that `start_job` would send. Raises PermanentError as that would."""


class Publisher(Protocol):
    #: Why nobody hears of what is published, such as "the setting events.bus is empty"; None:
    #: it reaches a bus.
    why_silent: str | None

    async def publish(
        self, *, event_type: str, detail: Mapping[str, Any], source: str | None = None
    ) -> str:
        """Publish one event for the control plane and whoever listens; its id is returned.

        `source` None is the one of all events of ours.
        """


@attrs.frozen(kw_only=True)
class Message:
    """One message of a queue. `receipt` is what it is deleted by; `receives` counts deliveries.
    `trace` is where its way is traced, if somebody does."""

    id: str
    text: str
    receipt: str
    group: str | None = None
    receives: int = 1
    trace: str | None = None


class Inbox(Protocol):
    """A queue of events: at least once, in no order or by groups."""

    #: How long a message that was received stays hidden from others, in seconds.
    visibility_s: float
    #: Messages of a group follow each other, and a deduplication id that was there minutes ago is
    #: not taken again.
    in_groups: bool

    async def send(self, *, text: str, group: str, deduplication_id: str) -> None:
        """Put a message in the queue; in a queue of groups it follows those of its group.

        Raises:
            EventTooLarge: the queue takes no message of that size.
            PermanentError: the queue takes no such message.
            TemporaryError: it is not known whether it was taken.
        """

    async def receive(self, *, limit: int, wait_s: float) -> Sequence[Message]:
        """Messages that wait, or come within `wait_s`; at most `limit`, at most 10."""

    async def hide(self, message: Message, *, seconds: float) -> None:
        """Have the message hidden from others for so long from now on (0: for no longer)."""

    async def delete(self, message: Message) -> None:
        """The message is done with."""

    async def check(self) -> None:
        """Raises TemporaryError if the queue can't be reached."""


class SecretStore(Protocol):
    """A place for secrets, from which a builder can have them by reference."""

    @property
    def reference_type(self) -> str:
        """What such a reference is: SECRETS_MANAGER or PARAMETER_STORE."""

    async def put(self, *, name: str, value: str) -> None:
        """Keep it, in place of what was kept under that name.

        Raises:
            PermanentError: it takes no such name or value.
            TemporaryError: it is not known whether it was taken.
        """

    async def read(self, *, name: str) -> str:
        """What is kept. Raises TemporaryError, of which SecretNotFound is one."""

    async def remove(self, *, name: str) -> None:
        """Have it gone at once; that it isn't there is no error."""


class Credentials(Protocol):
    """The service's own credentials."""

    async def resolve(self, value: str) -> str:
        """A value of the settings, or what is kept where it refers to, without white space around.

        Raises:
            TemporaryError: it can't be read; SecretBlank: nothing is kept there but white space.
        """

    def permission(self, value: str) -> "Permission | None":
        """What the service's role needs to resolve it; None: it is no reference."""


@runtime_checkable
class ReadableBy(Protocol):
    """A store in AWS: what the role of whoever follows a reference needs, and on what."""

    reader_action: str
    resource: str

    def permission(self, name: str) -> "Permission":
        """What reading the one of that name takes."""


@attrs.frozen(kw_only=True)
class WebhookAnswer:
    """What a webhook answered, and when by its own clock; None: it doesn't say."""

    status: int
    date: datetime | None = None


class Webhook(Protocol):
    """The control plane's ear."""

    async def post(self, *, url: str, text: str, headers: Mapping[str, str]) -> WebhookAnswer:
        """Post the text; the answer, whatever it is. Redirects aren't followed.

        Raises:
            PermanentError: nothing can be posted to that address, however often it is tried.
            TemporaryError: there was no answer; `nothing_done` if it surely didn't arrive.
        """


@attrs.frozen
class Permission:
    """What an AWS role must be allowed: IAM actions on an ARN, with `*` for what isn't known."""

    actions: tuple[str, ...]
    resource: str


@runtime_checkable
class Checkable(Protocol):
    """An adapter that can tell whether its other end is there, without doing anything to it."""

    description: str
    permissions: tuple[Permission, ...]

    async def check(self) -> None:
        """Raises TemporaryError or PermanentError with the reason if it isn't."""


class Structure(Protocol):
    """From JSON values to models and back."""

    def structure(self, value: object, model: Any) -> Any:
        """`value` as a `model`. Raises InvalidPayload with every mismatch."""

    def unstructure(self, value: object) -> Any:
        """`value` as JSON. Raises TypeError where JSON has no form for it."""
