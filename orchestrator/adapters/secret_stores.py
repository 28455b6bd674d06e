"""Opens the secret stores that the settings may name, and chooses that for jobs' secrets."""

from collections.abc import Mapping

from orchestrator.adapters.aws import AWS
from orchestrator.adapters.parameter_store.secret_store import ParameterStore
from orchestrator.adapters.secrets_manager.secret_store import SecretsManagerStore
from orchestrator.core.clock import Ids
from orchestrator.core.secrets.redaction import Redactor
from orchestrator.core.secrets.references import SecretReferences
from orchestrator.core.secrets.secret_store import SecretStore
from orchestrator.settings import Secrets


def open_secret_stores(settings: Secrets, aws: AWS) -> Mapping[str, SecretStore]:
    """The stores, by their names in the settings."""
    prefix = settings.prefix
    return {
        "secretsmanager": SecretsManagerStore(aws.secrets_manager, prefix=prefix),
        "ssm": ParameterStore(aws.ssm, prefix=prefix),
    }


def refer_to_secrets(
    settings: Secrets, stores: Mapping[str, SecretStore], secrets: Redactor, ids: Ids
) -> SecretReferences | None:
    """What replaces jobs' secrets by references; None: no store is chosen."""
    if not settings.store:
        return None
    return SecretReferences(
        store=stores[settings.store], ids=ids, secrets=secrets, prefix=settings.prefix
    )
