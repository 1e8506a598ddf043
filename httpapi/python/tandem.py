"""A client for tandem's REST interface, in one file and with nothing but Python 3.9 or newer.

A session is one bash that lives on between the commands it is given::

    import tandem

    with tandem.Session(cwd="/tmp") as s:           # deleted at the end of the block
        s.run("x=41")
        print(s.run("echo $((x + 1))").stdout_text)  # 42
        s.run("make", check=True, timeout=600)       # RunFailed unless it exits with 0

The server's URL is an argument or ``TANDEM_URL`` (``http://127.0.0.1:4477``), which may be
``http://…``, ``https://…`` (also with a path, behind a proxy) or ``unix:/path/of/socket``; the
token is an argument or ``TANDEM_TOKEN``. No proxy of the environment is used.

Whole output, or as it comes
    :meth:`Session.run` waits for the end and returns a :class:`Result`: ``stdout`` and
    ``stderr`` to the byte, ``exit_code``, ``reason``. :meth:`Session.run_json` is the same in
    bounded memory: it returns the last 8 MiB of each. :meth:`Session.stream` gives each line
    when it is there::

        with s.stream("make 2>&1") as lines:
            for out in lines:
                print(out.text, end="")
        print(lines.end.exit_code)

    A command that fails is no error of the client's: ``exit_code`` says so, and ``reason``
    why it ended (``exited``, ``interrupted``, ``timed_out``, ``canceled``, ``shell_exited``,
    ``session_closed``, ``refused``). With ``check=True`` it is a :class:`RunFailed`.

Runs that nobody waits for
    :meth:`Session.start` returns a :class:`Run` at once. ``wait()`` waits for it, ``output()``
    reads what is there from a position on, ``follow()`` streams it, ``result()`` collects it;
    ``write()`` and ``close_stdin()`` are its input where it was started with ``stdin=True``;
    ``interrupt()``, ``signal()`` and ``cancel()`` end it. :meth:`Session.get_run` finds a run
    by its id, also one that another program started.

Lost connections
    Every run has an id chosen by this side, so that asking for it twice never runs it twice.
    A stream whose connection breaks goes on at the very byte where it was, by itself, for as
    long as ``Client(reconnect=…)`` says (30 s), then it is a :class:`ConnectionLost`, which
    has the ``run_id`` and ``position`` to :meth:`Run.follow` from later. The server cancels a
    run that nobody has read for 10 s, unless it was started by :meth:`Session.start`; what it
    puts out meanwhile waits. What the server itself no longer keeps shows as a :class:`Gap`, and
    as ``truncated``.

Errors
    All are :class:`TandemError`. What the server refuses is an :class:`APIError` with
    ``status``, ``code`` and ``message``, of a type of its own for each code. What could not be
    reached is a :class:`ConnectionFailed`. Mistakes in arguments are ``ValueError``.

Threads
    A :class:`Client`, its sessions and its runs may be used from any thread at any time:
    ``interrupt()`` in one ends what ``run()`` waits for in another. A :class:`Stream` belongs
    to one thread at a time.
"""

from __future__ import annotations

import base64
import collections
import dataclasses
import http.client
import json
import math
import os
import select
import signal as _signals
import socket
import ssl
import threading
import time
import urllib.parse
import uuid
from types import TracebackType
from typing import (
    Any, Deque, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Type, TypeVar, Union,
)

__all__ = [
    "APIError", "Client", "Conflict", "ConnectionFailed", "ConnectionLost", "End", "Forbidden",
    "Gap", "InvalidRequest", "NoStdin", "NotFound", "Output", "OutputPart", "ProtocolError",
    "QueueFull", "RequestTimeout", "Result", "Run", "RunExists", "RunFailed", "RunInfo", "RunNotFound",
    "RunNotRunning", "ServerError", "ServerSentEvent", "Session", "SessionInfo",
    "SessionNotFound", "SSEParser", "Stream", "TandemError", "TooLarge", "TooMany",
    "Unauthorized", "WaitTimeout",
]

DEFAULT_URL = "http://127.0.0.1:4477"

# A run's stream has a ping every 3 s: one that is silent for longer has lost its connection.
_SILENCE = 12.0
# How much of a stream is taken from the socket at once.
_CHUNK = 256 << 10
# No event of a tandem is as long; another server's must not fill the memory.
_MAX_EVENT = 32 << 20
# A request that waits on the server is asked again after so long, which proxies let pass.
_WAIT = 20.0
# Input of up to so many bytes goes with the request, in one piece with it.
_INLINE_STDIN = 1 << 20


_JSON = json.JSONDecoder()


# ---- Errors

class TandemError(Exception):
    """What all errors of this module are."""


class APIError(TandemError):
    """The server refused a request: ``status`` of HTTP, ``code`` as in the README of tandem,
    and ``message``, which says what was wrong and what would be right."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{message} ({status} {code})" if code else f"{message} ({status})")
        self.status = status
        self.code = code
        self.message = message


class InvalidRequest(APIError):
    """400: something in the request is not as it must be."""


class Unauthorized(APIError):
    """401: the token is missing or wrong."""


class Forbidden(APIError):
    """403: this token may only look, or the server does not answer to this host name."""


class NotFound(APIError):
    """404: what the request is about is not there, or no longer."""


class SessionNotFound(NotFound):
    """The session never was, or has ended."""


class RunNotFound(NotFound):
    """The session has no such run, or has forgotten it."""


class Conflict(APIError):
    """409: it cannot be done now."""


class RunNotRunning(Conflict):
    """The run has ended, or has not begun."""


class RunExists(Conflict):
    """There is a run of this id with other code."""


class QueueFull(Conflict):
    """Too many runs wait in the session."""


class NoStdin(Conflict):
    """The run's stdin is not open."""


