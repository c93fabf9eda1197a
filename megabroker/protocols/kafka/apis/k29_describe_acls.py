"""DescribeAcls (29): the access rules.

**Behaviour.** Rules that the filter means, by resource. Without an authorizer there is nobody who decides by
rules: SECURITY_DISABLED, as from Apache Kafka.

**Version notes.** 1 adds pattern types, 3 rules about users. In 0 every pattern is literal.
"""

from __future__ import annotations

from megabroker.access import Acl
from megabroker.errors import BrokerError
from megabroker.protocols.kafka.acls import NO_AUTHORIZER, filter_of
from megabroker.protocols.kafka.dispatch import Context
from megabroker.protocols.kafka.errors import KafkaError, kafka_error
from megabroker.protocols.kafka.schema import describe_acls

__all__ = ["handle"]

_Resource = describe_acls.Response.Resource


def handle(context: Context, request: describe_acls.Request) -> describe_acls.Response:
    """Answer at once."""
    authorizer = context.broker.authorizer
    if not authorizer.enabled:
        code = int(KafkaError.SECURITY_DISABLED)
        return describe_acls.Response(error_code=code, error_message=NO_AUTHORIZER)
    try:
        found = authorizer.describe(filter_of(request, context.version))
    except BrokerError as error:
        return describe_acls.Response(error_code=kafka_error(error), error_message=error.message)
    resources: dict[tuple[int, str, int], _Resource] = {}
    for acl in sorted(found):
        key = (acl.resource_type, acl.name, acl.pattern_type)
        if key not in resources:
            resources[key] = _Resource(
                resource_type=int(acl.resource_type),
                resource_name=acl.name,
                pattern_type=int(acl.pattern_type),
            )
        resources[key].acls.append(_row(acl))
    return describe_acls.Response(error_message=None, resources=list(resources.values()))


def _row(acl: Acl) -> _Resource.Acl:
    return _Resource.Acl(
        principal=acl.principal,
        host=acl.host,
        operation=int(acl.operation),
        permission_type=int(acl.permission),
    )
