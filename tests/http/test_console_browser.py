"""The console in a headless Chromium: every page opened and used, hostile content, keys, light and dark.

An error of a script, a refusal by the content security policy, a dialog or a request to anywhere but the
broker fails any of these tests.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from tests.brokers import BrokerProcess
from tests.http.asking import Api
from tests.http.browsing import Watched, chromium

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>\u202egnp.exe\x01'
_SIGNS = HOSTILE.replace("\u202e", "\u27e8U+202E\u27e9").replace("\x01", "\u2401")


@pytest.fixture(scope="module")
def site() -> Iterator[BrokerProcess]:
    """A broker with topics, messages and a group."""
    with BrokerProcess({"durability": "os"}) as broker:
        api = Api(broker.http_ports[0])
        for name, partitions in (("orders", 3), ("empty", 1)):
            api.post("/v1/topics", {"name": name, "partitions": partitions})
        for number in range(6):
            api.post(
                "/v1/topics/orders/messages",
                {"key": f"k{number}", "value": {"number": number}, "value_encoding": "json", "partition": 0},
            )
        api.post(
            "/v1/topics/orders/messages",
            {
                "key": HOSTILE,
                "value": HOSTILE * 3,
                "headers": [{"name": HOSTILE, "value": HOSTILE}],
                "partition": 1,
            },
        )
        api.post("/v1/topics/orders/messages", {"value": "<b>" * 300_000, "partition": 1})
        api.post("/v1/topics/orders/messages", {"value": "/wD+", "value_encoding": "base64", "partition": 1})
        for group in ("billing", HOSTILE):
            _commit(broker.kafka, group)
        yield broker
        assert broker.stop() == 0
        assert "Traceback" not in broker.log, broker.log[-5000:]


def _commit(bootstrap: str, group: str) -> None:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "client.id": group})
    consumer.commit(offsets=[TopicPartition("orders", 0, 2)], asynchronous=False)
    consumer.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The browser."""
    with chromium() as started:
        yield started


@pytest.fixture
def window(browser: Any, site: BrokerProcess) -> Iterator[Watched]:
    """A window that must have seen no fault when it is closed."""
    watched = Watched(browser, f"http://127.0.0.1:{site.http_ports[0]}")
    yield watched
    watched.close()


def test_every_page_of_the_navigation(window: Watched) -> None:
    """Opened by a click, each with its own title and heading."""
    page = window.page
    window.go("/")
    seen = set()
    links = page.locator(".side a").all_inner_texts()
    assert links == [
        "Overview",
        "Topics",
        "Groups",
        "Connections",
        "Transactions",
        "Users",
        "Access rules",
        "Quotas",
        "Plugins",
        "Configuration",
        "Log levels",
    ]
    for name in links:
        page.get_by_role("link", name=name, exact=True).first.click()
        page.wait_for_load_state()
        assert page.locator("h1").inner_text() == name
        assert page.locator(".side a[aria-current=page]").inner_text() == name
        seen.add(page.title())
    assert len(seen) == len(links)


def test_every_page_of_a_topic(window: Watched) -> None:
    page = window.page
    window.go("/console/topics")
    page.get_by_role("link", name="orders").click()
    page.wait_for_load_state()
    tabs = page.locator(".tabs a").all_inner_texts()
    assert tabs == ["Partitions", "Messages", "Live", "Produce", "Configuration", "Manage"]
    for name in tabs:
        page.locator(".tabs a", has_text=name).click()
        page.wait_for_load_state()
        assert page.locator(".tabs a[aria-current=page]").inner_text() == name


def test_plots_are_drawn_and_go_on(window: Watched, site: BrokerProcess) -> None:
    page = window.page
    window.go("/console")
    page.wait_for_selector("[data-plot=bytes] canvas")
    page.wait_for_selector("[data-plot=messages] canvas")
    before = page.evaluate("plots[0].data[0].length")
    _commit(site.kafka, "plotted")
    window.until(f"plots[0].data[0].length > {before}")
    assert re.fullmatch(r"[\d.]+ \w+/s", page.locator("[data-tile=received_bytes]").inner_text())
    page.locator("#theme").click()
    page.wait_for_selector("[data-plot=bytes] canvas")
    window.go("/console/group?group=billing")
    page.wait_for_selector("[data-plot=lag] canvas")
    assert page.locator("[data-tile=lag]").inner_text() == "4"