class TooLarge(APIError):
    """413: the code, its input or its environment is longer than the server allows."""


class TooMany(APIError):
    """429: the server has as many sessions or clients as it allows."""


class ServerError(APIError):
    """5xx: it is the server, or a proxy before it, that failed."""


class ConnectionFailed(TandemError, ConnectionError):
    """The server was not reached, or its answer did not arrive. ``sent`` says whether the
    request may have reached it and so may have been carried out."""

    def __init__(self, message: str, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class ConnectionLost(ConnectionFailed):
    """A run's stream broke and could not be taken up again in time. The run may go on:
    ``session.get_run(run_id).follow(after=position)`` tries once more."""

    def __init__(self, message: str, run_id: str, position: Optional[int]) -> None:
        super().__init__(message, True)
        self.run_id = run_id
        self.position = position


class ProtocolError(TandemError):
    """What answers there is no tandem, or something between changes its answers."""


class WaitTimeout(TandemError, TimeoutError):
    """What was waited for did not happen in the time given; nothing was changed by that."""


class RequestTimeout(ConnectionFailed, WaitTimeout):
    """The server was reached and did not answer within ``Client(timeout=…)``."""


class RunFailed(TandemError):
    """A run with ``check=True`` did not end with the exit code 0; ``result`` is all of it."""

    def __init__(self, result: "Result") -> None:
        how = result.reason if result.exit_code is None else f"{result.reason}, exit code {result.exit_code}"
        last = result.stderr_text.strip().rsplit("\n", 1)[-1]
        super().__init__(f"the run failed: {how}" + (f": {last}" if last else ""))
        self.result = result


_BY_CODE: Mapping[str, Type[APIError]] = {
    "INVALID_REQUEST_BODY": InvalidRequest, "UNAUTHORIZED": Unauthorized, "FORBIDDEN": Forbidden,
    "CONTEXT_NOT_FOUND": SessionNotFound, "RUN_NOT_FOUND": RunNotFound,
    "RUN_NOT_RUNNING": RunNotRunning, "RUN_EXISTS": RunExists, "QUEUE_FULL": QueueFull,
    "NO_STDIN": NoStdin, "TOO_LARGE": TooLarge, "TOO_MANY": TooMany,
}
_BY_STATUS: Mapping[int, Type[APIError]] = {
    400: InvalidRequest, 401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict,
    413: TooLarge, 429: TooMany,
}


def _api_error(status: int, body: bytes) -> APIError:
    try:
        answer = json.loads(body)
        code, message = str(answer["code"]), str(answer["message"])
    except (ValueError, LookupError, TypeError):
        code, message = "", body[:200].decode("utf-8", "replace").strip() or http.client.responses.get(status, "")
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status) or (ServerError if status >= 500 else APIError)
    return kind(status, code, message)


# ---- What the server tells

class Output(NamedTuple):
    """Bytes that a run wrote, at most one line of them, exactly as it wrote them: ``data``
    ends with a newline only where the run wrote one."""

    stream: str    # "stdout" or "stderr"
    data: bytes
    position: int  # after it: Run.follow(after=position) goes on from there

    @property
    def text(self) -> str:
        """``data`` as UTF-8, with U+FFFD for what is none."""
        return self.data.decode("utf-8", "replace")


class Gap(NamedTuple):
    """Output may have been between these two positions that the server no longer keeps."""

    start: int
    position: int
    stream: str = ""  # it is none, and has no data
    data: bytes = b""
    text: str = ""


@dataclasses.dataclass(frozen=True)
class End:
    """How a run ended. ``exit_code`` is the command's own, 124 after a timeout, 130 (or what
    the command chose) after an interrupt, 128 + signal where the shell was killed, and None
    where there is none (``canceled``, ``refused``, ``session_closed``)."""

    run_id: str
    exit_code: Optional[int]
    reason: str
    message: str  # the same in a few words; for "refused" what was wrong

    @property
    def ok(self) -> bool:
        """Whether the run ended by itself with the exit code 0."""
        return self.reason == "exited" and self.exit_code == 0


@dataclasses.dataclass(frozen=True)
class Result(End):
    """A run that has ended, and what it wrote."""

    stdout: bytes
    stderr: bytes
    truncated: bool  # something at the front is missing: it was more than is kept

    @property
    def stdout_text(self) -> str:
        """``stdout`` as UTF-8, with U+FFFD for what is none."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def stderr_text(self) -> str:
        """``stderr`` as UTF-8, with U+FFFD for what is none."""
        return self.stderr.decode("utf-8", "replace")

    def check(self) -> "Result":
        """Return this, or raise :class:`RunFailed` unless it is ``ok``."""
        if not self.ok:
            raise RunFailed(self)
        return self


@dataclasses.dataclass(frozen=True)
class OutputPart:
    """A stretch of a run's output: ``output(after=next)`` goes on where it ends."""

    state: str  # of the run: "queued", "running" or "finished"
    stdout: bytes
    stderr: bytes
    next: int
    truncated: bool  # some of it was no longer kept, or more than one answer carries


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """A run as it is. What is not known (yet) is None; ``started_at`` is as ``time.time()``."""

    run_id: str
    number: int
    state: str  # "queued", "running", "finished"
    code: str   # cut at 4 KiB
    by: str     # "rest" or "ws"
    started_at: Optional[float]
    exit_code: Optional[int]
    reason: Optional[str]
    signal: Optional[str]      # the one that killed the shell, as "SIGKILL"
    duration: Optional[float]  # seconds
    cwd: Optional[str]         # where it left the session

    @property
    def finished(self) -> bool:
        """Whether it has ended."""
        return self.state == "finished"


