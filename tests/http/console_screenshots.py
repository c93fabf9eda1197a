"""Makes the pictures of the console for the documentation: ``python -m tests.http.console_screenshots docs``.

Starts a broker, has real clients use it, and looks at it in a headless Chromium. With ``--all`` every page,
in a wide and a narrow window, light and dark, for people to look at.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
import threading
import time
from typing import Any

from tests.brokers import BrokerProcess
from tests.http.asking import Api
from tests.http.browsing import Watched, chromium

_PICTURES = {
    "console-overview": ("/console", 1280, 860, "light"),
    "console-messages": ("/console/topics/orders/messages?partition=0", 1280, 860, "dark"),
    "console-group": ("/console/group?group=billing", 1280, 860, "light"),
}
_PAGES = {
    "overview": "/console",
    "topics": "/console/topics",
    "topic": "/console/topics/orders",
    "messages": "/console/topics/orders/messages?partition=0",
    "message": "/console/topics/orders/message?partition=0&offset=1",
    "tail": "/console/topics/orders/tail",
    "produce": "/console/topics/orders/produce",
    "configs": "/console/topics/orders/configs",
    "settings": "/console/topics/orders/settings",
    "groups": "/console/groups",
    "group": "/console/group?group=billing",
    "connections": "/console/connections",
    "transactions": "/console/transactions",
    "users": "/console/users",
    "rules": "/console/rules",
    "quotas": "/console/quotas",
    "plugins": "/console/plugins",
    "configuration": "/console/configuration",
    "log": "/console/log",
    "login": "/console/login",
    "nothing": "/console/nothing",
}
_SETTLE_SECONDS = 26


class _Clients:
    """Clients that produce and consume until they are stopped."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._produce, daemon=True),
            threading.Thread(target=self._consume, args=("billing", 0.002), daemon=True),
            threading.Thread(target=self._consume, args=("search-index", 0.0), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _produce(self) -> None:
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self._bootstrap, "client.id": "shop", "linger.ms": 5})
        random.seed(7)
        number = 0
        while not self._over.is_set():
            for _ in range(random.randrange(10, 60)):
                number += 1
                order = {
                    "order": 48_000 + number,
                    "customer": f"c-{random.randrange(900):04}",
                    "total": round(random.uniform(3, 400), 2),
                    "items": [{"sku": f"A{random.randrange(9999):04}", "count": random.randrange(1, 4)}],
                }
                producer.produce(
                    "orders",
                    json.dumps(order).encode(),
                    order["customer"].encode(),  # type: ignore[attr-defined]
                    headers=[("trace", f"{number:08x}".encode())],
                )
                if number % 3 == 0:
                    producer.produce("clicks", f"page={random.randrange(50)}".encode())
            producer.flush(5)
            time.sleep(0.1)

    def _consume(self, group: str, pause: float) -> None:
        from confluent_kafka import Consumer

        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": group,
                "client.id": f"{group}-1",
                "auto.offset.reset": "earliest",
                "auto.commit.interval.ms": 1000,
            }
        )
        consumer.subscribe(["orders"] if pause else ["orders", "clicks"])
        while not self._over.is_set():
            consumer.poll(0.2)
            time.sleep(pause)
        consumer.close()

    def stop(self) -> None:
        """Stop them."""
        self._over.set()
        for thread in self._threads:
            thread.join(10)


def _fill(api: Api) -> None:
    for name, partitions, configs in (
        ("orders", 6, {"retention.ms": "604800000"}),
        ("clicks", 12, {}),
        ("customers", 3, {"cleanup.policy": "compact"}),
        ("audit", 1, {}),
    ):
        api.post("/v1/topics", {"name": name, "partitions": partitions, "configs": configs})
    api.put("/v1/users/alice", {"password": "a password"})
    api.put(
        "/v1/quotas", {"entity": [{"type": "user", "name": "alice"}], "quotas": {"producer_byte_rate": 1e6}}
    )


def _picture(browser: Any, address: str, path: str, target: pathlib.Path, look: tuple[int, int, str]) -> None:
    width, height, scheme = look
    window = Watched(
        browser,
        address,
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        device_scale_factor=1,
    )
    window.allowed.append("404")
    window.go(path)
    window.page.wait_for_timeout(2600 if path in ("/console", "/console/group?group=billing") else 700)
    window.page.screenshot(path=target, full_page=height > 900)
    window.close()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--all", action="store_true")
    options = parser.parse_args()
    options.directory.mkdir(parents=True, exist_ok=True)
    with BrokerProcess({"durability": "os"}) as broker, chromium() as browser:
        api = Api(broker.http_ports[0])
        _fill(api)
        address = f"http://127.0.0.1:{broker.http_ports[0]}"
        clients = _Clients(broker.kafka)
        watching = Watched(browser, address)
        lag = Watched(browser, address)
        watching.go("/console")
        time.sleep(6)
        lag.go("/console/group?group=billing")
        time.sleep(_SETTLE_SECONDS)
        if options.all:
            for name, path in _PAGES.items():
                for width, scheme in ((1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")):
                    target = options.directory / f"{name}-{width}-{scheme}.png"
                    _picture(browser, address, path, target, (width, 901, scheme))
        else:
            for name, (path, width, height, scheme) in _PICTURES.items():
                _picture(browser, address, path, options.directory / f"{name}.png", (width, height, scheme))
        watching.close()
        lag.close()
        clients.stop()


if __name__ == "__main__":
    main()