def test_a_topic_from_its_making_to_its_end(window: Watched) -> None:
    """Made, produced to, looked at, configured, grown, emptied, deleted; all by its forms."""
    page = window.page
    window.go("/console/topics")
    page.get_by_text("New topic").click()
    page.get_by_label("Name", exact=True).fill("made")
    page.get_by_label("Partitions").fill("1")
    page.get_by_label("Configurations").fill("retention.ms=1000000")
    page.get_by_role("button", name="Create").click()
    page.get_by_text("The topic is there.").wait_for()
    page.locator(".tabs a", has_text="Produce").click()
    page.get_by_label("Key (optional)").fill("one")
    page.get_by_label("Value", exact=True).fill('{"a": 1}')
    page.get_by_label("Headers").fill("h: v")
    page.get_by_role("button", name="Produce").click()
    page.get_by_text("The message is stored.").wait_for()
    page.get_by_role("link", name="offset 0 of partition 0").click()
    page.get_by_text("shown as json").wait_for()
    page.get_by_label("Show as").select_option("hex")
    page.get_by_text("shown as hex").wait_for()
    assert "7b 22 61 22" in page.locator("pre.full").inner_text()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert (
        download.value.path().read_bytes() == b'{"a":1}' or download.value.path().read_bytes() == b'{"a": 1}'
    )
    page.locator(".tabs a", has_text="Configuration").click()
    assert page.locator("tbody tr").first.inner_text().startswith("retention.ms")
    page.get_by_role("button", name="Change retention.ms").click()
    assert page.locator("#edit [name=value]").input_value() == "1000000"
    page.locator("#edit [name=value]").fill("2000000")
    page.get_by_role("button", name="Set").click()
    page.get_by_text("It is saved").wait_for()
    assert "2000000" in page.locator("tbody tr").first.inner_text()
    page.get_by_role("button", name="Change retention.ms").click()
    page.get_by_role("button", name="Back to the default").click()
    page.get_by_text("It is saved").wait_for()
    assert page.locator("tbody .tag.on").count() == 0
    page.locator(".tabs a", has_text="Manage").click()
    page.get_by_label("Partitions, in all").fill("4")
    page.get_by_role("button", name="Grow").click()
    page.get_by_text("more partitions.").wait_for()
    assert page.locator("tbody tr").count() == 4
    page.locator(".tabs a", has_text="Manage").click()
    cut = page.locator("form[action$=truncate]")
    cut.get_by_label("Partition").fill("0")
    cut.get_by_label("Below offset").fill("1")
    cut.get_by_label("Name of the topic").fill("made")
    cut.get_by_role("button").click()
    page.get_by_text("below that offset are deleted").wait_for()
    page.locator(".tabs a", has_text="Manage").click()
    end = page.locator("form[action$='/delete']")
    end.get_by_label("Name of the topic").fill("made")
    end.get_by_role("button").click()
    page.get_by_text("The topic and its messages are deleted.").wait_for()
    assert page.get_by_role("link", name="made").count() == 0


def test_the_list_is_searched_as_one_types(window: Watched) -> None:
    page = window.page
    window.go("/console/topics")
    page.keyboard.press("/")
    page.keyboard.type("emp")
    window.until("document.querySelectorAll('#rows tbody tr').length === 1")
    assert page.url.endswith("/console/topics?prefix=emp")
    page.keyboard.type("tyx")
    page.get_by_text("No topic that you may see begins with").wait_for()


def test_messages_appear_as_they_come(window: Watched, site: BrokerProcess) -> None:
    page = window.page
    window.go("/console/topics/orders/tail")
    page.locator("#tail-state.on").wait_for()
    page.wait_for_timeout(500)
    api = Api(site.http_ports[0])
    api.post("/v1/topics/orders/messages", {"key": HOSTILE, "value": HOSTILE, "partition": 2})
    row = page.locator("#tail-rows tr").first
    row.wait_for()
    assert row.locator(".key").inner_text().strip() == _SIGNS
    assert page.locator("#tail-rows img").count() == 0
    page.get_by_role("button", name="Pause").click()
    assert page.locator("#tail-state").inner_text() == "paused"
    api.post("/v1/topics/orders/messages", {"value": "unseen", "partition": 2})
    page.wait_for_timeout(800)
    assert page.locator("#tail-rows tr").count() == 1
    page.get_by_role("button", name="Clear").click()
    assert page.locator("#tail-rows tr").count() == 0


