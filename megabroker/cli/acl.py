"""``megabroker acl``: who may do what.

Owns the commands; what they ask goes over Kafka's wire to a running broker. The first rules are made by a
super user, whom the configuration names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import click

from megabroker.access import (
    CLUSTER_NAME,
    SUPPORTED,
    Acl,
    AclFilter,
    Operation,
    PatternType,
    Permission,
    ResourceType,
)
from megabroker.cli.command_groups import CommandGroup
from megabroker.cli.connecting import Connect, connection_options
from megabroker.cli.output import json_option, print_json
from megabroker.cli.refusals import check, check_all
from megabroker.errors import ErrorCode, RequestError
from megabroker.protocols.kafka.schema import create_acls, delete_acls, describe_acls

__all__ = ["acl"]

_VERSION: Final = 3
_OPERATIONS: Final = {
    one.name.lower().replace("_", "-"): one
    for one in sorted({Operation.ALL, *(one for several in SUPPORTED.values() for one in several)})
}
_RESOURCES: Final = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional_id": ResourceType.TRANSACTIONAL_ID,
}

_Resource = tuple[ResourceType, str]


@click.group(cls=CommandGroup)
def acl() -> None:
    """Access rules, which say who may do what.

    A broker goes by them if security.authorizer is acls. Names are those of Apache Kafka's tools.
    """


def _rule_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        (
            click.option("--topic", multiple=True, metavar="NAME", help="A topic; * for all."),
            click.option("--group", multiple=True, metavar="NAME", help="A consumer group; * for all."),
            click.option("--transactional-id", multiple=True, metavar="NAME", help="An id; * for all."),
            click.option("--cluster", is_flag=True, help="The cluster itself."),
            click.option("--prefixed", is_flag=True, help="Names are prefixes."),
            click.option(
                "--allow",
                multiple=True,
                metavar="PRINCIPAL",
                help="Allow this principal, such as User:alice.",
            ),
            click.option("--deny", multiple=True, metavar="PRINCIPAL", help="Deny this principal."),
            click.option("--host", metavar="ADDRESS", help="Client address; any if not given."),
            click.option("-o", "--operation", multiple=True, type=click.Choice(list(_OPERATIONS))),
        )
    ):
        command = option(command)
    return command


@acl.command()
@json_option
@_rule_options
@connection_options
def add(connect: Connect, as_json: bool, **given: Any) -> None:
    """Add a rule for each principal, operation (all if none is given) and resource."""
    resources, principals = _resources(given), _principals(given)
    if not resources or not principals:
        raise click.UsageError(
            "expected --allow or --deny, and one of --topic, --group, --transactional-id and --cluster"
        )
    rules = [
        Acl(kind, name, pattern, principal, given["host"] or "*", operation, permission)
        for kind, name in resources
        for pattern in [_pattern(given, kind)]
        for permission, principal in principals
        for operation in _operations(given) or [Operation.ALL]
    ]
    with connect.client() as client:
        request = create_acls.Request(creations=[_creation(one) for one in rules])
        answered = list(zip(rules, client.ask(request, _VERSION).results, strict=True))
    refused = [(row.error_code, row.error_message, str(one)) for one, row in answered if row.error_code]
    _tell([one for one, row in answered if not row.error_code], as_json)
    check_all(refused)


@acl.command()
@click.option("--all", "everything", is_flag=True, help="All rules, if there is no other filter.")
@json_option
@_rule_options
@connection_options
def remove(connect: Connect, everything: bool, as_json: bool, **given: Any) -> None:
    """Remove the rules that match all given options."""
    filters = _filters(given)
    if filters == [AclFilter()] and not everything:
        raise click.UsageError("expected options that select rules, or --all")
    with connect.client() as client:
        rows = [delete_acls.Request.Filter(**_asked(one)) for one in filters]
        results = client.ask(delete_acls.Request(filters=rows), _VERSION).filter_results
    matched = [
        (_acl(one.resource_type, one.resource_name, one.pattern_type, one), one)
        for row in results
        for one in row.matching_acls
    ]
    removed = {one for one, row in matched if not row.error_code}
    _tell(removed, as_json)
    check_all((row.error_code, row.error_message, "access rules") for row in results)
    check_all((row.error_code, row.error_message, str(one)) for one, row in matched)
    if not removed:
        raise RequestError(ErrorCode.INVALID_REQUEST, "no rule matches: megabroker acl list shows all rules")


@acl.command("list")
@json_option
@_rule_options
@connection_options
def show(connect: Connect, as_json: bool, **given: Any) -> None:
    """List all rules, or those that match all given options."""
    with connect.client() as client:
        found: set[Acl] = set()
        for wanted in _filters(given):
            answer = client.ask(describe_acls.Request(**_asked(wanted)), _VERSION)
            check(answer.error_code, answer.error_message, "access rules")
            for row in answer.resources:
                found.update(
                    _acl(row.resource_type, row.resource_name, row.pattern_type, one) for one in row.acls
                )
    _tell(found, as_json)


def _plain(rule: Acl) -> dict[str, str]:
    return {
        "resource": rule.resource_type.name.lower(),
        "name": rule.name,
        "pattern": rule.pattern_type.name.lower(),
        "principal": rule.principal,
        "host": rule.host,
        "operation": rule.operation.name.lower(),
        "permission": rule.permission.name.lower(),
    }


def _tell(rules: Iterable[Acl], as_json: bool) -> None:
    if as_json:
        print_json([_plain(one) for one in sorted(rules)])
        return
    for one in sorted(rules):
        click.echo(one)


# --- from options ---------------------------------------------------------------------------------


def _resources(given: dict[str, Any]) -> list[_Resource]:
    found = [(kind, name) for option, kind in _RESOURCES.items() for name in given[option]]
    return [*found, (ResourceType.CLUSTER, CLUSTER_NAME)] if given["cluster"] else found


def _pattern(given: dict[str, Any], kind: ResourceType) -> PatternType:
    prefixed = given["prefixed"] and kind is not ResourceType.CLUSTER
    return PatternType.PREFIXED if prefixed else PatternType.LITERAL


def _principals(given: dict[str, Any]) -> list[tuple[Permission, str]]:
    found = [(Permission.ALLOW, one) for one in given["allow"]]
    found += [(Permission.DENY, one) for one in given["deny"]]
    for _, principal in found:
        kind, _, name = principal.partition(":")
        if not kind or not name:
            raise click.UsageError(f"{principal}: expected a principal such as User:{principal or 'alice'}")
    return found


def _operations(given: dict[str, Any]) -> list[Operation]:
    return [_OPERATIONS[name] for name in given["operation"]]


def _filters(given: dict[str, Any]) -> list[AclFilter]:
    """Return filters that together mean the rules that the options describe."""
    anything = AclFilter()
    resources: Sequence[_Resource | None] = _resources(given) or [None]
    principals: Sequence[tuple[Permission, str | None]] = _principals(given) or [(Permission.ANY, None)]
    found = []
    for resource in resources:
        kind, name = (anything.resource_type, None) if resource is None else resource
        pattern = _pattern(given, kind)
        if resource is None and pattern is PatternType.LITERAL:
            pattern = anything.pattern_type
        for permission, principal in principals:
            found += [
                AclFilter(kind, name, pattern, principal, given["host"], operation, permission)
                for operation in _operations(given) or [anything.operation]
            ]
    return found


# --- to and from the wire -------------------------------------------------------------------------


def _creation(one: Acl) -> create_acls.Request.Creation:
    return create_acls.Request.Creation(
        resource_type=int(one.resource_type),
        resource_name=one.name,
        resource_pattern_type=int(one.pattern_type),
        principal=one.principal,
        host=one.host,
        operation=int(one.operation),
        permission_type=int(one.permission),
    )


def _asked(wanted: AclFilter) -> dict[str, Any]:
    return {
        "resource_type_filter": int(wanted.resource_type),
        "resource_name_filter": wanted.name,
        "pattern_type_filter": int(wanted.pattern_type),
        "principal_filter": wanted.principal,
        "host_filter": wanted.host,
        "operation": int(wanted.operation),
        "permission_type": int(wanted.permission),
    }


def _acl(kind: int, name: str, pattern: int, row: Any) -> Acl:
    return Acl(
        ResourceType(kind),
        name,
        PatternType(pattern),
        row.principal,
        row.host,
        Operation(row.operation),
        Permission(row.permission_type),
    )