@dataclasses.dataclass(frozen=True)
class SessionInfo:
    """A session as it is. Times are as ``time.time()``."""

    id: str
    name: str
    state: str  # "idle", "running"
    cwd: str
    created_at: float
    active_at: float
    clients: int
    queued: int
    run_id: Optional[str]  # of the run that is on


def _seconds(ms: Optional[float]) -> Optional[float]:
    return None if ms is None else ms / 1000


def _run_info(v: Mapping[str, Any]) -> RunInfo:
    return RunInfo(
        run_id=v["run_id"], number=v["number"], state=v["state"], code=v["code"], by=v["by"],
        started_at=_seconds(v.get("started_at")), exit_code=v.get("exit_code"), reason=v.get("reason"),
        signal=v.get("signal"), duration=_seconds(v.get("duration_ms")), cwd=v.get("cwd"))


def _session_info(v: Mapping[str, Any]) -> SessionInfo:
    return SessionInfo(
        id=v["id"], name=v["name"], state=v["state"], cwd=v["cwd"], created_at=v["created_at"] / 1000,
        active_at=v["active_at"] / 1000, clients=v["clients"], queued=v["queued"],
        run_id=(v.get("run") or {}).get("run_id"))


def _exact(v: Mapping[str, Any], stream: str) -> bytes:
    """One stream of a JSON answer, which has the bytes beside the text where they differ."""
    exact = v.get(stream + "_base64")
    return str(v[stream]).encode() if exact is None else base64.b64decode(exact)


_REASONS: Mapping[str, str] = {
    "CommandExecError": "exited", "CommandTimeout": "timed_out", "CommandInterrupted": "interrupted",
    "ShellExited": "shell_exited", "CommandCanceled": "canceled", "SessionClosed": "session_closed",
    "InvalidCwd": "refused",
}


def _error_end(run_id: str, error: Mapping[str, Any]) -> End:
    name, value = str(error["ename"]), str(error["evalue"])
    return End(run_id, int(value) if value.isdecimal() else None, _REASONS.get(name, name),
               "; ".join(map(str, error.get("traceback") or [])))


# ---- Server-sent events

class ServerSentEvent(NamedTuple):
    """One event. ``id`` is the last one that was given, as the standard has it."""

    id: str
    event: str
    data: bytes


class SSEParser:
    """Takes a stream of server-sent events apart, in pieces of any size.

    Lines may end with LF, CR LF or CR, also where a piece ends between the two. Comments,
    ``retry`` and unknown fields are skipped; an event without data is none; what is not
    followed by an empty line was cut and is none either.
    """

    def __init__(self) -> None:
        self._rest = b""     # a line whose end has not come
        self._cr = False     # the last piece ended with a CR, whose LF may begin the next
        self._first = True   # no line was taken yet: it may begin with a byte order mark
        self._data: List[bytes] = []
        self._size = 0
        self._event = ""
        self._id = ""

    def feed(self, piece: bytes) -> Iterator[ServerSentEvent]:
        """Yield the events that ``piece`` completes. It must be exhausted before the next
        call. An event of more than 32 MiB is a :class:`ProtocolError`."""
        if self._cr and piece[:1] == b"\n":
            piece = piece[1:]
        if not piece:
            return
        self._cr = piece[-1:] == b"\r"
        lines = (self._rest + piece).splitlines()
        self._rest = b"" if self._cr or piece[-1:] == b"\n" else lines.pop()
        self._limit(len(self._rest))
        if self._first and lines:
            self._first = False
            if lines[0].startswith(b"\xef\xbb\xbf"):
                lines[0] = lines[0][3:]
        for line in lines:
            if line:
                self._field(line)
                continue
            data, kind = self._data, self._event
            self._data, self._size, self._event = [], 0, ""
            if data:
                yield ServerSentEvent(self._id, kind or "message", data[0] if len(data) == 1 else b"\n".join(data))

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if name == b"data":
            self._size += len(value) + 1
            self._limit(0)
            self._data.append(value)
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")

    def _limit(self, more: int) -> None:
        if self._size + more > _MAX_EVENT:
            raise ProtocolError(f"an event of the stream is longer than {_MAX_EVENT} bytes")


# ---- Connections

class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