def test_hostile_content_shows_as_text(window: Watched) -> None:
    page = window.page
    window.go("/console/topics/orders/messages?partition=1")
    rows = page.locator(".messages tbody tr")
    assert rows.count() == 3
    assert rows.nth(0).locator(".key").inner_text().strip() == _SIGNS
    assert _SIGNS * 3 in rows.nth(0).locator(".value").inner_text()
    assert "878.9 KiB in all" in rows.nth(1).inner_text() or "879 KiB in all" in rows.nth(1).inner_text()
    assert "ff 00 fe" in rows.nth(2).inner_text()
    rows.nth(0).get_by_role("link").click()
    page.wait_for_load_state()
    assert page.locator("pre.full").inner_text() == _SIGNS * 3
    window.go("/console/groups")
    page.locator("tbody a", has_text="onerror").click()
    page.wait_for_load_state()
    assert page.locator("h1").inner_text() == _SIGNS
    page.wait_for_selector("[data-plot=lag] canvas")
    assert page.evaluate("document.querySelectorAll('img[src=x], script:not([src])').length") == 0


def test_a_group_goes_on_elsewhere_after_a_preview(window: Watched) -> None:
    page = window.page
    window.go("/console/groups")
    page.get_by_role("link", name="billing").click()
    page.get_by_text("Reset offsets").click()
    page.get_by_label("Where to").select_option("offset")
    page.get_by_label("Offset, time").fill("5")
    page.get_by_role("button", name="Preview").click()
    page.get_by_role("heading", name="Preview of the reset").wait_for()
    assert page.locator("tbody td").all_inner_texts() == ["0", "2", "5", "3"]
    page.get_by_role("button", name="Reset").click()
    page.get_by_text("The group goes on from there.").wait_for()
    page.get_by_text("Reset offsets").click()
    page.get_by_label("Where to").select_option("timestamp")
    page.get_by_label("Offset, time").fill("tomorrow")
    window.allowed.append("400 (Bad Request)")
    page.get_by_role("button", name="Preview").click()
    page.get_by_text("The time 'tomorrow' cannot be read").wait_for()
    assert page.get_by_label("Where to").input_value() == "timestamp"


def test_forms_of_the_rest(window: Watched, site: BrokerProcess) -> None:
    """Users, quotas, log levels, the broker's configuration, connections."""
    page = window.page
    window.go("/console/users")
    page.get_by_label("Name").fill(HOSTILE)
    page.get_by_label("Password", exact=True).fill("secret word")
    page.get_by_label("Repeat password").fill("secret word")
    page.get_by_role("button", name="Save").click()
    page.get_by_text("The user can log in").wait_for()
    assert page.locator("tbody th").inner_text().startswith('"><img src=x')
    page.locator("tbody button").click()
    page.get_by_text("The user is let in no more.").wait_for()
    window.go("/console/quotas")
    page.get_by_label("User").fill("alice")
    page.get_by_label("Bytes produced").fill("1000000")
    page.get_by_role("button", name="Set").click()
    page.get_by_text("It is saved").wait_for()
    assert "1\u202f000\u202f000" in page.locator("tbody").inner_text()
    window.go("/console/log")
    row = page.locator("tr", has_text="megabroker.core.audit")
    row.locator("select").select_option("debug")
    row.get_by_role("button").click()
    page.get_by_text("It is saved").wait_for()
    assert page.locator("tr", has_text="megabroker.core.audit").locator("select").input_value() == "debug"
    window.go("/console/configuration")
    page.locator("#edit [name=name]").fill("log.retention.ms")
    page.locator("#edit [name=value]").fill("7200000")
    page.get_by_role("button", name="Set").click()
    page.get_by_text("It is saved").wait_for()
    page.get_by_text("What can be changed while it runs").click()
    assert "7200000" in page.locator("tbody tr").filter(has_text="log.retention.ms").first.inner_text()
    # ApiVersions, version 0, by a client of that name.
    name = b"<i>client</i>"
    asked = struct.pack(">hhih", 18, 0, 1, len(name)) + name
    with socket.create_connection(("127.0.0.1", site.ports["kafka"]), 5) as client:
        client.sendall(struct.pack(">i", len(asked)) + asked)
        client.recv(1)
        window.go("/console/connections")
        page.locator("tr", has_text="<i>client</i>").get_by_role("button", name="Close").click()
        page.get_by_text("The connection is closed.").wait_for()
        client.settimeout(5)
        while client.recv(4096):
            pass


