"""Kafka's messages as tables, and the functions made from them.

One module per request, named like it, holds the classes ``Request`` and ``Response`` with their structs
nested where they are used: ``produce.Response.Topic.Partition``. Field names are those of Kafka's
protocol guide in snake case. `fields` is the notation, `compiler` builds the functions, `registry` is
the table of keys and versions, `headers` what leads every frame.

    from megabroker.protocols.kafka.schema import produce, registry

    request, pos = produce.Request.decode(body, version)
    answer = produce.Response(responses=[produce.Response.Topic(name="orders")])
    parts = answer.encode_parts(version)
    registry.api(0).request is produce.Request

Invariant: importing this package or the registry imports no table, and nothing is compiled before it
is used.
"""

__all__: list[str] = []
