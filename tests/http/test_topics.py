"""Topics over HTTP."""

from __future__ import annotations

from tests.http.asking import Api


def test_a_topic_is_made_described_grown_and_deleted(api: Api) -> None:
    made = api.ask(
        "POST", "/v1/topics", {"name": "made", "partitions": 2, "configs": {"retention.ms": "1000"}}
    )
    assert (made.status, made.json["partitions"]) == (201, 2)
    assert made.json["configs"] == {"retention.ms": "1000"}
    described = api.get("/v1/topics/made")
    assert described == {**made.json, "messages": 0, "size_bytes": 0}
    assert api.problem("POST", "/v1/topics", {"name": "made"}) == (409, "topic-exists")
    assert (
        api.ask("POST", "/v1/topics/made/partitions", {"partitions": 3, "validate_only": True}).status == 204
    )
    assert api.get("/v1/topics/made")["partitions"] == 2
    assert api.post("/v1/topics/made/partitions", {"partitions": 3})["partitions"] == 3
    wrong = api.problem("POST", "/v1/topics/made/partitions", {"partitions": 3})
    assert wrong == (400, "invalid-partitions")
    rows = api.get("/v1/topics/made/partitions")["partitions"]
    assert [(row["partition"], row["end_offset"], row["error"]) for row in rows] == [
        (index, 0, None) for index in range(3)
    ]
    assert api.get("/v1/topics/made/partitions/2") == rows[2]
    assert api.problem("GET", "/v1/topics/made/partitions/3") == (404, "unknown-partition")
    assert api.ask("DELETE", "/v1/topics/made").status == 204
    assert api.problem("DELETE", "/v1/topics/made") == (404, "unknown-topic")
    assert api.problem("GET", "/v1/topics/made") == (404, "unknown-topic")


def test_what_would_be_refused_is_told_without_making_anything(api: Api) -> None:
    wanted = {"name": "only-checked", "validate_only": True}
    assert api.ask("POST", "/v1/topics", wanted).status == 204
    assert api.problem("GET", "/v1/topics/only-checked") == (404, "unknown-topic")
    assert api.problem("POST", "/v1/topics", {**wanted, "name": "a/b"}) == (400, "invalid-topic")
    unknown = {**wanted, "configs": {"retention": "1"}}
    assert api.problem("POST", "/v1/topics", unknown) == (400, "invalid-config")


def test_topics_come_in_pages(api: Api) -> None:
    names = [f"paged-{number}" for number in range(7)]
    for name in names:
        api.post("/v1/topics", {"name": name, "partitions": 1})
    found, token, pages = [], "", 0
    while token is not None:
        more = f"&page_token={token}" if token else ""
        answer = api.get(f"/v1/topics?prefix=paged-&limit=3{more}")
        found += [topic["name"] for topic in answer["topics"]]
        token, pages = answer["next_page_token"], pages + 1
    assert (found, pages) == (names, 3)
    assert api.problem("GET", "/v1/topics?page_token=%21") == (400, "invalid-request")
    assert api.problem("GET", "/v1/topics?limit=0") == (400, "invalid-request")
