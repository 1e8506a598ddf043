package ws

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"tandem/sessions"
)

// The subprotocols. Who asks for none gets ProtocolJSON.
const (
	ProtocolBinary = "tandem.v1"      // output in binary frames, everything else in text frames
	ProtocolJSON   = "tandem.v1.json" // everything in text frames
)

// What a client may send. The one at the end belongs to terminal sessions, which this
// server does not have.
const (
	typeRun        = "run"
	typeStdin      = "stdin"
	typeStdinClose = "stdin.close"
	typeInterrupt  = "interrupt"
	typeSignal     = "signal"
	typeCancel     = "cancel"
	typeAck        = "ack"
	typePing       = "ping"
	typeComplete   = "complete"
	typeResize     = "resize"
)

// What the server sends; [Message.Type] is one of these.
const (
	TypeAttached       = "attached"
	TypeRunQueued      = "run.queued"
	TypeRunStarted     = "run.started"
	TypeRunFinished    = "run.finished"
	TypeStdout         = "stdout"
	TypeStderr         = "stderr"
	TypeTerminal       = "terminal"
	TypeStdinAck       = "stdin.ack"
	TypeCompletions    = "completions"
	TypeShellRestarted = "shell.restarted"
	TypeGap            = "gap"
	TypeOK             = "ok"
	TypeError          = "error"
	TypePong           = "pong"
	TypeSessionClosed  = "session.closed"
)

// The roles a connection can have.
const (
	roleControl = "control"
	roleView    = "view"
)

// The error codes that do not stand for an error of the engine.
const (
	codeInvalid     = "INVALID_REQUEST_BODY"
	codeForbidden   = "FORBIDDEN"
	codeUnknownType = "UNKNOWN_TYPE"
	codeRuntime     = "RUNTIME_ERROR"
)

const (
	// DefaultMaxMessage is the largest message taken from a client: a run's code of the largest
	// size, each byte of it escaped with a backslash as quotes and newlines are, and its
	// other fields. A larger one closes the connection with 1009.
	DefaultMaxMessage = 2*sessions.MaxCode + 1<<20

	// outputHeader is the length of what precedes the bytes in a binary output frame: the
	// channel, the position, the number of the run.
	outputHeader = 1 + 8 + 4

	// maxCompletions is how many completions a connection may wait for.
	maxCompletions = 4

	// stdinChannel is the first byte of a client's binary frame.
	stdinChannel = 0
)

// A fault is a failure as the client reads it.
type fault struct {
	status  int // before the upgrade
	code    string
	message string
}

func (f *fault) Error() string { return f.message }

func invalid(format string, args ...any) *fault {
	return &fault{http.StatusBadRequest, codeInvalid, fmt.Sprintf(format, args...)}
}

func forbidden() *fault {
	return &fault{http.StatusForbidden, codeForbidden, "this connection has role=view: it may send ping and ack, nothing else"}
}

// faultOf is the one translation of errors on this transport. Only the message of a
// [sessions.Error] or of a fault is meant for a client; any other error is told as
// RUNTIME_ERROR without its text, and known is false: it is for the log.
func faultOf(err error) (f *fault, known bool) {
	if errors.As(err, &f) {
		return f, true
	}
	var e *sessions.Error
	if !errors.As(err, &e) {
		return &fault{http.StatusInternalServerError, codeRuntime, "internal error"}, false
	}
	f = &fault{http.StatusInternalServerError, codeRuntime, e.Message}
	switch e.Kind {
	case sessions.ErrInvalid:
		f.status, f.code = http.StatusBadRequest, codeInvalid
	case sessions.ErrTooLarge:
		f.status, f.code = http.StatusRequestEntityTooLarge, "TOO_LARGE"
	case sessions.ErrSessionNotFound, sessions.ErrClosed:
		f.status, f.code = http.StatusNotFound, "CONTEXT_NOT_FOUND"
	case sessions.ErrRunNotFound:
		f.status, f.code = http.StatusNotFound, "RUN_NOT_FOUND"
	case sessions.ErrRunNotRunning:
		f.status, f.code = http.StatusConflict, "RUN_NOT_RUNNING"
	case sessions.ErrRunExists:
		f.status, f.code = http.StatusConflict, "RUN_EXISTS"
	case sessions.ErrBusy:
		f.status, f.code = http.StatusConflict, "BUSY"
	case sessions.ErrQueueFull:
		f.status, f.code = http.StatusConflict, "QUEUE_FULL"
	case sessions.ErrNoStdin:
		f.status, f.code = http.StatusConflict, "NO_STDIN"
	case sessions.ErrTooMany:
		f.status, f.code = http.StatusTooManyRequests, "TOO_MANY"
	}
	return f, true
}

