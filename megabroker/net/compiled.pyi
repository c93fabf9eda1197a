from collections.abc import Callable
from typing import Any

class Shape:
    def __init__(
        self,
        api: bytes,
        head: bytes,
        flexible: bool,
        answer: bytes,
        index_at: int,
        base_at: int,
        start_at: int,
        find: Callable[[int], Any],
        refusal: Callable[[int, int, Any], list[bytes]],
        max_request_bytes: int,
    ) -> None: ...

class Connection:
    def __init__(self, transport: Any, protocol: Any) -> None: ...
    def expect(self, shape: Shape) -> None: ...

class Turn:
    taken: int
    def __init__(
        self,
        epoll: int,
        connections: dict[int, Any],
        scratch: memoryview,
        read: Callable[[Any], None],
        take_rest: Callable[[Any, memoryview], None],
        lost: Callable[[Any, bool], None],
        failed: Callable[[Any, Exception], None],
        seconds: float,
    ) -> None: ...
    def take(self) -> None: ...
