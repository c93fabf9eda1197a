"""Users and their passwords, of which only what checks them is kept."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.threads import deferToThreadPool

from megabroker.access import Operation
from megabroker.core.authentication.scram import DIGESTS, MAX_ITERATIONS, MIN_ITERATIONS, new_credential
from megabroker.errors import ErrorCode, RequestError
from megabroker.http.caller import Caller
from megabroker.http.paging import PAGES, page, paged
from megabroker.http.problems import Problem
from megabroker.http.routes import Answer, Call, Need, Route
from megabroker.http.schema import Integer, ListOf, Object, Text, optional, required
from megabroker.model import ScramChange

__all__ = ["ROUTES", "set_password", "show_user"]

_MECHANISM: Final = Text(choices=tuple(DIGESTS))

_USER: Final = Object(
    {
        "user": required(Text(), "Name of the user."),
        "mechanisms": required(
            ListOf(
                Object(
                    {
                        "mechanism": required(_MECHANISM, "SASL mechanism."),
                        "iterations": required(Integer(0), "Number of hash iterations."),
                    },
                    "Mechanism",
                )
            ),
            "SASL mechanisms that the user can use.",
        ),
    },
    "User",
)

_PASSWORD: Final = Object(
    {
        "password": required(Text(1, 1000), "Password."),
        "mechanisms": optional(
            ListOf(_MECHANISM, 1, len(DIGESTS)),
            "SASL mechanisms that the user will be able to use.",
            list(DIGESTS),
        ),
        "iterations": optional(
            Integer(MIN_ITERATIONS, MAX_ITERATIONS), "Number of hash iterations.", MIN_ITERATIONS
        ),
    },
    "Password",
)


def show_user(caller: Caller, name: str) -> dict[str, Any]:
    """Return what is told of a user. Raises Problem: 404."""
    found = caller.broker.credentials.of(name)
    if not found:
        raise Problem(404, ErrorCode.INVALID_REQUEST, f"no user is called {name[:200]!r}")
    return {
        "user": name,
        "mechanisms": [
            {"mechanism": mechanism, "iterations": found[mechanism].iterations} for mechanism in sorted(found)
        ],
    }


async def set_password(caller: Caller, name: str, wanted: dict[str, Any]) -> None:
    """Give a user a password, whom it makes if need be; other mechanisms than the wanted ones are removed.

    Args:
        wanted: as the route takes it.
    """
    broker, reactor = caller.broker, caller.broker.reactor
    if "\0" in name:
        raise RequestError(ErrorCode.INVALID_REQUEST, "the name has a zero byte: expected none")
    changes = [
        ScramChange(
            name,
            mechanism,
            await deferToThreadPool(
                reactor,
                reactor.getThreadPool(),
                new_credential,
                DIGESTS[mechanism],
                wanted["password"],
                wanted["iterations"],
            ),
        )
        for mechanism in dict.fromkeys(wanted["mechanisms"])
    ]
    gone = broker.credentials.of(name).keys() - set(wanted["mechanisms"])
    await broker.credentials.change([*changes, *(ScramChange(name, one, None) for one in sorted(gone))])
    caller.changed("AlterUserScramCredentials", name)


def list_users(call: Call) -> Any:
    """Return a page of the users."""
    names = call.caller.broker.credentials.users()
    return page(call, "users", names, lambda name: name, lambda name: show_user(call.caller, name))


def get_user(call: Call) -> Any:
    """Describe a user."""
    return show_user(call.caller, call.path["user"])


async def put_user(call: Call) -> Any:
    """Give a user a password."""
    await set_password(call.caller, call.path["user"], call.body)
    return show_user(call.caller, call.path["user"])


async def delete_user(call: Call) -> Any:
    """Have a user's password checked no more."""
    caller, name = call.caller, call.path["user"]
    show_user(caller, name)
    credentials = caller.broker.credentials
    await credentials.change([ScramChange(name, one, None) for one in credentials.of(name)])
    caller.changed("AlterUserScramCredentials", name)
    return Answer(204)


_DESCRIBE: Final = (Need(Operation.DESCRIBE),)
_ALTER: Final = (Need(Operation.ALTER),)

ROUTES: Final = (
    Route(
        "GET",
        "/v1/users",
        list_users,
        "Users that have a password.",
        paged("users", _USER, "Users"),
        query=PAGES,
        needs=_DESCRIBE,
    ),
    Route("GET", "/v1/users/{user}", get_user, "A user.", _USER, needs=_DESCRIBE),
    Route(
        "PUT",
        "/v1/users/{user}",
        put_user,
        "Set the password of a user; creates the user if necessary.",
        _USER,
        body=_PASSWORD,
        needs=_ALTER,
    ),
    Route("DELETE", "/v1/users/{user}", delete_user, "Delete a user.", needs=_ALTER, status=204),
)