// The close codes of our own.
const (
	CloseSessionClosed websocket.StatusCode = 4000
	CloseStalled       websocket.StatusCode = 4008
)

// Why a connection ends, where it is neither the peer's doing nor the journal's.
var (
	errStopping = errors.New("server stopping")
	errRevoked  = errors.New("token revoked")
	errNotUTF8  = errors.New("text frame is not UTF-8")
	errDead     = errors.New("peer does not answer")
	errWrite    = errors.New("write to peer failed")
)

// closeOf is the one table of close codes. The reason is a constant: a close frame has
// room for 123 bytes.
func closeOf(cause error) (websocket.StatusCode, string) {
	switch {
	case errors.Is(cause, sessions.ErrClosed):
		return CloseSessionClosed, "session closed"
	case errors.Is(cause, sessions.ErrStalled):
		return CloseStalled, "stalled reader: reconnect with after"
	case errors.Is(cause, errStopping):
		return websocket.StatusServiceRestart, "server restarting: reconnect with after"
	case errors.Is(cause, errRevoked):
		return websocket.StatusPolicyViolation, "the token was taken back"
	case errors.Is(cause, errNotUTF8):
		return websocket.StatusInvalidFramePayloadData, "text frame is not UTF-8"
	case errors.Is(cause, websocket.ErrMessageTooBig):
		return websocket.StatusMessageTooBig, "message too big"
	case errors.Is(cause, errDead):
		return websocket.StatusGoingAway, "no answer to pings"
	}
	return websocket.StatusInternalError, "connection lost"
}

// A request is a client's message, decoded and checked as far as the wire goes. What its
// values mean is for the engine to judge.
type request struct {
	Type string
	Ref  *string // nil: none given

	RunID   string
	Code    string
	Cwd     string
	Env     map[string]string
	Timeout time.Duration
	Stdin   sessions.Stdin
	Text    string // the run's when Stdin is TextStdin
	Input   []byte // stdin's
	Offset  *uint64
	Force   bool
	Signal  string
	Pos     uint64
	Line    string
	Point   int // in characters
}

// decodeRequest decodes a text frame. It fails with a fault, and the request then has the
// type and the ref as far as they could be read. Fields a type does not know are ignored.
func decodeRequest(data []byte) (request, error) {
	var req request
	f := fields{}
	if err := json.Unmarshal(data, &f.raw); err != nil || f.raw == nil {
		return req, invalid("a message is a JSON object, like {\"type\":\"ping\"}")
	}
	if f.take("ref", "a string", &req.Ref); f.err != nil {
		req.Ref = nil // what could not be read is not to be repeated as ""
	}
	f.take("type", "a string", &req.Type)
	if f.err == nil && req.Type == "" {
		f.fail("type is missing")
	}
	if f.err != nil {
		return req, f.err
	}
	switch req.Type {
	case typeRun:
		f.run(&req)
	case typeStdin:
		f.stdin(&req)
	case typeStdinClose:
		f.take("run_id", "a string", &req.RunID)
	case typeInterrupt:
		f.take("run_id", "a string", &req.RunID)
		f.take("force", "true or false", &req.Force)
	case typeSignal:
		f.take("run_id", "a string", &req.RunID)
		f.need("signal", `a string like "SIGTERM"`, &req.Signal)
	case typeCancel:
		f.need("run_id", "a string", &req.RunID)
	case typeAck:
		f.need("pos", "a position, a whole number from 0", &req.Pos)
	case typeComplete:
		f.need("line", "a string", &req.Line)
		req.Point = utf8.RuneCountInString(req.Line)
		f.take("point", "a place in line, a whole number of characters from 0", &req.Point)
	case typePing:
	case typeResize:
		f.refuse("resize is for terminal sessions, which this server does not have")
	default:
		f.refuse("unknown type %.40q: send run, stdin, stdin.close, interrupt, signal, cancel, complete, ack or ping", req.Type)
	}
	if f.err != nil {
		return req, f.err
	}
	return req, nil
}