def test_by_keyboard_alone(window: Watched) -> None:
    """The skip link comes first, every control can be reached and seen to be, keys go from page to page."""
    page = window.page
    window.go("/console/topics")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    reached = []
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")
        )
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", reached
    assert reached[0] == "prefix"
    assert "topic-orders" in reached
    page.keyboard.press("Escape")
    page.locator("main").focus()
    page.keyboard.press("g")
    page.keyboard.press("q")
    page.wait_for_url("**/console/quotas")
    page.keyboard.press("?")
    assert page.locator("dialog").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    for path in ("/console/topics", "/console/topics/orders/produce", "/console/users", "/console/quotas"):
        window.go(path)
        unnamed = page.evaluate(
            "[...document.querySelectorAll('input:not([type=hidden]), select, textarea')]"
            ".filter(one => !one.labels.length && !one.ariaLabel).map(one => one.name)"
        )
        assert unnamed == [], path
        assert page.evaluate("document.querySelectorAll('th:not([scope])').length") == 0


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_dark_wide_and_narrow(browser: Any, site: BrokerProcess, width: int, scheme: str) -> None:
    """The page is as wide as the window, in the colours that are asked for, or chosen and kept."""
    window = Watched(
        browser,
        f"http://127.0.0.1:{site.http_ports[0]}",
        viewport={"width": width, "height": 800},
        color_scheme=scheme,
    )
    page = window.page
    lightness = "parseInt(getComputedStyle(document.documentElement).backgroundColor.slice(4))"
    for path in ("/console", "/console/topics/orders/messages?partition=1", "/console/configuration"):
        window.go(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert (page.evaluate(lightness) < 100) == (scheme == "dark")
    page.locator("#theme").click()
    assert (page.evaluate(lightness) < 100) == (scheme == "light")
    window.go("/console/topics")
    assert (page.evaluate(lightness) < 100) == (scheme == "light")
    window.close()


def test_no_page_is_wider_than_a_small_window(browser: Any, site: BrokerProcess) -> None:
    """What is wider than its place, such as a table, is moved within that."""
    address = f"http://127.0.0.1:{site.http_ports[0]}"
    window = Watched(browser, address, viewport={"width": 390, "height": 800})
    with socket.create_connection(("127.0.0.1", site.ports["kafka"])):
        for path in (
            *(
                "topics",
                "groups",
                "connections",
                "transactions",
                "users",
                "rules",
                "quotas",
                "plugins",
                "log",
            ),
            *("topics/orders", "topics/orders/configs", "topics/orders/settings", "group?group=billing"),
        ):
            window.go(f"/console/{path}")
            assert window.page.evaluate("document.documentElement.scrollWidth") <= 390, path
    window.close()


def test_without_javascript(browser: Any, site: BrokerProcess) -> None:
    """Everything can be read, forms work, nothing is offered that would not."""
    window = Watched(browser, f"http://127.0.0.1:{site.http_ports[0]}", java_script_enabled=False)
    page = window.page
    window.go("/console")
    assert page.locator("#theme").is_hidden()
    window.go("/console/topics?prefix=ord")
    page.get_by_role("link", name="orders").click()
    page.locator(".tabs a", has_text="Messages").click()
    page.get_by_label("Partition").fill("0")
    page.get_by_role("button", name="Show").click()
    assert page.locator(".messages tbody tr").count() == 6
    page.locator(".tabs a", has_text="Live").click()
    page.locator("noscript p").wait_for()
    window.close()


def test_logging_in(browser: Any) -> None:
    """By the form, to the page that was asked for; out again; denials are kind."""
    config: dict[str, Any] = {
        "durability": "os",
        "security": {"authorizer": "acls", "super_users": ["User:ANONYMOUS"]},
        "http": {"authentication": "none"},
    }
    with BrokerProcess(config) as broker:
        Api(broker.http_ports[0]).put("/v1/users/eve", {"password": "a password"})
        broker.config["http"]["authentication"] = "required"
        broker.config["security"]["super_users"] = []
        broker.restart()
        window = Watched(browser, f"http://127.0.0.1:{broker.http_ports[0]}")
        window.allowed += ["401 (Unauthorized)", "403 (Forbidden)"]
        page = window.page
        window.go("/console/groups")
        page.get_by_label("Name").fill("eve")
        page.get_by_label("Password", exact=True).fill("wrong")
        page.get_by_role("button", name="Log in").click()
        page.get_by_text("uthentication failed").wait_for()
        page.get_by_label("Password", exact=True).fill("a password")
        page.keyboard.press("Enter")
        page.wait_for_url("**/console/groups")
        assert page.evaluate("document.cookie") == ""
        window.go("/console/users")
        page.get_by_text("User:eve may not DESCRIBE the cluster").wait_for()
        window.go("/console")
        page.get_by_text("You may not see how the broker does").wait_for()
        # A list that is searched when the session is over leads to the form.
        window.go("/console/topics")
        cookies = window.context.cookies()
        other = window.context.new_page()
        other.goto("/console")
        other.get_by_role("button", name="Log out").click()
        other.get_by_text("You are logged out.").wait_for()
        page.get_by_role("searchbox").fill("a")
        page.wait_for_url("**/console/login?next=*")
        assert cookies[0]["httpOnly"]
        assert cookies[0]["sameSite"] == "Strict"
        window.close()
