"""Passwords, SCRAM and tokens: who is let in, who is not, and what the difference looks like from outside."""

from __future__ import annotations

import base64
import hashlib
import json
import pathlib
import socket
import tempfile
import threading
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from megabroker.core.authentication import Authentication
from megabroker.core.authentication.scram import (
    DIGESTS,
    ScramServer,
    credential,
    fits,
    new_credential,
)
from megabroker.core.authentication.tokens import KeySet, TokenRules, Tokens, read_keys
from megabroker.errors import AuthenticationError
from megabroker.model import Principal, ScramCredential
from tests.unit.scram_client import ScramClient

KEPT = {
    "alice": {name: new_credential(digest, "secret") for name, digest in DIGESTS.items()},
    "b,=ö": {"SCRAM-SHA-256": new_credential("sha256", "pässword")},
}
ALICE = Principal("User", "alice")
NOW_MS = 1_700_000_000_000


def kept(mechanism: str) -> Any:
    return lambda user: KEPT.get(user, {}).get(mechanism)


class Users:
    """Credentials as the core has them."""

    def __init__(self) -> None:
        self.by_user: dict[str, dict[str, ScramCredential]] = dict(KEPT)

    def of(self, user: str) -> dict[str, ScramCredential]:
        return self.by_user.get(user, {})