// fields are the fields of a message, and the first thing found wrong with them. They are
// looked at one by one, so that one a type does not have can have any value.
type fields struct {
	raw map[string]json.RawMessage
	err *fault
}

func (f *fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = invalid(format, args...)
	}
}

func (f *fields) refuse(format string, args ...any) {
	f.fail(format, args...)
	f.err.code = codeUnknownType
}

// has reports whether a field is there. null is as good as absent.
func (f *fields) has(name string) bool {
	v, ok := f.raw[name]
	return ok && string(v) != "null"
}

// take decodes a field into dst and reports whether it was there.
func (f *fields) take(name, want string, dst any) bool {
	if !f.has(name) {
		return false
	}
	if json.Unmarshal(f.raw[name], dst) != nil {
		f.fail("%s must be %s", name, want)
	}
	return true
}

func (f *fields) need(name, want string, dst any) {
	if !f.take(name, want, dst) {
		f.fail("%s is missing: it is %s", name, want)
	}
}

func (f *fields) run(req *request) {
	var ms int64
	f.need("code", "a string", &req.Code)
	f.take("cwd", "a string", &req.Cwd)
	f.take("env", "an object of strings", &req.Env)
	f.take("timeout_ms", "a whole number of milliseconds", &ms)
	f.take("run_id", "a string", &req.RunID)
	// More milliseconds than a Duration holds are as good as the most it holds.
	const most = int64(1<<63-1) / int64(time.Millisecond)
	req.Timeout = time.Duration(min(max(ms, -most), most)) * time.Millisecond
	if v := f.raw["stdin"]; len(v) > 0 && v[0] == '"' {
		req.Stdin = sessions.TextStdin
		f.take("stdin", "a string", &req.Text)
		return
	}
	var open bool
	if f.take("stdin", "true, false or a string", &open); open {
		req.Stdin = sessions.OpenStdin
	}
}

func (f *fields) stdin(req *request) {
	f.take("run_id", "a string", &req.RunID)
	f.take("offset", "how many bytes of the run's input come before, a whole number from 0", &req.Offset)
	if req.Offset != nil && req.RunID == "" {
		f.fail("run_id is missing: an offset is one in the input of the run it names")
	}
	var text string
	switch {
	case !f.has("base64"):
		f.need("text", "a string; or base64, bytes in base64", &text)
		req.Input = []byte(text)
	case f.has("text"):
		f.fail("text and base64 are both there: send one of them")
	default:
		// As a string first: an array of numbers would be taken for bytes too.
		f.take("base64", "bytes in base64", &text)
		var err error
		if req.Input, err = base64.StdEncoding.DecodeString(text); err != nil {
			f.fail("base64 must be bytes in base64")
		}
	}
}

// decodeStdin takes the bytes out of a client's binary frame.
func decodeStdin(data []byte) ([]byte, error) {
	if len(data) == 0 || data[0] != stdinChannel {
		return nil, invalid("a binary frame is one byte 0 and then bytes for stdin")
	}
	return data[1:], nil
}
