"""The client's side of SCRAM (RFC 5802), made from the standard library alone."""

from __future__ import annotations

import base64
import hashlib
import hmac

__all__ = ["ScramClient"]


class ScramClient:
    """One exchange; ``header`` is the gs2 header."""

    doubles_nonce = False  # as librdkafka before 2.6.1

    def __init__(
        self, user: str, password: str, digest: str, nonce: bytes = b"client-nonce", header: bytes = b"n,,"
    ) -> None:
        self.password = password.encode()
        self.digest = digest
        self.nonce = nonce
        self.header = header
        name = user.replace("=", "=3D").replace(",", "=2C").encode()
        self.bare = b"n=%s,r=%s" % (name, nonce)

    def first(self) -> bytes:
        return self.header + self.bare

    def final(self, said: bytes) -> bytes:
        fields = dict(part.split(b"=", 1) for part in said.split(b","))
        assert fields[b"r"].startswith(self.nonce)
        assert len(fields[b"r"]) > len(self.nonce)
        salt = base64.b64decode(fields[b"s"])
        salted = hashlib.pbkdf2_hmac(self.digest, self.password, salt, int(fields[b"i"]))
        client_key = hmac.digest(salted, b"Client Key", self.digest)
        stored_key = hashlib.new(self.digest, client_key).digest()
        nonce = (self.nonce if self.doubles_nonce else b"") + fields[b"r"]
        without_proof = b"c=%s,r=%s" % (base64.b64encode(self.header), nonce)
        message = b",".join((self.bare, said, without_proof))
        signature = hmac.digest(stored_key, message, self.digest)
        proof = bytes(one ^ other for one, other in zip(client_key, signature, strict=True))
        server_key = hmac.digest(salted, b"Server Key", self.digest)
        self.expected = b"v=" + base64.b64encode(hmac.digest(server_key, message, self.digest))
        return b"%s,p=%s" % (without_proof, base64.b64encode(proof))
