"""Identifiers of operations, runs and starts: digests of their parts, and start keys.

The words inside the digests are stored with every item; a change of one is a change of format.
"""

import hashlib
import json

#: A part of a digest as text; made once, since a new encoder costs more than what it encodes.
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode

#: The variable that every job gets: the key of the start that made it.
START_KEY = "ORCHESTRATOR_RUN_ID"
#: The variable with the trace that the job belongs to (https://www.w3.org/TR/trace-context/).
TRACEPARENT = "TRACEPARENT"


def operation_id(tenant_id: str, kind: str, request_key: str) -> str:
    """40 hexadecimal characters: the same for all requests with the same tenant, kind and key."""
    return digest(tenant_id, kind, request_key)


def is_operation_id(text: str) -> bool:
    """Whether `operation_id` may have made it."""
    return len(text) == 40 and text.isalnum() and text.isascii()


def own_operation_id(request_key: str) -> str:
    """The operation id in the start keys of a run that opens no operation."""
    return digest("run", request_key)


def start_key(operation_id: str, start_number: int) -> str:
    return f"{operation_id}-{start_number}"


def read_start_key(text: str) -> tuple[str, int] | None:
    """The operation and the start number in a start key."""
    operation_id, _, number = text.rpartition("-")
    is_number = number.isascii() and number.isdecimal()
    return (operation_id, int(number)) if operation_id and is_number else None


def read_outcome_id(text: str) -> tuple[str, int, int] | None:
    """The operation, the start number and the count of rebuilds of an `outcome_id`."""
    start, slash, rebuilds = text.partition("/")
    named = read_start_key(start)
    is_number = rebuilds.isascii() and rebuilds.isdecimal()
    if named is None or (slash and not is_number):
        return None
    return (*named, int(rebuilds) if slash else 0)


def digest(*parts: object) -> str:
    """40 hexadecimal characters (160 bits of SHA-256) over JSON values, unambiguously joined."""
    # Part by part: most are texts, which an encoder writes at once, while it prepares for a list.
    text = f"[{','.join(map(_canonical, parts))}]"
    return hashlib.sha256(text.encode()).hexdigest()[:40]
