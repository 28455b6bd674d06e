"""Chooses the authentication methods that the settings name."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from orchestrator.core.clock import Clock
from orchestrator.intake.auth import AuthMethod
from orchestrator.intake.auth_methods.api_key import ApiKeyMethod
from orchestrator.intake.auth_methods.basic import BasicMethod
from orchestrator.intake.auth_methods.gateway import LambdaGateway, NetworkGateway
from orchestrator.settings import Auth, SettingsError


def choose_methods(auth: Auth, clock: Clock, *, is_lambda: bool = False) -> Sequence[AuthMethod]:
    """The methods that the settings name, each once, in the order in which they are tried.

    Raises:
        SettingsError: a method can't be used here.
    """
    return [_METHODS[name](auth, clock, is_lambda) for name in dict.fromkeys(auth.methods)]


def _api_key(auth: Auth, _: Clock, __: bool) -> AuthMethod:
    return ApiKeyMethod(auth.api_key)


def _basic(auth: Auth, _: Clock, __: bool) -> AuthMethod:
    return BasicMethod(auth.basic)


def _jwt(auth: Auth, clock: Clock, _: bool) -> AuthMethod:
    with _needs_joserfc("auth.methods has jwt"):
        from orchestrator.intake.auth_methods.jwt import JwtMethod
    return JwtMethod(auth.jwt, clock)


def _gateway(auth: Auth, clock: Clock, is_lambda: bool) -> AuthMethod:
    match auth.gateway.proof:
        case "alb":
            with _needs_joserfc("auth.gateway.proof is alb"):
                from orchestrator.intake.auth_methods.alb import AlbGateway
            return AlbGateway(auth.gateway, clock)
        case "lambda" if is_lambda:
            return LambdaGateway(auth.gateway)
        case "lambda":
            raise SettingsError(
                "auth.gateway.proof is lambda, which only the AWS Lambda handler can check: here "
                "it must be alb or network."
            )
    return NetworkGateway(auth.gateway)


@contextmanager
def _needs_joserfc(setting: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "joserfc":
            raise
        raise SettingsError(
            f"{setting}, which needs the package joserfc: install saas-orchestrator[jwt]."
        ) from None


_METHODS: Mapping[str, Callable[[Auth, Clock, bool], AuthMethod]] = {
    "api_key": _api_key,
    "basic": _basic,
    "jwt": _jwt,
    "gateway": _gateway,
}