class _Answer:
    """The answer to one request, and its connection, which goes back when all was read."""

    def __init__(self, transport: "_Transport", conn: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._transport, self._conn, self._response = transport, conn, response
        self.status = response.status

    def header(self, name: str) -> str:
        return self._response.headers.get(name) or ""

    def patience(self, seconds: Optional[float]) -> None:
        """How long a read may take from now on."""
        if self._conn.sock is not None:
            self._conn.sock.settimeout(seconds)

    def piece(self) -> bytes:
        """What is there, at least a byte of it; none at the end."""
        return self._response.read1(_CHUNK)

    def all(self) -> bytes:
        body = self._response.read()
        self._transport.give_back(self._conn, self._response)
        return body

    def finish(self) -> None:
        """Give the connection back if its answer is at its end, as it is after its last event."""
        try:
            self.patience(1)
            if self._response.read1(1) == b"":
                self._response.close()  # it does not know by itself that it is
                self._transport.give_back(self._conn, self._response)
                return
        except (OSError, http.client.HTTPException):
            pass
        self.close()

    def close(self) -> None:
        self._response.close()
        self._conn.close()


class _Transport:
    """Connections to one server, kept and used again. Safe for many threads."""

    _KEEP = 8

    def __init__(self, url: str, token: Optional[str], timeout: float, ssl_context: Optional[ssl.SSLContext]) -> None:
        self.url, self._timeout, self._ssl = url, timeout, ssl_context
        self._headers = {"Authorization": "Bearer " + token} if token else {}
        self._lock = threading.Lock()
        self._idle: List[http.client.HTTPConnection] = []
        self._closed = False
        self._scheme, self._host, self._port, self.base = _parse_url(url)
        if self._scheme == "https" and self._ssl is None:
            self._ssl = ssl.create_default_context()

    def new(self) -> http.client.HTTPConnection:
        """A connection of its own that is open. It fails with ConnectionFailed."""
        conn: http.client.HTTPConnection
        if self._scheme == "unix":
            conn = _UnixConnection(self._host, self._timeout)
        elif self._scheme == "https":
            conn = http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._ssl)
        else:
            conn = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        try:
            conn.connect()
        except (OSError, UnicodeError) as e:
            conn.close()
            raise ConnectionFailed(f"cannot reach {self.url}: {e}", False) from e
        return conn

    def _kept(self) -> Optional[http.client.HTTPConnection]:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                conn = self._idle.pop()
            # One that can be read from has been closed by the other side.
            if conn.sock is not None and not _readable(conn.sock):
                return conn
            conn.close()

    def give_back(self, conn: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        if not response.will_close and conn.sock is not None:
            with self._lock:
                if not self._closed and len(self._idle) < self._KEEP:
                    self._idle.append(conn)
                    return
        conn.close()

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for conn in idle:
            conn.close()

    def ask(self, method: str, path: str, body: Optional[bytes], headers: Mapping[str, str],
            timeout: Optional[float], repeatable: bool) -> _Answer:
        """Send a request and return its answer, the headers of it. One that may be made twice
        is made again where a kept connection turns out to be dead."""
        conn = self._kept()
        if conn is not None:
            try:
                return self.exchange(conn, method, path, body, headers, timeout)
            except WaitTimeout:
                raise
            except ConnectionFailed:
                if not repeatable:
                    raise
        return self.exchange(self.new(), method, path, body, headers, timeout)

    def exchange(self, conn: http.client.HTTPConnection, method: str, path: str, body: Optional[bytes],
                 headers: Mapping[str, str], timeout: Optional[float]) -> _Answer:
        """Do one request on ``conn``, which it closes where that fails."""
        try:
            if conn.sock is not None:
                conn.sock.settimeout(timeout)
            try:
                conn.request(method, self.base + path, body=body, headers={**self._headers, **headers})
            except (BrokenPipeError, ConnectionResetError):
                pass  # whoever refuses a long body may have answered before its end
            answer = _Answer(self, conn, conn.getresponse())
        except socket.timeout as e:
            conn.close()
            raise RequestTimeout(f"{self.url} did not answer {method} {path} within {timeout} s", True) from e
        except (OSError, http.client.HTTPException) as e:
            conn.close()
            raise ConnectionFailed(f"lost {self.url} before its answer to {method} {path}: {e or type(e).__name__}", True) from e
        except BaseException:
            conn.close()
            raise
        if answer.status >= 400 or answer.status < 200:
            raise _api_error(answer.status, self.read(answer))
        if answer.status >= 300:
            answer.close()
            raise ProtocolError(f"{self.url} leads on to {answer.header('Location')!r}: use the URL of the server itself")
        return answer

    def read(self, answer: _Answer) -> bytes:
        """Read the rest of an answer."""
        try:
            return answer.all()
        except (OSError, http.client.HTTPException) as e:
            answer.close()
            raise ConnectionFailed(f"lost {self.url} within its answer: {e or type(e).__name__}", True) from e


def _readable(sock: socket.socket) -> bool:
    try:
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(sock, select.POLLIN)
            return bool(poll.poll(0))
        return bool(select.select([sock], [], [], 0)[0])
    except (OSError, ValueError):
        return True


def _parse_url(url: str) -> Tuple[str, str, Optional[int], str]:
    """Scheme, host or path of the socket, port, and the path before every request's."""
    if url.startswith("unix:"):
        path = url[len("unix:"):]
        if path.startswith("//"):
            path = "/" + path.lstrip("/")
        if not path or "\0" in path:
            raise ValueError(f"{url!r} names no socket: write unix:/path/of/socket")
        return "unix", path, None, ""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username is not None:
        raise ValueError("not the URL of a server: write http://host:port, https://host:port or unix:/path, without user, query or fragment")
    return parts.scheme, parts.hostname, parts.port, urllib.parse.quote(parts.path.rstrip("/"), safe="/%")


# ---- The client

_T = TypeVar("_T", bound="Session")
Stdin = Union[None, bool, str, bytes]
Signal = Union[str, int]


class Client:
    """A server, and how to talk to it. Making one connects to nothing.

    ``timeout`` is how many seconds a request may be without an answer (not how long a run may
    take), ``reconnect`` how long a broken stream tries to go on. ``ssl_context`` is for
    certificates that the system does not know: ``ssl.create_default_context(cafile=…)``.

    It may be used by many threads; ``close()``, or the end of a ``with`` block, closes the
    connections that it keeps, and touches no session.
    """

    def __init__(self, url: Optional[str] = None, token: Optional[str] = None, *, timeout: float = 30.0,
                 reconnect: float = 30.0, ssl_context: Optional[ssl.SSLContext] = None) -> None:
        if url is None:
            url = os.environ.get("TANDEM_URL") or DEFAULT_URL
        if token is None:
            token = os.environ.get("TANDEM_TOKEN")
        if token is not None and not (token.isascii() and token.isprintable()):
            raise ValueError("a token has printable ASCII characters only: was a newline read with it?")
        self.timeout = timeout
        self.reconnect = reconnect
        self._transport = _Transport(url, token, timeout, ssl_context)

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._transport.url

    def __repr__(self) -> str:
        return f"<tandem.Client {self.url}>"

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept. Those in use close when they are done."""
        self._transport.close()

    def create_session(self, *, cwd: Union[None, str, "os.PathLike[str]"] = None,
                       env: Optional[Mapping[str, str]] = None, name: Optional[str] = None) -> "Session":
        """Make a session and return it. A ``cwd`` that is missing is made."""
        return Session(self, cwd=cwd, env=env, name=name)

    def list_sessions(self) -> List[SessionInfo]:
        """The sessions that there are, whoever made them."""
        return [_session_info(v) for v in self.request("GET", "/session")["sessions"]]

    def get_session(self, session_id: str) -> "Session":
        """The session of that id, or SessionNotFound. Leaving its ``with`` block keeps it."""
        self.request("GET", _path("session", session_id))
        return Session._existing(self, session_id)

    def delete_session(self, session_id: str) -> None:
        """End a session; on return every process of it is gone."""
        self.request("DELETE", _path("session", session_id))

    def request(self, method: str, path: str, body: Union[None, bytes, Mapping[str, Any]] = None, *,
                timeout: Optional[float] = None) -> Any:
        """Do any request: an object goes out as JSON, ``bytes`` as they are. Returns the JSON
        that was answered, or None where the answer is empty. ``timeout`` is for this one
        instead of the client's."""
        with_json = body is not None and not isinstance(body, bytes)
        raw = json.dumps(body).encode() if with_json else body
        assert raw is None or isinstance(raw, bytes)
        headers = {"Accept": "application/json"}
        if raw is not None:
            headers["Content-Type"] = "application/json" if with_json else "application/octet-stream"
        answer = self._transport.ask(method, path, raw, headers, self.timeout if timeout is None else timeout, method == "GET")
        return self._decode(answer)

    def _decode(self, answer: _Answer) -> Any:
        text = self._transport.read(answer)
        if not text:
            return None
        try:
            return json.loads(text)
        except ValueError as e:
            raise ProtocolError(f"{self.url} answers no JSON: is it a tandem?") from e


def _path(*parts: str) -> str:
    return "".join("/" + urllib.parse.quote(p, safe="") for p in parts)


class Session:
    """One bash and all that is in it. Made by this call; :meth:`Client.get_session` finds one
    that is there. Without ``client`` it has one of its own, made from ``url`` and ``token``.

    In a ``with`` block it is deleted at the end, with every process of it, if this made it.
    """

    def __init__(self, client: Optional[Client] = None, *, cwd: Union[None, str, "os.PathLike[str]"] = None,
                 env: Optional[Mapping[str, str]] = None, name: Optional[str] = None,
                 url: Optional[str] = None, token: Optional[str] = None) -> None:
        if client is not None and (url is not None or token is not None):
            raise ValueError("a client has its own url and token: give either it or them")
        self._own_client = client is None
        self.client = Client(url, token) if client is None else client
        body: Dict[str, Any] = {}
        _put(body, cwd=None if cwd is None else os.fspath(cwd), env=None if env is None else dict(env), name=name)
        try:
            self.id = str(self.client.request("POST", "/session", body)["session_id"])
        except BaseException:
            if self._own_client:
                self.client.close()
            raise
        self._made = True

    @classmethod
    def _existing(cls: Type[_T], client: Client, session_id: str) -> _T:
        s = cls.__new__(cls)
        s.client, s.id, s._made, s._own_client = client, session_id, False, False
        return s

    def __repr__(self) -> str:
        return f"<tandem.Session {self.id} at {self.client.url}>"

    def __enter__(self: _T) -> _T:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], *_: object) -> None:
        try:
            if self._made:
                self.delete()
        except SessionNotFound:
            pass  # ended already, by whomever
        except TandemError:
            if kind is None:
                raise
        finally:
            if self._own_client:
                self.client.close()

    def _request(self, method: str, *parts: str, body: Union[None, bytes, Mapping[str, Any]] = None,
                 query: str = "", timeout: Optional[float] = None) -> Any:
        return self.client.request(method, _path("session", self.id, *parts) + query, body, timeout=timeout)

    def info(self) -> SessionInfo:
        """The session as it is now."""
        return _session_info(self._request("GET"))

    def rename(self, name: str) -> SessionInfo:
        """Give it another name."""
        return _session_info(self._request("PATCH", body={"name": name}))

    def delete(self) -> None:
        """End it; on return every process of it is gone."""
        self._request("DELETE")

    def run(self, code: str, *, cwd: Optional[str] = None, env: Optional[Mapping[str, str]] = None,
            timeout: Optional[float] = None, stdin: Stdin = None, run_id: Optional[str] = None,
            check: bool = False) -> Result:
        """Run ``code``, wait for its end and return all of it.

        Runs of one session go one at a time, in order of arrival: this one may wait for
        others. ``cwd`` moves the session there, as ``cd`` would, and must exist; ``env`` is for
        this run only; after ``timeout`` seconds what the run started is ended and ``reason``
        is ``timed_out``. ``stdin`` is text or bytes, after which the input ends; with True it
        is open for :meth:`Run.write` from another thread. The same ``run_id`` with the same
        code again is the same run, not another. With ``check`` it raises :class:`RunFailed`
        unless it exits with 0.

        Leaving it by an exception (Ctrl-C) cancels the run, unless ``run_id`` was given: then
        it can be come back to for 10 s.
        """
        if stdin is True and run_id is None:
            raise ValueError("with stdin=True give a run_id, so that another thread can write to the run; or use stream() or start()")
        with self.stream(code, cwd=cwd, env=env, timeout=timeout, stdin=stdin, run_id=run_id) as stream:
            result = stream.collect()
        return result.check() if check else result

    def run_json(self, code: str, *, cwd: Optional[str] = None, env: Optional[Mapping[str, str]] = None,
                 timeout: Optional[float] = None, stdin: Union[None, str] = None, run_id: Optional[str] = None,
                 check: bool = False) -> Result:
        """:meth:`run` by one answer in JSON, which has the last 8 MiB of each stream; where
        there was more, ``truncated`` says so. Nothing bounds how long it waits but
        ``timeout``; a connection that is lost meanwhile is made again."""
        body, _ = _run_body(code, cwd, env, timeout, stdin, run_id)
        patience = _Patience(self.client.reconnect)
        while True:
            began = time.monotonic()
            try:
                v = self._collected(body)
                break
            except (ConnectionFailed, ServerError) as e:
                if time.monotonic() - began > _SILENCE:
                    patience.reset()
                patience.endure(e, lambda: ConnectionLost(f"run {body['run_id']}: {e}", body["run_id"], None))
        result = Result(v["run_id"], v["exit_code"], v["reason"], v.get("signal") or v["reason"],
                        _exact(v, "stdout"), _exact(v, "stderr"), bool(v["truncated"]))
        return result.check() if check else result

    def _collected(self, body: Mapping[str, Any]) -> Any:
        t = self.client._transport
        conn = t.new()
        assert conn.sock is not None
        # It may be silent for as long as the run takes: the kernel finds out about dead peers.
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        answer = t.exchange(conn, "POST", _path("session", self.id, "run"), json.dumps(body).encode(),
                            {"Accept": "application/json", "Content-Type": "application/json"}, None)
        return self.client._decode(answer)

    def stream(self, code: str, *, cwd: Optional[str] = None, env: Optional[Mapping[str, str]] = None,
               timeout: Optional[float] = None, stdin: Stdin = None, run_id: Optional[str] = None) -> "Stream":
        """Run ``code`` and return its output as it comes; arguments are as for :meth:`run`.
        Use it in a ``with`` block: leaving that before the end cancels the run, unless
        ``run_id`` was given."""
        body, feed = _run_body(code, cwd, env, timeout, stdin, run_id)
        return Stream(Run(self, body["run_id"]), body=body, feed=feed, cancel=run_id is None)

    def start(self, code: str, *, cwd: Optional[str] = None, env: Optional[Mapping[str, str]] = None,
              timeout: Optional[float] = None, stdin: Union[None, bool, str] = None, run_id: Optional[str] = None) -> "Run":
        """Start ``code`` and return at once; arguments are as for :meth:`run`. The run goes on
        whether somebody reads it or not."""
        body, feed = _run_body(code, cwd, env, timeout, stdin, run_id)
        if feed is not None:
            raise ValueError("start with stdin=True and write() input of this size")
        body["detach"] = True
        try:
            self._request("POST", "run", body=body)
        except ConnectionFailed as e:
            if not e.sent:
                raise
            self._request("POST", "run", body=body)  # the same id: it is the same run
        return Run(self, body["run_id"])

    def get_run(self, run_id: str) -> "Run":
        """The run of that id. Nothing is asked: an unknown one shows when it is used."""
        return Run(self, run_id)

    def runs(self) -> List[RunInfo]:
        """The runs that are remembered, newest first."""
        return [_run_info(v) for v in self._request("GET", "run")["runs"]]

    def interrupt(self, run_id: Optional[str] = None, *, force: bool = False) -> None:
        """Interrupt what runs, as Ctrl-C does, or that run only; RunNotRunning where it does
        not. With ``force``: INT, after 1 s TERM, after 1 s more KILL. Returns when the
        interrupt is on its way."""
        body: Dict[str, Any] = {"force": force}
        _put(body, run_id=run_id)
        self._request("POST", "interrupt", body=body)

    def signal(self, signal: Signal, run_id: Optional[str] = None) -> None:
        """Send a signal, as ``signal.SIGTERM`` or ``"SIGTERM"``, to what the run started,
        never to the shell."""
        body: Dict[str, Any] = {"signal": signal if isinstance(signal, str) else _signals.Signals(signal).name}
        _put(body, run_id=run_id)
        self._request("POST", "signal", body=body)