class ScramTests(SynchronousTestCase):
    def test_the_exchange_of_rfc_7677(self) -> None:
        salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
        salted = hashlib.pbkdf2_hmac("sha256", b"pencil", salt, 4096)
        found = credential("sha256", 4096, salt, salted)
        server = ScramServer("SCRAM-SHA-256", {"user": found}.get, nonce=b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
        self.assertEqual(
            server.first(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"),
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        )
        answer = server.final(
            b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
            b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        )
        self.assertEqual(answer, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")

    def exchange(self, client: ScramClient, mechanism: str = "SCRAM-SHA-256") -> ScramServer:
        server = ScramServer(mechanism, kept(mechanism))
        self.assertEqual(server.final(client.final(server.first(client.first()))), client.expected)
        return server

    def test_every_mechanism_and_odd_names(self) -> None:
        for mechanism, digest in DIGESTS.items():
            self.assertEqual(self.exchange(ScramClient("alice", "secret", digest), mechanism).user, "alice")
        self.exchange(ScramClient("b,=ö", "pässword", "sha256"))
        self.exchange(ScramClient("alice", "secret", "sha256", header=b"y,,"))
        older = ScramClient("alice", "secret", "sha256")
        older.doubles_nonce = True
        self.exchange(older)
        self.exchange(ScramClient("alice", "secret", "sha256", header=b"n,a=alice,"))

    def refusal(self, client: ScramClient, tamper: Any = lambda final: final) -> str:
        server = ScramServer("SCRAM-SHA-256", kept("SCRAM-SHA-256"))
        with self.assertRaises(AuthenticationError) as caught:
            server.final(tamper(client.final(server.first(client.first()))))
        return caught.exception.message

    def test_refusals(self) -> None:
        right = ScramClient("alice", "secret", "sha256")
        self.assertIn("wrong password", self.refusal(ScramClient("alice", "Secret", "sha256")))
        self.assertIn("no such user", self.refusal(ScramClient("mallory", "secret", "sha256")))
        self.assertIn("nonce", self.refusal(right, lambda final: final.replace(b"r=c", b"r=d")))
        self.assertIn("channel", self.refusal(right, lambda final: final.replace(b"c=biws", b"c=eSws")))
        self.assertIn("wrong", self.refusal(right, lambda final: final[: final.index(b"p=")] + b"p=AAAA"))
        self.assertIn("base64", self.refusal(right, lambda final: final[:-1]))
        self.assertIn("final message", self.refusal(right, lambda final: final + b","))
        for first in (
            b"",
            b"n,,",
            b"p=x,,n=alice,r=a",
            b"n,,n=al=ice,r=a",
            b"n,,n=alice,r=",
            b"n,,n=\xff,r=a",
        ):
            with self.assertRaises(AuthenticationError):
                ScramServer("SCRAM-SHA-256", kept("SCRAM-SHA-256")).first(first)
        with self.assertRaises(AuthenticationError) as caught:
            ScramServer("SCRAM-SHA-256", kept("SCRAM-SHA-256")).first(b"n,a=bob,n=alice,r=a")
        self.assertIn("authorization id", caught.exception.message)

    def test_a_user_that_is_not_looks_like_one_that_is(self) -> None:
        def challenge(user: str) -> dict[bytes, bytes]:
            said = ScramServer("SCRAM-SHA-256", kept("SCRAM-SHA-256")).first(b"n,,n=%s,r=x" % user.encode())
            return dict(part.split(b"=", 1) for part in said.split(b","))

        nobody, again, other, somebody = map(challenge, ("mallory", "mallory", "eve", "alice"))
        self.assertEqual(nobody[b"s"], again[b"s"])
        self.assertNotEqual(nobody[b"r"], again[b"r"])
        self.assertNotEqual(nobody[b"s"], other[b"s"])
        for field in (b"r", b"s", b"i"):
            self.assertEqual(len(nobody[field]), len(somebody[field]))

    def test_a_delegation_token_is_nobody(self) -> None:
        client = ScramClient("alice", "secret", "sha256")
        client.bare += b",tokenauth=true"
        self.assertIn("no such user", self.refusal(client))

    @given(st.binary(max_size=200), st.binary(max_size=200))
    def test_anything_else_is_refused(self, first: bytes, final: bytes) -> None:
        server = ScramServer("SCRAM-SHA-256", kept("SCRAM-SHA-256"))
        with self.assertRaises(AuthenticationError):
            server.first(first)
        server.first(b"n,,n=alice,r=x")
        with self.assertRaises(AuthenticationError):
            server.final(final)

    def test_what_is_kept(self) -> None:
        one, other = new_credential("sha256", "x"), new_credential("sha256", "x")
        self.assertNotEqual(one.salt, other.salt)
        self.assertTrue(fits(one, "sha256", "x"))
        self.assertFalse(fits(one, "sha256", "y"))


class AuthenticationCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.users = Users()
        self.runs: list[tuple[Any, tuple[Any, ...], Deferred[Any]]] = []
        self.authentication = self.make()

    def make(self, tokens: Tokens | None = None) -> Authentication:
        return Authentication(self.users, lambda: 100, self.clock, self.run_later, tokens)  # type: ignore[arg-type]

    def run_later(self, function: Any, *args: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self.runs.append((function, args, done))
        return done

    def run_all(self) -> int:
        count = 0
        while self.runs:
            function, args, done = self.runs.pop(0)
            count += 1
            done.callback(function(*args))
        return count

    def refused(self, waiting: Deferred[Any]) -> str:
        """Return why, and check that it was in no hurry."""
        self.run_all()
        self.assertNoResult(waiting)
        self.clock.advance(0.099)
        self.assertNoResult(waiting)
        self.clock.advance(0.002)
        error = self.failureResultOf(waiting, AuthenticationError).value
        assert isinstance(error, AuthenticationError)
        return error.message


class PasswordTests(AuthenticationCase):
    def plain(self, message: bytes) -> Deferred[Any]:
        return self.authentication.step(self.authentication.begin("PLAIN"), message)

    def test_plain(self) -> None:
        for message in (b"\0alice\0secret", b"alice\0alice\0secret"):
            waiting = self.plain(message)
            self.run_all()
            self.assertEqual(self.successResultOf(waiting).principal, ALICE)
        for message in (
            *(b"\0alice\0Secret", b"\0mallory\0secret", b"bob\0alice\0secret", b"\0alice\0", b"\0\0secret"),
            *(b"", b"\0alice", b"\0alice\0secret\0", b"\0\xff\0secret", b"\0alice\0" + b"x" * 4096),
        ):
            self.assertTrue(self.refused(self.plain(message)), message)

    def test_the_command_of_other_wires(self) -> None:
        waiting = self.authentication.password("b,=ö", "pässword")
        self.run_all()
        self.assertEqual(self.successResultOf(waiting), Principal("User", "b,=ö"))
        self.assertEqual(self.refused(self.authentication.password("alice", "x")), "wrong name or password")

    def test_two_are_checked_at_a_time(self) -> None:
        waiting = [self.plain(b"\0nobody-%d\0x" % number) for number in range(9)]
        self.assertEqual(len(self.runs), 2)
        self.assertEqual(self.run_all(), 9)
        self.clock.advance(1)
        for one in waiting:
            self.failureResultOf(one, AuthenticationError)

    def test_what_fitted_is_remembered_while_the_user_stays_as_it_is(self) -> None:
        def tries(message: bytes) -> tuple[int, bool]:
            waiting = self.plain(message)
            count = self.run_all()
            self.clock.advance(1)
            outcome: list[Any] = []
            waiting.addBoth(outcome.append)
            return count, getattr(outcome[0], "principal", None) == ALICE

        self.assertEqual(tries(b"\0alice\0secret"), (1, True))
        self.assertEqual(tries(b"\0alice\0secret"), (0, True))
        self.assertEqual(tries(b"\0alice\0wrong"), (1, False))
        self.users.by_user["alice"] = {"SCRAM-SHA-256": new_credential("sha256", "new")}
        self.assertEqual(tries(b"\0alice\0secret"), (1, False))
        self.assertEqual(tries(b"\0alice\0new"), (1, True))
        del self.users.by_user["alice"]
        self.assertEqual(tries(b"\0alice\0new"), (1, False))

    def test_a_user_changed_while_the_password_is_checked(self) -> None:
        waiting = self.plain(b"\0alice\0secret")
        del self.users.by_user["alice"]
        self.assertEqual(self.refused(waiting), "wrong name or password")

    def test_scram_as_an_exchange(self) -> None:
        for mechanism, digest in DIGESTS.items():
            client, exchange = ScramClient("alice", "secret", digest), self.authentication.begin(mechanism)
            first = self.successResultOf(self.authentication.step(exchange, client.first()))
            self.assertIsNone(first.principal)
            last = self.successResultOf(self.authentication.step(exchange, client.final(first.answer)))
            self.assertEqual((last.principal, last.answer), (ALICE, client.expected))
            self.assertEqual(exchange.claimed, "alice")


KEYS = {
    "r": ("RS256", rsa.generate_private_key(public_exponent=65537, key_size=2048)),
    "e": ("ES256", ec.generate_private_key(ec.SECP256R1())),
    "d": ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
}
_WRITERS: dict[str, Any] = {
    "RS256": jwt.algorithms.RSAAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
}


def key_set(*ids: str) -> str:
    entries: list[dict[str, Any]] = []
    for key_id in ids or KEYS:
        algorithm, key = KEYS[key_id]
        entry = _WRITERS[algorithm].to_jwk(key.public_key(), as_dict=True)
        entries.append({**entry, "kid": key_id, "use": "sig"})
    return json.dumps({"keys": entries})


class TokenTests(AuthenticationCase):
    def setUp(self) -> None:
        super().setUp()
        self.rules: dict[str, Any] = {
            "issuer": "https://issuer.test",
            "audiences": ("kafka",),
            "name_claim": "sub",
            "skew_ms": 5000,
        }
        self.text = key_set()
        self.reads = 0
        self.keys = KeySet(self.read, 3600, self.run_now, self.clock.seconds)
        tokens = Tokens(self.keys, lambda: TokenRules(**self.rules), lambda: NOW_MS)
        self.authentication = self.make(tokens)

    def read(self) -> Any:
        self.reads += 1
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(self.text)
            file.flush()
            return read_keys(file.name)

    def run_now(self, function: Any, *args: Any) -> Deferred[Any]:
        try:
            return succeed(function(*args))
        except Exception:
            return fail()

    def token(self, key_id: str = "r", kid: str | None = None, **claims: Any) -> str:
        algorithm, key = KEYS[key_id]
        all_claims = {
            "iss": "https://issuer.test",
            "aud": "kafka",
            "sub": "alice",
            "exp": NOW_MS // 1000 + 60,
            **claims,
        }
        said = {name: value for name, value in all_claims.items() if value is not None}
        return jwt.encode(said, key, algorithm=algorithm, headers={"kid": kid or key_id})

    def step(self, token: str, authorization_id: bytes = b"") -> Any:
        self.exchange = self.authentication.begin("OAUTHBEARER")
        message = b"n,%s,\x01auth=Bearer %s\x01ext=x\x01\x01" % (authorization_id, token.encode())
        return self.authentication.step(self.exchange, message)

    def why_not(self, token: str) -> str:
        said = self.successResultOf(self.step(token))
        self.assertEqual((said.answer, said.principal), (b'{"status":"invalid_token"}', None))
        return self.refused(self.authentication.step(self.exchange, b"\x01"))

    def test_good_tokens(self) -> None:
        for key_id in KEYS:
            step = self.successResultOf(self.step(self.token(key_id)))
            self.assertEqual(step, (b"", ALICE, NOW_MS + 60_000))
        self.assertEqual(self.reads, 1)
        self.assertIsNotNone(self.successResultOf(self.step(self.token(), b"a=alice")).principal)
        self.assertIn("authorization id", self.refused(self.step(self.token(), b"a=bob")))
        self.assertIsNotNone(self.successResultOf(self.step(self.token(aud=["x", "kafka"]))).principal)
        late = self.successResultOf(self.step(self.token(exp=NOW_MS // 1000 - 4)))
        self.assertEqual(late.expires_ms, NOW_MS - 4000)

    def test_bad_tokens(self) -> None:
        seconds = NOW_MS // 1000
        self.assertIn("expired", self.why_not(self.token(exp=seconds - 6)))
        self.assertIn("not valid yet", self.why_not(self.token(nbf=seconds + 6)))
        self.assertIn("not valid yet", self.why_not(self.token(iat=seconds + 6)))
        self.assertIn("exp", self.why_not(self.token(exp=None)))
        self.assertIn("sub", self.why_not(self.token(sub=None)))
        self.assertIn("issuer", self.why_not(self.token(iss="https://else.test")))
        self.assertIn("udience", self.why_not(self.token(aud="other")))
        self.assertIn("an invalid token", self.why_not(self.token("r", kid="e")))
        self.assertIn("not a number", self.why_not(self.token(exp=1e300)))
        self.assertIn("unknown key", self.why_not(self.token(kid="nothing")))
        head, claims, signature = self.token().split(".")
        self.assertIn("an invalid token", self.why_not(f"{head}.{claims}.{signature[::-1]}"))
        self.assertIn("an invalid token", self.why_not("x"))
        self.assertIn("an invalid token", self.why_not("x.y.z"))

    def test_signatures_that_do_not_count(self) -> None:
        claims = {"iss": "https://issuer.test", "aud": "kafka", "sub": "alice", "exp": NOW_MS // 1000 + 60}
        self.assertIn(
            "unsupported signature algorithm", self.why_not(jwt.encode(claims, None, algorithm="none"))
        )
        secret = "x" * 64
        forged = jwt.encode(claims, secret, algorithm="HS256", headers={"kid": "s"})
        self.text = json.dumps(
            {"keys": [{"kty": "oct", "kid": "s", "k": "eHh4"}, *json.loads(self.text)["keys"]]}
        )
        self.assertIn("unsupported signature algorithm", self.why_not(forged))

    def test_messages_that_are_none(self) -> None:
        for message in (
            b"",
            b"\x01",
            b"n,,\x01auth=Basic x\x01\x01",
            b"n,,\x01\x01",
            b"n,,\x01auth=Bearer \x01\x01",
        ):
            waiting = self.authentication.step(self.authentication.begin("OAUTHBEARER"), message)
            self.assertIn("not OAUTHBEARER's", self.refused(waiting))

    def test_another_claim_may_say_the_name(self) -> None:
        self.rules["name_claim"] = "client_id"
        step = self.successResultOf(self.step(self.token(client_id="svc")))
        self.assertEqual(step.principal, Principal("User", "svc"))
        self.assertIn("without a user name", self.why_not(self.token(client_id=7)))

    def test_keys_are_read_again_when_one_is_missing_but_not_all_the_time(self) -> None:
        self.text = key_set("r")
        self.assertIsNotNone(self.successResultOf(self.step(self.token("r"))).principal)
        self.assertIn("unknown key", self.why_not(self.token("e")))
        self.assertEqual(self.reads, 1)
        self.text = key_set("r", "e")
        self.clock.advance(11)
        self.assertIsNotNone(self.successResultOf(self.step(self.token("e"))).principal)
        self.assertEqual(self.reads, 2)
        self.clock.advance(3601)
        self.text = "no json"
        self.assertIsNotNone(self.successResultOf(self.step(self.token("e"))).principal)
        self.assertEqual(self.reads, 3)

    def test_a_provider_that_speaks_no_http_leaves_the_keys_in_force(self) -> None:
        self.assertIsNotNone(self.successResultOf(self.step(self.token())).principal)
        with socket.create_server(("127.0.0.1", 0)) as provider:

            def answer() -> None:
                for said in (b"220 mail.test ESMTP\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"):
                    connection, _ = provider.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(said)

            thread = threading.Thread(target=answer)
            thread.start()
            self.keys._read = lambda: read_keys(f"http://127.0.0.1:{provider.getsockname()[1]}/keys")
            for _ in range(2):
                self.clock.advance(3601)
                self.assertIsNotNone(self.successResultOf(self.step(self.token())).principal)
            thread.join()

    def test_those_who_come_while_keys_are_read_wait_for_them(self) -> None:
        self.keys._run = self.run_later
        waiting = [self.step(self.token()) for _ in range(3)]
        self.assertEqual(len(self.runs), 1)
        self.run_all()
        for one in waiting:
            self.assertEqual(self.successResultOf(one).principal, ALICE)

    def test_files_that_hold_no_keys(self) -> None:
        for text in (
            "",
            "[]",
            "{}",
            '{"keys": 1}',
            '{"keys": []}',
            '{"keys": [{"kty": "oct", "k": "eHh4"}]}',
            '{"keys": [{"kty": ["RSA"], "n": "AQAB", "e": "AQAB"}]}',
            key_set().replace('"kid": "', '"kid": ["').replace('", "use"', '"], "use"'),
            "[" * 100_000,
        ):
            self.text = text
            with self.assertRaises(ValueError):
                self.read()
        with self.assertRaises(OSError):
            read_keys(str(pathlib.Path(tempfile.gettempdir()) / "nowhere" / "keys"))
