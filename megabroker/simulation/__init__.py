"""The whole broker, its clients and its faults in one thread, all of it decided by one number.

The core, the storage engine and the wires are the real ones, put together by the real ``BrokerService``.
What is simulated is the world around them: time (`clock`), the disk (`disk`, `files`), SQLite's promises
(`rows`), the network (`network`) and chance itself (`chance`). Clients that speak real wire bytes (`wire`,
`producers`, `consumers`, `members`, `mega_clients`, `administrators`) use it while `chaos` kills it, cuts
its power and breaks its disk; what they saw is the `history`, and `rules` say what may not be in one.
`world` runs one seed.

    python -m megabroker.simulation --seeds 1000
    python -m megabroker.simulation --seed 17

Invariant: whatever happens in a run follows from its seed and the code. Nothing of the broker imports this.
"""

__all__: list[str] = []