def _put(body: Dict[str, Any], **fields: Any) -> None:
    body.update((k, v) for k, v in fields.items() if v is not None)


def _run_body(code: str, cwd: Optional[str], env: Optional[Mapping[str, str]], timeout: Optional[float],
              stdin: Stdin, run_id: Optional[str]) -> Tuple[Dict[str, Any], Optional[bytes]]:
    """The body of a run, and the input that is to be sent after it. JSON carries text only,
    and not too much of it."""
    feed: Optional[bytes] = None
    if isinstance(stdin, str):
        stdin = stdin.encode()
    if isinstance(stdin, bytes):
        try:
            text: Union[str, bool] = stdin.decode()
        except UnicodeDecodeError:
            text = True
        if text is True or len(stdin) > _INLINE_STDIN:
            text, feed = True, stdin
    else:
        text = bool(stdin)
    body: Dict[str, Any] = {"code": code, "run_id": uuid.uuid4().hex if run_id is None else run_id}
    _put(body, cwd=None if cwd is None else os.fspath(cwd), env=None if env is None else dict(env),
         stdin=text if text is not False else None)
    if timeout is not None:
        if not 0 <= timeout < math.inf:
            raise ValueError(f"timeout must be a number of seconds from 0 (as long as the server allows) on, not {timeout}")
        body["timeout_ms"] = math.ceil(timeout * 1000)
    return body, feed


