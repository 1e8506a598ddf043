"""Tests of the client against the real program, over real sockets.

    make build && TANDEM_BIN=bin/tandem python3 httpapi/python/test_tandem.py

"make test" runs them too, from a test in Go, which also makes the certificate for 127.0.0.1
that TLS_CERT and TLS_KEY name; the test of TLS needs it.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import pathlib
import random
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import tandem  # noqa: E402

PATIENCE = 60.0  # for what should come at once


class Server:
    """The program, on a port of its own or on a socket file."""

    def __init__(self, *args: str, listen: str = "127.0.0.1:0") -> None:
        self.tmp = tempfile.TemporaryDirectory()
        env = {k: v for k, v in os.environ.items() if not k.startswith("TANDEM_")}
        self.process = subprocess.Popen(
            [os.environ["TANDEM_BIN"], "serve", "--listen", listen, *args],
            env={**env, "TMPDIR": self.tmp.name}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        if not line.startswith("tandem listening on "):
            raise AssertionError(f"the program said {line!r}")
        self.url = line.split()[-1]

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.tmp.cleanup()


class Proxy:
    """A TCP proxy that cuts connections. ``budget`` says of each new connection after how many
    bytes of answer it is cut; None: never. With ``reset``, what is on its way then is lost."""

    def __init__(self, url: str, budget=lambda n: None) -> None:
        host, port = url.split("//")[1].split(":")
        self.target, self.budget = (host, int(port)), budget
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        self.reset = False
        self.accepted = 0
        self.upward = 0  # bytes that came from clients
        self.open = True
        self.lock = threading.Lock()
        self.live: set = set()
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.accepted += 1
                refused, budget = not self.open, self.budget(self.accepted)
            if refused:
                conn.close()
                continue
            t = threading.Thread(target=self._pass, args=(conn, budget))
            self.threads.append(t)
            t.start()

    def _pass(self, client: socket.socket, budget) -> None:
        with client, socket.create_connection(self.target) as server:
            with self.lock:
                self.live.update((client, server))
            try:
                while True:
                    for sock in select.select([client, server], [], [])[0]:
                        data = sock.recv(64 << 10)
                        if not data:
                            return
                        if sock is client:
                            self.upward += len(data)
                            server.sendall(data)
                            continue
                        if budget is not None:
                            data, budget = data[:budget], budget - len(data[:budget])
                        client.sendall(data)
                        if budget == 0:
                            if self.reset:
                                for end in (client, server):  # closing them is a reset then
                                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                            return
            except OSError:
                pass
            finally:
                with self.lock:
                    self.live.difference_update((client, server))

    def cut(self) -> None:
        """Cut every connection that there is."""
        with self.lock:
            for sock in self.live:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def shut(self) -> None:
        """Cut them, and accept no more until ``open`` is set."""
        with self.lock:
            self.open = False
        self.cut()

    def close(self) -> None:
        self.shut()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for t in self.threads:
            t.join(PATIENCE)
            assert not t.is_alive()


def data_of(stream, name: str) -> bytes:
    return b"".join(o.data for o in stream if isinstance(o, tandem.Output) and o.stream == name)


class ClientTest(unittest.TestCase):
    """What most tests need: a server without a token and a session in it."""

    server: Server

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = Server()
        cls.addClassCleanup(cls.server.close)

    def setUp(self) -> None:
        self.client = tandem.Client(self.server.url)
        self.addCleanup(self.client.close)
        self.tmp = pathlib.Path(self.enter(tempfile.TemporaryDirectory()))
        self.s = self.enter(self.client.create_session(cwd=self.tmp))

    def enter(self, context):
        value = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        return value

    def proxy(self, budget=lambda n: None) -> Proxy:
        p = Proxy(self.server.url, budget)
        self.addCleanup(p.close)
        return p

    def through(self, proxy: Proxy, **args) -> tandem.Session:
        return self.enter(tandem.Client(proxy.url, **args)).get_session(self.s.id)

    def file(self, name: str, data: bytes) -> str:
        (self.tmp / name).write_bytes(data)
        return name


class TestRuns(ClientTest):
    def test_state_stays(self) -> None:
        self.assertTrue(self.s.run("x=41; cd /").ok)
        r = self.s.run("echo $((x + 1)) $PWD")
        self.assertEqual((r.stdout, r.stderr, r.exit_code, r.reason, r.truncated), (b"42 /\n", b"", 0, "exited", False))
        self.assertEqual(r.stdout_text, "42 /\n")

    def test_ends(self) -> None:
        for code, exit_code, reason in (
            ("(exit 7)", 7, "exited"), ("exit 3", 3, "exited"), ("true", 0, "exited"),
            ("kill -INT $BASHPID; sleep 1000", 130, None), ("kill -9 $$", 137, "shell_exited"),
        ):
            for run in (self.s.run, self.s.run_json):
                r = run(code)
                self.assertEqual(r.exit_code, exit_code, code)
                if reason:
                    self.assertEqual(r.reason, reason, code)

    def test_bytes(self) -> None:
        """Whatever a command writes is rebuilt to the byte, both streams apart."""
        for seed in range(25):
            rng = random.Random(seed)
            parts = [b"\n", b"\r", b"\r\n", b"\xff", b"\xc3", b"\xa9", b"\xe2\x80\xa8", b"\xc2\x85", b"\0", b'"\\', b"text", b" ", "é€😀".encode(), b"x" * 200_000]
            out, err = (b"".join(rng.choices(parts, k=rng.randrange(12))) for _ in range(2))
            code = f"cat {self.file('out', out)}; cat {self.file('err', err)} >&2"
            for run in (self.s.run, self.s.run_json, lambda c: self.s.start(c).result()):
                r = run(code)
                self.assertEqual((r.stdout, r.stderr), (out, err), f"seed {seed}")

    def test_lines(self) -> None:
        with self.s.stream("printf 'a\\n\\nb'; printf 'c' >&2; printf '\\xff\\n'") as stream:
            got = list(stream)
        self.assertEqual(b"".join(o.data for o in got if o.stream == "stdout"), b"a\n\nb\xff\n")
        self.assertEqual([o.data for o in got if o.stream == "stdout"][:2], [b"a\n", b"\n"])
        self.assertEqual([o.text for o in got if o.stream == "stderr"], ["c"])
        self.assertEqual((stream.end.exit_code, stream.end.ok), (0, True))
        self.assertEqual(sum(len(o.data) for o in got), got[-1].position - 1)  # before it the event of the start
        self.assertTrue(all(a.position < b.position for a, b in zip(got, got[1:])))

    def test_20_mb(self) -> None:
        data = random.Random(20).randbytes(20_000_000)
        for name, data in (("random", data), ("lines", b"a line like many others\n" * 833_333), ("one", b"x" * 20_000_000)):
            code = "cat " + self.file(name, data)
            self.assertTrue(self.s.run(code).stdout == data, name)
            r = self.s.run_json(code)
            self.assertTrue(r.truncated and data.endswith(r.stdout) and len(r.stdout) > 1 << 20, name)

    def test_check(self) -> None:
        self.assertEqual(self.s.run("echo fine", check=True).stdout, b"fine\n")
        with self.assertRaisesRegex(tandem.RunFailed, "exit code 2: no such luck") as caught:
            self.s.run("echo so far; echo no such luck >&2; (exit 2)", check=True)
        self.assertEqual(caught.exception.result.stdout, b"so far\n")

    def test_cwd_and_env(self) -> None:
        r = self.s.run("echo $PWD $X", cwd="/usr", env={"X": "é"})
        self.assertEqual(r.stdout_text, "/usr é\n")
        self.assertEqual(self.s.run("echo $PWD $X").stdout, b"/usr\n")
        with self.assertRaisesRegex(tandem.InvalidRequest, "/no/such"):
            self.s.run("true", cwd="/no/such")

    def test_timeout(self) -> None:
        for run in (self.s.run, self.s.run_json):
            r = run("echo begun; sleep 1000", timeout=0.3)
            self.assertEqual((r.exit_code, r.reason, r.stdout), (124, "timed_out", b"begun\n"))
        with self.assertRaises(ValueError):
            self.s.run("true", timeout=-1)

    def test_interrupt_from_another_thread(self) -> None:
        for force in (False, True):
            code = "trap '' INT; " * force + "echo ready; while :; do :; done"
            with self.s.stream(code) as stream:
                self.assertEqual(next(stream).text, "ready\n")
                t = threading.Thread(target=self.s.interrupt, kwargs={"force": force})
                t.start()
                self.assertEqual(list(stream), [])
                t.join()
            self.assertEqual(stream.end.reason, "interrupted", force)
            self.s.run("trap - INT")
        with self.assertRaises(tandem.RunNotRunning) as caught:
            self.s.interrupt()
        self.assertEqual((caught.exception.status, caught.exception.code), (409, "RUN_NOT_RUNNING"))

    def test_signal(self) -> None:
        with self.s.stream("bash -c 'trap \"echo got it; exit 5\" USR1; echo ready; while :; do sleep 0.02; done'") as stream:
            next(stream)
            stream.run.signal(signal.SIGUSR1)
            self.assertEqual(data_of(stream, "stdout"), b"got it\n")
        self.assertEqual(stream.end.exit_code, 5)
        with self.assertRaisesRegex(tandem.InvalidRequest, "SIGNOTHING"):
            self.s.signal("SIGNOTHING")

    def test_same_run_id_is_the_same_run(self) -> None:
        for run in (self.s.run, self.s.run_json):
            self.assertEqual(run("n=$((n + 1)); echo $n", run_id="once").stdout, b"1\n")
        with self.assertRaises(tandem.RunExists):
            self.s.run("something else", run_id="once")

    def test_leaving_a_stream_cancels(self) -> None:
        with self.s.stream("echo ready; sleep 1000") as stream:
            next(stream)
        began = time.monotonic()
        self.assertEqual(stream.run.wait(PATIENCE).reason, "canceled")
        self.assertLess(time.monotonic() - began, 8, "only when nobody came back for it")
        self.assertEqual(list(stream), [])

    def test_leaving_a_named_stream_does_not(self) -> None:
        with self.s.stream("echo ready; read x; echo $x", stdin=True, run_id="mine") as stream:
            position = next(stream).position
        again = self.s.get_run("mine")
        again.write("back\n")
        with again.follow(position) as stream:
            self.assertEqual(data_of(stream, "stdout"), b"back\n")


class TestInput(ClientTest):
    def test_whole(self) -> None:
        rng = random.Random(5)
        for data in ("", "é\nno newline", b"plain\n", b"\xff\0\n", rng.randbytes(5_000_000), b"y" * 5_000_000):
            r = self.s.run("cat", stdin=data)
            want = data.encode() if isinstance(data, str) else data
            self.assertTrue(r.stdout == want and r.ok, want[:20])

    def test_more_than_is_read(self) -> None:
        r = self.s.run("head -c 3", stdin=b"\xff" * 10_000_000)
        self.assertEqual((r.stdout, r.exit_code), (b"\xff\xff\xff", 0))

    def test_none(self) -> None:
        self.assertEqual(self.s.run("cat; echo end").stdout, b"end\n")

    def test_bit_by_bit(self) -> None:
        with self.s.stream("while read -r x; do echo \"<$x>\"; done; echo end", stdin=True) as stream:
            for text in ("one\n", b"two\n"):
                stream.run.write(text)
                want = f"<{text.decode() if isinstance(text, bytes) else text}".strip() + ">\n"
                self.assertEqual(next(stream).text, want)
            stream.run.close_stdin()
            self.assertEqual(data_of(stream, "stdout"), b"end\n")
        with self.assertRaises(tandem.Conflict):
            stream.run.write("late")

    def test_where_there_is_none(self) -> None:
        run = self.s.start("sleep 1000")
        with self.assertRaises(tandem.NoStdin):
            run.write(b"x" * 3_000_000)  # is refused before all of it is sent
        run.cancel()
        self.assertEqual(run.wait(PATIENCE).reason, "canceled")

    def test_leaving_while_it_is_not_read(self) -> None:
        with self.s.stream("echo ready; sleep 1000", stdin=b"\xff" * 10_000_000) as stream:
            self.assertEqual(next(stream).text, "ready\n")
        self.assertEqual(stream.run.wait(PATIENCE).reason, "canceled")
        with self.assertRaises(ValueError):
            self.s.run("cat", stdin=True)  # nobody could write


class TestDetached(ClientTest):
    def test_wait_and_output(self) -> None:
        run = self.s.start("echo one; read x; echo two >&2; printf '\\xfe'; (exit 4)", stdin=True)
        with self.assertRaises(tandem.WaitTimeout):
            run.wait(0.1)
        part = run.output(wait=PATIENCE)
        self.assertEqual((part.stdout, part.stderr, part.state), (b"one\n", b"", "running"))
        self.assertEqual(self.s.info().run_id, run.id)
        run.write(b"\n")
        info = run.wait(PATIENCE)
        self.assertEqual((info.exit_code, info.reason, info.finished, info.by, info.cwd), (4, "exited", True, "rest", str(self.tmp)))
        rest = run.output(part.next)
        self.assertEqual((rest.stdout, rest.stderr, rest.state, rest.truncated), (b"\xfe", b"two\n", "finished", False))
        self.assertEqual(run.output(rest.next).stdout, b"")
        r = run.result()
        self.assertEqual((r.stdout, r.stderr, r.exit_code), (b"one\n\xfe", b"two\n", 4))
        self.assertEqual([i.run_id for i in self.s.runs()], [run.id])

    def test_following_does_not_hold(self) -> None:
        run = self.s.start("echo ready; read x; echo $x", stdin=True)
        with run.follow() as stream:
            next(stream)
        self.assertEqual(run.info().state, "running")
        run.write("on\n")
        self.assertEqual(run.result().stdout, b"ready\non\n")

    def test_queue_and_cancel(self) -> None:
        first = self.s.start("echo on; sleep 1000")
        with first.follow() as stream:
            next(stream)
        second = self.s.start("echo never")
        self.assertEqual((second.info().state, self.s.info().queued), ("queued", 1))
        second.cancel()
        self.assertEqual(second.wait(PATIENCE).reason, "canceled")
        self.assertIsNone(second.result().exit_code)
        first.interrupt()
        self.assertEqual(first.wait(PATIENCE).exit_code, 130)
        with self.assertRaises(tandem.RunNotFound):
            self.s.get_run("other").info()

    def test_what_is_no_longer_kept(self) -> None:
        data = b"0123456789" * 3_000_000
        run = self.s.start("cat " + self.file("data", data))
        run.wait(PATIENCE)
        with run.follow() as stream:
            got = list(stream)
        self.assertIsInstance(got[0], tandem.Gap)
        kept = b"".join(o.data for o in got[1:])
        lost = got[0].position - got[0].start - 1  # its start is an event, with a position too
        self.assertTrue(data[lost:] == kept and lost > 0)
        r = run.result()
        self.assertTrue(r.truncated and r.stdout == kept)


class TestSessions(ClientTest):
    def test_life(self) -> None:
        missing = self.tmp / "made"
        s = self.client.create_session(cwd=missing, env={"X": "y"}, name="first")
        self.assertTrue(missing.is_dir())
        self.assertEqual(s.run("echo $X").stdout, b"y\n")
        info = s.info()
        self.assertEqual((info.id, info.name, info.cwd, info.state, info.run_id), (s.id, "first", str(missing), "idle", None))
        self.assertLess(abs(info.created_at - time.time()), PATIENCE)
        self.assertEqual(s.rename("second").name, "second")
        self.assertIn((s.id, "second"), [(i.id, i.name) for i in self.client.list_sessions()])
        self.client.delete_session(s.id)
        for use in (s.info, s.delete, lambda: s.run("true"), lambda: s.run_json("true"), lambda: self.client.get_session(s.id)):
            with self.assertRaises(tandem.SessionNotFound) as caught:
                use()
            self.assertEqual((caught.exception.status, caught.exception.code), (404, "CONTEXT_NOT_FOUND"))
        with self.assertRaises(tandem.NotFound):
            self.client.get_session("a/b?c#é")

    def test_with(self) -> None:
        with tandem.Session(url=self.server.url) as s:
            with self.client.get_session(s.id) as other:
                other.run("x=1")
            self.assertEqual(s.run("echo $x").stdout, b"1\n")
        with self.assertRaises(tandem.SessionNotFound):
            self.client.get_session(s.id)
        with tandem.Session(self.client) as s:
            s.delete()
        with self.assertRaises(ZeroDivisionError):
            with tandem.Session(self.client) as s:
                1 / 0
        with self.assertRaises(tandem.SessionNotFound):
            s.info()

    def test_deleted_under_a_run(self) -> None:
        with self.s.stream("echo ready; sleep 1000") as stream:
            next(stream)
            self.client.delete_session(self.s.id)
            self.assertEqual(list(stream), [])
        self.assertEqual((stream.end.reason, stream.end.exit_code), ("session_closed", None))

    def test_many_threads(self) -> None:
        """One client, used by many at once, mixes nothing up."""
        wrong: list = []

        def work(n: int) -> None:
            with self.client.create_session() as s:
                for i in range(20):
                    if s.run(f"echo {n} {i}").stdout != f"{n} {i}\n".encode():
                        wrong.append((n, i))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])

    def test_connections_are_used_again(self) -> None:
        proxy = self.proxy()
        s = self.through(proxy)
        for _ in range(10):
            s.run("true")
            s.info()
        self.assertEqual(proxy.accepted, 1)
        proxy.cut()
        self.assertTrue(s.run("true").ok)
        s.rename("not repeatable, and still not lost")


class TestLostConnections(ClientTest):
    def test_cut_again_and_again(self) -> None:
        """However often the connection breaks, no byte is lost or doubled, and the code runs
        once."""
        for seed in range(4):
            rng = random.Random(seed)
            data = b"".join(rng.choices([b"a line\n", b"\n", b"\xff\xfe", b"part ", b"z" * 300], k=9000))
            code = f"n=$((n + 1)); cat {self.file('data', data)}; echo $n >&2"
            proxy = self.proxy(lambda n: 0 if n == 1 else rng.randrange(1, 60_000))
            client = self.enter(tandem.Client(proxy.url))
            s = tandem.Session._existing(client, self.s.id)
            r = s.run(code)
            self.assertEqual((r.stdout == data, r.stderr, r.ok, r.truncated), (True, b"%d\n" % (seed + 1), True, False), f"seed {seed}")
            self.assertGreater(proxy.accepted, 3)

    def test_flood_that_is_cut(self) -> None:
        """What floods waits for a client whose connection was reset, and all of it arrives."""
        rng = random.Random(1)
        proxy = self.proxy(lambda n: rng.randrange(1_000_000, 3_000_000))
        proxy.reset = True
        s = tandem.Session._existing(self.enter(tandem.Client(proxy.url)), self.s.id)
        r = s.run("n=$((n + 1)); seq -f %0999.0f 1 50000; echo $n >&2")
        want = b"".join(b"%0999d\n" % i for i in range(1, 50_001))
        self.assertEqual((r.stdout == want, r.stderr, r.ok, r.truncated), (True, b"1\n", True, False))
        run = self.s.start("seq -f %0999.0f 1 50000")
        self.assertTrue(s.get_run(run.id).result().stdout == want)
        self.assertGreater(proxy.accepted, 30)

    def test_cut_in_silence(self) -> None:
        proxy = self.proxy()
        with self.through(proxy).stream("echo one; read x; printf two", stdin=True) as stream:
            self.assertEqual(next(stream).text, "one\n")
            proxy.cut()
            self.s.get_run(stream.run.id).write("\n")
            self.assertEqual(data_of(stream, "stdout"), b"two")
        self.assertEqual(stream.end.exit_code, 0)

    def test_gone_for_good_and_back(self) -> None:
        proxy = self.proxy()
        s = self.through(proxy, reconnect=0.3)
        with s.stream("echo one; read x; echo two", stdin=True) as stream:
            self.assertEqual(next(stream).text, "one\n")
            proxy.shut()
            with self.assertRaises(tandem.ConnectionLost) as caught:
                next(stream)
            lost = caught.exception
            self.s.get_run(lost.run_id).write("\n")
            with self.s.get_run(lost.run_id).follow(lost.position) as rest:
                self.assertEqual(data_of(rest, "stdout"), b"two\n")

    def test_back_in_time(self) -> None:
        proxy = self.proxy()
        with self.through(proxy).stream("echo one; read x; echo two", stdin=True) as stream:
            next(stream)
            proxy.shut()
            refused = proxy.accepted
            result: list = []
            t = threading.Thread(target=lambda: result.append(stream.collect()))
            t.start()
            while proxy.accepted < refused + 3:
                time.sleep(0.005)
            proxy.open = True
            self.s.get_run(stream.run.id).write("\n")
            t.join(PATIENCE)
        self.assertEqual(result[0].stdout, b"two\n")

    def test_json(self) -> None:
        proxy = self.proxy(lambda n: 100 if n < 3 else None)
        s = tandem.Session._existing(self.enter(tandem.Client(proxy.url)), self.s.id)
        r = s.run_json("n=$((n + 1)); seq 1000; (exit $n)")
        self.assertEqual((r.stdout.count(b"\n"), r.exit_code), (1000, 1))

    def test_start_and_wait(self) -> None:
        proxy = self.proxy(lambda n: 0 if n % 2 else None)
        s = tandem.Session._existing(self.enter(tandem.Client(proxy.url)), self.s.id)
        run = s.start("n=$((n + 1)); sleep 0.2; (exit $n)")
        proxy.cut()
        self.assertEqual(run.wait(PATIENCE).exit_code, 1)

    def test_input_that_is_cut(self) -> None:
        proxy = self.proxy(lambda n: None)
        s = self.through(proxy, reconnect=1)
        with s.stream("echo ready; sleep 1000", stdin=b"\xff" * 20_000_000) as stream:
            next(stream)
            while proxy.upward < 2_000_000:  # as much as is taken of what nobody reads
                time.sleep(0.005)
            proxy.cut()
            with self.assertRaises(tandem.ConnectionLost):
                list(stream)
        self.assertEqual(self.s.get_run(stream.run.id).wait(PATIENCE).reason, "canceled")


class TestServers(unittest.TestCase):
    def server(self, *args: str, **kw: str) -> Server:
        s = Server(*args, **kw)
        self.addCleanup(s.close)
        return s

    def test_tokens(self) -> None:
        with tempfile.NamedTemporaryFile("w") as f:
            f.write("control secret-of-all\nview secret-of-lookers\n")
            f.flush()
            url = self.server("--token-file", f.name).url
        with tandem.Session(url=url, token="secret-of-all") as s:
            self.assertEqual(s.run("echo hi").stdout, b"hi\n")
            with tandem.Client(url, "secret-of-lookers") as viewer:
                self.assertEqual([i.id for i in viewer.list_sessions()], [s.id])
                with self.assertRaises(tandem.Forbidden):
                    viewer.get_session(s.id).run("true")
            for token in (None, "wrong", ""):
                with tandem.Client(url, token) as stranger, self.assertRaises(tandem.Unauthorized) as caught:
                    stranger.list_sessions()
                self.assertEqual((caught.exception.status, caught.exception.code), (401, "UNAUTHORIZED"))
            self.assertNotIn("secret", repr(s) + repr(s.client) + str(caught.exception))
            env = {"TANDEM_URL": url, "TANDEM_TOKEN": "secret-of-all"}
            code = "import tandem; print(tandem.Client().list_sessions()[0].id)"
            out = subprocess.run([sys.executable, "-B", "-c", code], cwd=HERE, env={**os.environ, **env}, stdout=subprocess.PIPE, check=True)
            self.assertEqual(out.stdout.decode().strip(), s.id)
        with self.assertRaises(ValueError):
            tandem.Client(url, "read with its newline\n")

    def test_socket_file(self) -> None:
        with tempfile.TemporaryDirectory() as d:
            server = self.server(listen=f"unix:{d}/s")
            with tandem.Session(url=f"unix:{d}/s") as s:
                self.assertEqual(s.run("cat", stdin=b"\xff").stdout, b"\xff")
                self.assertEqual(s.run_json("echo hi").stdout, b"hi\n")
            server.process.terminate()
            server.process.wait(PATIENCE)
            with self.assertRaises(tandem.ConnectionFailed):
                tandem.Session(url=f"unix:{d}/s")

    def test_tls(self) -> None:
        cert = os.environ["TLS_CERT"]
        url = self.server("--tls-cert", cert, "--tls-key", os.environ["TLS_KEY"]).url
        self.assertTrue(url.startswith("https://"), url)
        with self.assertRaisesRegex(tandem.ConnectionFailed, "(?i)certificate"):
            tandem.Client(url).list_sessions()
        with tandem.Client(url, ssl_context=ssl.create_default_context(cafile=cert)) as c, c.create_session() as s:
            data = random.Random(1).randbytes(1_000_000)
            self.assertTrue(s.run("cat", stdin=data).stdout == data)

    def test_killed(self) -> None:
        server = self.server()
        with tandem.Client(server.url, reconnect=0.2) as c:
            s = c.create_session()
            with s.stream("echo ready; sleep 1000") as stream:
                next(stream)
                server.process.kill()
                with self.assertRaises(tandem.ConnectionLost):
                    next(stream)
            with self.assertRaises(tandem.ConnectionFailed) as caught:
                s.run("true")
            self.assertFalse(caught.exception.sent)

    def test_nobody_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        began = time.monotonic()
        for url in (f"http://127.0.0.1:{port}", "unix:/no/such/socket", "http://no-such-host.invalid"):
            with self.assertRaisesRegex(tandem.ConnectionFailed, "cannot reach") as caught:
                tandem.Session(url=url)
            self.assertIsInstance(caught.exception, ConnectionError)
            self.assertFalse(caught.exception.sent)
        self.assertLess(time.monotonic() - began, PATIENCE)

    def test_no_answer(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            c = tandem.Client("http://127.0.0.1:%d" % silent.getsockname()[1], timeout=0.1)
            with self.assertRaises(tandem.RequestTimeout) as caught:
                c.list_sessions()
        self.assertIsInstance(caught.exception, TimeoutError)
        self.assertTrue(caught.exception.sent)

    def test_another_server(self) -> None:
        """What is no tandem is told so, and fast."""
        def answer(listener: socket.socket, text: bytes) -> None:
            conn, _ = listener.accept()
            with conn:
                conn.recv(64 << 10)
                conn.sendall(b"HTTP/1.1 " + text)

        stream = b"200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        for text, error, call in (
            (b"200 OK\r\nContent-Length: 6\r\n\r\n<html>", tandem.ProtocolError, lambda s: s.info()),
            (b"200 OK\r\nContent-Length: 2\r\n\r\n{}", tandem.ProtocolError, lambda s: s.run("true")),
            (b"302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", tandem.ProtocolError, lambda s: s.info()),
            (b"418 Teapot\r\nContent-Length: 5\r\n\r\nshort", tandem.APIError, lambda s: s.info()),
            (b"500 Oops\r\nContent-Length: 0\r\n\r\n", tandem.ServerError, lambda s: s.run("true")),
            (b"nonsense\r\n\r\n", tandem.ConnectionFailed, lambda s: s.info()),
            (stream + b"id: 1\ndata: nonsense\n\n", tandem.ProtocolError, lambda s: s.run("true")),
            (stream + b"id: x\ndata: {\"type\":\"init\"}\n\n", tandem.ProtocolError, lambda s: s.run("true")),
            (stream + b"id: 1\ndata: []\n\n", tandem.ProtocolError, lambda s: s.run("true")),
        ):
            with socket.create_server(("127.0.0.1", 0)) as listener:
                t = threading.Thread(target=answer, args=(listener, text))
                t.start()
                with tandem.Client("http://127.0.0.1:%d" % listener.getsockname()[1], timeout=0.2, reconnect=0.05) as c:
                    with self.assertRaises(error, msg=text):
                        call(tandem.Session._existing(c, "s"))
                t.join()

    def test_urls(self) -> None:
        for url in ("", "127.0.0.1:4477", "ftp://x", "http://", "http://u:p@x", "http://x?y", "unix:", "http://x:port"):
            with self.assertRaises(ValueError, msg=url) as caught:
                tandem.Client(url)
            self.assertNotIn("u:p", str(caught.exception))
        for url, want in (
            ("http://h", ("http", "h", None, "")), ("https://[::1]:5/a b/", ("https", "::1", 5, "/a%20b")),
            ("unix:/s", ("unix", "/s", None, "")), ("unix:///s", ("unix", "/s", None, "")),
        ):
            self.assertEqual(tandem._parse_url(url), want)


def plainly(text: bytes):
    """Server-sent events as the standard describes them, of a whole stream at once."""
    if text.startswith(b"\xef\xbb\xbf"):
        text = text[3:]
    lines = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:-1]
    data, event, last, found = [], "", "", []
    for line in lines:
        name, colon, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if not line:
            if data:
                found.append(tandem.ServerSentEvent(last, event or "message", b"\n".join(data)))
            data, event = [], ""
        elif name == b"data":
            data.append(value)
        elif name == b"event":
            event = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            last = value.decode("utf-8", "replace")
    return found


class TestParser(unittest.TestCase):
    def parse(self, pieces):
        parser = tandem.SSEParser()
        return [e for piece in pieces for e in parser.feed(piece)]

    def test_cases(self) -> None:
        E = tandem.ServerSentEvent
        for text, want in (
            (b"data: a\n\n", [E("", "message", b"a")]),
            (b"data:a\ndata:  b\n\n", [E("", "message", b"a\n b")]),
            (b"\xef\xbb\xbfid: 7\r\nevent: x\r\ndata\r\n\r\ndata: y\r\n\r\n", [E("7", "x", b""), E("7", "message", b"y")]),
            (b": comment\n\nid: 1\n\ndata: z\r\r", [E("1", "message", b"z")]),
            (b"data: cut", []), (b"data: cut\n", []), (b"", []), (b"retry: 5\nid: a\0b\ndata: q\n\n", [E("", "message", b"q")]),
        ):
            self.assertEqual(self.parse([text]), want, text)
            self.assertEqual(self.parse([text[i:i + 1] for i in range(len(text))]), want, text)

    def test_any_stream_in_any_pieces(self) -> None:
        """Whatever comes, in whatever pieces, is what the standard makes of the whole of it."""
        tokens = [b"data", b"id", b"event", b":", b": ", b"\n", b"\r", b"\r\n", b"\n\n", b" ", b"\0", b"\xff", b"\xef\xbb\xbf", b"x", "é".encode(), b"data: y\n\n", b"7"]
        for seed in range(4000):
            rng = random.Random(seed)
            text = b"".join(rng.choices(tokens, k=rng.randrange(40)))
            cuts = sorted(rng.randrange(len(text) + 1) for _ in range(rng.randrange(8)))
            pieces = [text[a:b] for a, b in zip([0] + cuts, cuts + [len(text)])]
            self.assertEqual(self.parse(pieces), plainly(text), f"seed {seed}: {pieces}")

    def test_too_long(self) -> None:
        endless = (b"data: " * (i == 0) + b"x" * (1 << 20) for i in range(40))
        with self.assertRaises(tandem.ProtocolError):
            self.parse(endless)
        with self.assertRaises(tandem.ProtocolError):
            self.parse(b"data: " + b"x" * (1 << 20) + b"\n" for _ in range(40))


class TestSource(unittest.TestCase):
    def test_oldest_python(self) -> None:
        """The client stays one file that Python 3.9 reads, with the standard library alone."""
        tree = ast.parse((HERE / "tandem.py").read_text(), feature_version=(3, 9))
        names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        names |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        if hasattr(sys, "stdlib_module_names"):
            self.assertEqual({n.split(".")[0] for n in names} - sys.stdlib_module_names, set())
        missing = [n for n in tandem.__all__ if not getattr(tandem, n).__doc__]
        self.assertEqual(missing, [])


if __name__ == "__main__":
    unittest.main()