class _Patience:
    """How long to go on trying: waits a little longer each time, until it has been too long."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self.reset()

    def reset(self) -> None:
        self._since: Optional[float] = None
        self._delay = 0.0

    def endure(self, cause: BaseException, last: Any) -> None:
        """Return when it is time to try again; raise what ``last`` makes when it no longer
        is, and ``cause`` itself where trying again cannot help."""
        if isinstance(cause, APIError) and cause.status not in (502, 503, 504):
            raise cause
        if isinstance(cause, ConnectionFailed) and not cause.sent and self._since is None:
            raise cause  # nothing has been reached yet
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now + self._delay - self._since > self._limit:
            raise last() from cause
        time.sleep(self._delay)
        self._delay = min(max(2 * self._delay, 0.02), 1.0)


class Run:
    """A run of a session, by its id."""

    def __init__(self, session: Session, run_id: str) -> None:
        self.session = session
        self.id = run_id

    def __repr__(self) -> str:
        return f"<tandem.Run {self.id} of {self.session.id}>"

    def _request(self, method: str, *parts: str, body: Optional[bytes] = None, query: str = "",
                 timeout: Optional[float] = None) -> Any:
        return self.session._request(method, "run", self.id, *parts, body=body, query=query, timeout=timeout)

    def info(self) -> RunInfo:
        """The run as it is now."""
        return _run_info(self._request("GET"))

    def wait(self, timeout: Optional[float] = None) -> RunInfo:
        """Wait for its end, at most ``timeout`` seconds (then WaitTimeout), and return it. A
        lost connection is made again. It does not count as reading the run."""
        until = math.inf if timeout is None else time.monotonic() + timeout
        patience = _Patience(self.session.client.reconnect)
        while True:
            ms = max(0, math.ceil(min(_WAIT, until - time.monotonic()) * 1000))
            try:
                info = _run_info(self._request("GET", query=f"?wait={ms}", timeout=self.session.client.timeout + ms / 1000))
            except (ConnectionFailed, ServerError) as e:
                patience.endure(e, lambda: ConnectionLost(f"run {self.id}: {e}", self.id, None))
                continue
            if info.finished:
                return info
            patience.reset()
            if time.monotonic() >= until:
                raise WaitTimeout(f"run {self.id} is {info.state} after {timeout} s")

    def output(self, after: Optional[int] = None, *, wait: float = 0.0) -> OutputPart:
        """What it has written from a position on, at most 8 MiB of it, counted from the end.
        With ``wait`` it is not answered before there is something, the run has ended, or that
        many seconds have passed."""
        query = f"?wait={math.ceil(wait * 1000)}" + ("" if after is None else f"&after={after}")
        v = self._request("GET", "output", query=query, timeout=self.session.client.timeout + wait)
        return OutputPart(v["state"], _exact(v, "stdout"), _exact(v, "stderr"), v["next"], bool(v["truncated"]))

    def follow(self, after: Optional[int] = None) -> "Stream":
        """Its output from a position on, or from the start, and then as it comes. Leaving this
        stream early does not cancel the run."""
        return Stream(self, after=after)

    def result(self) -> Result:
        """Wait for its end and return all of it that is kept."""
        with self.follow() as stream:
            return stream.collect()

    def write(self, data: Union[str, bytes]) -> None:
        """Write to its stdin, which must be open (``stdin=True``). Returns when the server has
        all of it, which holds up to 2 MiB that the run has not read yet: it blocks for as long
        as the run does not read. Of a write that fails with ConnectionFailed, some may have
        arrived."""
        _Feeder(self, data.encode() if isinstance(data, str) else data, close=False).send()

    def close_stdin(self) -> None:
        """End its input."""
        self._request("POST", "stdin", body=b"", query="?close=1")

    def interrupt(self, *, force: bool = False) -> None:
        """:meth:`Session.interrupt` for this run."""
        self.session.interrupt(self.id, force=force)

    def signal(self, signal: Signal) -> None:
        """:meth:`Session.signal` for this run."""
        self.session.signal(signal, self.id)

    def cancel(self) -> None:
        """Take it out of the queue, or end it if it runs: INT, then TERM, then KILL."""
        self._request("DELETE")


class _Feeder:
    """Writes input to a run. ``send`` may be given up by ``stop`` from another thread."""

    def __init__(self, run: Run, data: bytes, close: bool) -> None:
        self._run, self._data = run, data
        self._path = _path("session", run.session.id, "run", run.id, "stdin") + ("?close=1" if close else "")
        self._lock = threading.Lock()
        self._conn: Optional[http.client.HTTPConnection] = None
        self._stopped = False
        self._thread: Optional[threading.Thread] = None
        self.error: Optional[TandemError] = None

    def send(self) -> None:
        t = self._run.session.client._transport
        conn = t.new()
        with self._lock:
            if self._stopped:
                conn.close()
                return
            self._conn = conn
        answer = t.exchange(conn, "POST", self._path, self._data, {"Content-Type": "application/octet-stream"}, None)
        t.read(answer)

    def start(self) -> None:
        """Send in a thread, for which ``join`` waits."""
        self._thread = threading.Thread(target=self._work, name="tandem stdin", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self.send()
        except (RunNotRunning, RunNotFound, NoStdin):
            pass  # it ended without reading all of it, as "head" does
        except TandemError as e:
            if not self._stopped:
                self.error = e
                _quietly(self._run.cancel)  # it would wait for the rest for ever

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            sock = self._conn.sock if self._conn is not None else None
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.join()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()


def _quietly(f: Any) -> None:
    try:
        f()
    except TandemError:
        pass


class Stream:
    """The output of a run as it comes: iterate over it for :class:`Output` and, where
    something is no longer kept, :class:`Gap`. When the iteration ends, ``end`` says how the
    run did. ``run`` is the run itself, for its input and for ending it, from any thread.

    A broken connection is taken up again at ``position``, unseen. A reader that is slow slows
    the run down; after 10 s in which nothing is taken the server lets the run go on without
    it, and it goes on from what is kept.
    """

    def __init__(self, run: Run, *, body: Optional[Mapping[str, Any]] = None, feed: Optional[bytes] = None,
                 cancel: bool = False, after: Optional[int] = None) -> None:
        self.run = run
        self.end: Optional[End] = None
        self.position = after  # everything below it was handed out or is in _ready
        self._body = body      # asks for the run; None once it is known to be there
        self._cancel = cancel
        self._feeder = None if feed is None else _Feeder(run, feed, close=True)
        self._fed = False
        self._ready: Deque[Union[Output, Gap]] = collections.deque()
        self._parser = SSEParser()
        self._answer: Optional[_Answer] = None
        self._patience = _Patience(run.session.client.reconnect)
        self._opened = 0.0
        self._closed = False
        self._connect()

    def __iter__(self) -> Iterator[Union[Output, Gap]]:
        return self

    def __next__(self) -> Union[Output, Gap]:
        while not self._ready:
            if self.end is not None or self._closed:
                self._settle()
                raise StopIteration
            self._read()
        return self._ready.popleft()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the run, and cancel it if it has not ended, is not detached and its
        ``run_id`` was chosen by this module."""
        if self._closed:
            return
        self._closed = True
        if self.end is None and self._cancel:
            _quietly(lambda: self.run._request("DELETE", timeout=min(5.0, self.run.session.client.timeout)))
        if self._answer is not None:
            self._answer.close()
            self._answer = None
        if self._feeder is not None:
            self._feeder.stop()

    def collect(self) -> Result:
        """Take all that is left and return it with the end."""
        kept: Dict[str, List[bytes]] = {"stdout": [], "stderr": []}
        truncated = False
        for out in self:
            if isinstance(out, Output):
                kept[out.stream].append(out.data)
            else:
                truncated = True
        if self.end is None:
            raise ValueError("the stream was closed before its end")
        return Result(**dataclasses.asdict(self.end), stdout=b"".join(kept["stdout"]),
                      stderr=b"".join(kept["stderr"]), truncated=truncated)

    def _settle(self) -> None:
        """Wait for the feeder, and raise what it failed with."""
        feeder = self._feeder
        if feeder is not None and self._fed:
            feeder.join()
            self._feeder = None
            if feeder.error is not None:
                raise ConnectionLost(f"the input of run {self.run.id} was cut: {feeder.error}", self.run.id, self.position) from feeder.error

    def _connect(self) -> None:
        """Ask for the stream, again and again as far as that makes sense."""
        while True:
            try:
                self._open()
                return
            except (ConnectionFailed, ServerError) as e:
                self._patience.endure(e, lambda: self._lost(e))

    def _open(self) -> None:
        session = self.run.session
        t = session.client._transport
        headers = {"Accept": "text/event-stream"}
        if self._body is not None:
            headers["Content-Type"] = "application/json"
            answer = t.ask("POST", _path("session", session.id, "run"), json.dumps(self._body).encode(), headers,
                           session.client.timeout, True)
        else:
            query = "" if self.position is None else f"?after={self.position}"
            answer = t.ask("GET", _path("session", session.id, "run", self.run.id, "output") + query, None, headers,
                           session.client.timeout, True)
        if not answer.header("Content-Type").startswith("text/event-stream"):
            answer.close()
            raise ProtocolError(f"{session.client.url} answers no event stream: is it a tandem?")
        answer.patience(_SILENCE)
        self._answer, self._parser, self._opened = answer, SSEParser(), time.monotonic()

    def _lost(self, cause: BaseException) -> ConnectionLost:
        return ConnectionLost(f"lost the stream of run {self.run.id}: {cause}", self.run.id, self.position)

    def _read(self) -> None:
        """Take what has come. Returns without anything where the connection was made anew."""
        assert self._answer is not None
        try:
            piece = self._answer.piece()
            if not piece:
                raise EOFError("it ended before the run did")
        except (OSError, EOFError, http.client.HTTPException) as e:
            self._answer.close()
            if time.monotonic() - self._opened > _SILENCE / 2:
                self._patience.reset()
            self._patience.endure(ConnectionFailed(str(e) or type(e).__name__, True), lambda: self._lost(e))
            self._connect()
            return
        for event in self._parser.feed(piece):
            try:
                self._take(event)
            except (ValueError, LookupError, TypeError, AttributeError) as e:
                raise ProtocolError(f"cannot read event {event.data[:200]!r}: {e}") from e
            if self.end is not None:
                self._answer.finish()
                self._answer = None
                return

    def _take(self, event: ServerSentEvent) -> None:
        v = _JSON.decode(event.data.decode())
        kind, position = v["type"], int(event.id)
        if kind == "stdout" or kind == "stderr":
            if self.position is not None and position <= self.position:
                return
            exact = v.get("base64")
            data = v["text"].encode() if exact is None else base64.b64decode(exact)
            if v.get("newline", True):
                data += b"\n"
            self.position = position
            self._ready.append(Output(kind, data, position))
            self._patience.reset()
        elif kind == "init":
            self._body = None
            self.position = position if self.position is None else max(position, self.position)
            if self._feeder is not None and not self._fed:
                self._fed = True
                self._feeder.start()
        elif kind == "gap":
            self.position = max(position, self.position or 0)
            self._ready.append(Gap(int(v["from"]), int(v["to"])))
        elif kind == "execution_complete":
            self.end = End(self.run.id, int(v["exit_code"]), "exited", "exit status 0")
        elif kind == "error":
            self.end = _error_end(self.run.id, v["error"])
