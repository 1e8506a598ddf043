package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"tandem/sessions"
)

// The codes an error answer can carry.
const (
	codeInvalid       = "INVALID_REQUEST_BODY"
	codeUnauthorized  = "UNAUTHORIZED"
	codeForbidden     = "FORBIDDEN"
	codeNotFound      = "CONTEXT_NOT_FOUND"
	codeRunNotFound   = "RUN_NOT_FOUND"
	codeRunNotRunning = "RUN_NOT_RUNNING"
	codeRunExists     = "RUN_EXISTS"
	codeQueueFull     = "QUEUE_FULL"
	codeNoStdin       = "NO_STDIN"
	codeTooLarge      = "TOO_LARGE"
	codeTooMany       = "TOO_MANY"
	codeRuntime       = "RUNTIME_ERROR"
)

const (
	// drainLimit and drainTime bound what is still read of a body that was refused, so that
	// a client which sends first and reads later sees the answer and not a reset.
	drainLimit = 256 << 20
	drainTime  = 5 * time.Second

	// writePiece is how much of an answer is written under one deadline.
	writePiece = 256 << 10
)

// statusGone is what the log shows for a client that left before its answer, which nobody
// sees otherwise.
const statusGone = 499

// A refusal is an answer this package gives by itself, without asking the engine.
type refusal struct {
	status  int
	code    string
	message string
}

func (e *refusal) Error() string { return e.message }

func refuse(status int, code, format string, args ...any) error {
	return &refusal{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error {
	return refuse(http.StatusBadRequest, codeInvalid, format, args...)
}

// classify is the one table from errors to answers. The message is for the client: what
// is no refusal and nothing the engine meant to be read is told as an internal error.
func classify(err error) *refusal {
	if own, ok := errors.AsType[*refusal](err); ok {
		return own
	}
	message := err.Error()
	if engine, ok := errors.AsType[*sessions.Error](err); ok {
		message = engine.Message
	}
	for _, row := range []struct {
		kind   error
		status int
		code   string
	}{
		{sessions.ErrInvalid, http.StatusBadRequest, codeInvalid},
		{sessions.ErrTooLarge, http.StatusRequestEntityTooLarge, codeTooLarge},
		{sessions.ErrSessionNotFound, http.StatusNotFound, codeNotFound},
		{sessions.ErrClosed, http.StatusNotFound, codeNotFound},
		{sessions.ErrRunNotFound, http.StatusNotFound, codeRunNotFound},
		{sessions.ErrRunNotRunning, http.StatusConflict, codeRunNotRunning},
		{sessions.ErrRunExists, http.StatusConflict, codeRunExists},
		{sessions.ErrQueueFull, http.StatusConflict, codeQueueFull},
		{sessions.ErrNoStdin, http.StatusConflict, codeNoStdin},
		{sessions.ErrTooMany, http.StatusTooManyRequests, codeTooMany},
		{sessions.ErrRuntime, http.StatusInternalServerError, codeRuntime},
		{context.Canceled, statusGone, codeRuntime},
	} {
		if errors.Is(err, row.kind) {
			return &refusal{row.status, row.code, message}
		}
	}
	return &refusal{http.StatusInternalServerError, codeRuntime, "something went wrong inside the server; its log has the request id"}
}

// errGone says that an answer under way could not be brought to its end: its client has
// left or cannot be written to, and there is nothing more to answer.
var errGone = errors.New("client gone")

// handle makes a handler of f. What f returns is answered, unless an answer is under way.
func (a *api) handle(f func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := f(w, r)
		if errors.Is(err, context.Canceled) && !errors.Is(err, errGone) {
			err = gaveUp()
			if !a.ready() {
				err = stopping() // it was not the client that did
			}
		}
		if err != nil && !errors.Is(err, errGone) {
			a.fail(w, r, err)
		}
	}
}

// gaveUp is for a client that is gone, or has only closed its side of the connection: the two
// look the same from here.
func gaveUp() error {
	return invalid("the connection was closed from the client's side before the answer was there: keep both directions open")
}

func stopping() error {
	return refuse(http.StatusServiceUnavailable, codeRuntime, "the server is stopping: ask again once it is back")
}

// fail answers err as JSON. An error without a row in the table is logged here, once.
func (a *api) fail(w http.ResponseWriter, r *http.Request, err error) {
	ref := classify(err)
	if ref.status == http.StatusInternalServerError {
		a.logger.Error("request failed", "request_id", w.Header().Get(requestIDHeader), "error", err)
	}
	if ref.status == http.StatusRequestEntityTooLarge {
		w.Header().Set("Connection", "close")
	}
	answer := struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}{ref.code, ref.message}
	if err := a.writeJSON(w, ref.status, answer); err == nil && ref.status != http.StatusRequestTimeout {
		a.drain(w, r)
	}
}

// drain reads on where a refused body has not been read to its end, within bounds.
func (a *api) drain(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength == 0 || r.Body == nil || r.Header.Get("Expect") != "" {
		return
	}
	rc := http.NewResponseController(w)
	if rc.Flush() != nil || rc.SetReadDeadline(time.Now().Add(min(drainTime, a.bodyTimeout))) != nil {
		return
	}
	// Failing is fine: whatever stays unread makes the server close the connection.
	_, _ = io.CopyN(io.Discard, r.Body, drainLimit)
}

// writeJSON answers v and a newline.
func (a *api) writeJSON(w http.ResponseWriter, status int, v any) error {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", fmt.Sprint(body.Len()))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	out := a.newOutlet(w)
	for body.Len() > 0 {
		if err := out.write(body.Next(writePiece)); err != nil {
			return err
		}
	}
	return nil
}

// An outlet writes to one client, each write under a deadline that is set then or was less than a
// second before: limit is much longer than that. The last deadline stays, for what the server
// sends when the handler has returned: see bound.
type outlet struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	limit time.Duration
	set   time.Time // when the deadline was set
}

func (a *api) newOutlet(w http.ResponseWriter) *outlet {
	return &outlet{w: w, rc: http.NewResponseController(w), limit: a.writeLimit}
}

// write sends p. It fails with errGone, and with the cause beside it.
func (o *outlet) write(p []byte) error {
	o.setDeadline()
	if _, err := o.w.Write(p); err != nil {
		return fmt.Errorf("%w: write answer: %w", errGone, err)
	}
	return nil
}

// setDeadline gives what is sent now the whole time, to a second.
func (o *outlet) setDeadline() {
	now := time.Now()
	if now.Sub(o.set) < time.Second {
		return
	}
	o.set = now
	_ = o.rc.SetWriteDeadline(now.Add(o.limit)) // a writer without deadlines is one of a test, and does not block
}

// flush hands what was written to the network.
func (o *outlet) flush() error {
	o.setDeadline()
	if err := o.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("%w: flush answer: %w", errGone, err)
	}
	return nil
}

// bound gives a body only so much time to arrive, whether a handler reads it or not. The
// server sets the next deadline for reading itself, with the next request; that for writing
// may be left over from the last answer on the connection.
func (a *api) bound(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.SetWriteDeadline(time.Time{})
		if r.ContentLength != 0 {
			_ = rc.SetReadDeadline(time.Now().Add(a.bodyTimeout))
		}
		next.ServeHTTP(w, r)
	})
}

// unboundBody takes the limit off again: for a body that is a stream, or once it is there.
func unboundBody(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
}

// readJSON decodes the body, one JSON object of a bounded length, into v, which points to a
// struct. Fields that v does not have are ignored. An empty body leaves v as it is where optional says
// so; Content-Type is not looked at.
func (a *api) readJSON(w http.ResponseWriter, r *http.Request, v any, optional bool) error {
	body, err := a.readBody(w, r)
	if err != nil {
		return err
	}
	return decodeJSON(body, v, optional)
}

// readBody reads a body of a bounded length, which it is the end of the time limit for.
func (a *api) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > a.maxBody {
		return nil, a.tooLarge()
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, a.maxBody+1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.Header().Set("Connection", "close")
		return nil, refuse(http.StatusRequestTimeout, codeInvalid, "the body was not there within %v: send it at once", a.bodyTimeout)
	}
	if err != nil {
		return nil, invalid("the body could not be read to its end")
	}
	if int64(len(body)) > a.maxBody {
		return nil, a.tooLarge()
	}
	unboundBody(w)
	return body, nil
}

func (a *api) tooLarge() error {
	return refuse(http.StatusRequestEntityTooLarge, codeTooLarge, "the body is longer than %d bytes", a.maxBody)
}

func decodeJSON(body []byte, v any, optional bool) error {
	body = bytes.TrimSpace(body)
	switch {
	case len(body) == 0 && optional:
		return nil
	case len(body) == 0:
		return invalid("the body is empty; it must be a JSON object")
	case !utf8.Valid(body):
		return invalid("the body is not valid UTF-8")
	case body[0] != '{':
		return invalid("the body must be a JSON object")
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(body, &raw); err != nil {
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return invalid("the body is not one JSON object: %v at byte %d", syntax, syntax.Offset)
		}
		return invalid("the body is not one JSON object")
	}
	return decodeFields(raw, reflect.ValueOf(v).Elem())
}

// decodeFields gives each field of into, a struct, what raw has by exactly its name. The json
// package alone would take a name in any case, and of two of them the later one.
func decodeFields(raw map[string]json.RawMessage, into reflect.Value) error {
	left := len(raw)
	for i := 0; i < into.NumField() && left > 0; i++ {
		name := into.Type().Field(i).Tag.Get("json")
		value, ok := raw[name]
		if !ok {
			continue
		}
		left--
		err := json.Unmarshal(value, into.Field(i).Addr().Interface())
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return invalid("the field %q must be %s, not a JSON %s", name+wrongKey(value, into.Field(i)), jsonName(wrong.Type), wrong.Value)
		}
		if err != nil {
			return err // the field's own refusal
		}
	}
	return nil
}

// wrongKey is the first key, behind a dot, whose value in an object of strings is none; "" where
// value is no such object at all, or field is for something else.
func wrongKey(value json.RawMessage, field reflect.Value) string {
	var raw map[string]json.RawMessage
	if field.Kind() != reflect.Map || json.Unmarshal(value, &raw) != nil {
		return ""
	}
	for _, key := range slices.Sorted(maps.Keys(raw)) {
		if json.Unmarshal(raw[key], new(string)) != nil {
			return "." + key
		}
	}
	return ""
}

// jsonName says what a Go type is called in JSON.
func jsonName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int64:
		return "a whole number"
	default:
		return "an object of strings"
	}
}

// listed reports whether one of the header's comma-separated values is want, parameters
// aside.
func listed(h http.Header, key, want string) bool {
	for _, line := range h.Values(key) {
		for value := range strings.SplitSeq(line, ",") {
			value, _, _ = strings.Cut(value, ";")
			if strings.EqualFold(strings.TrimSpace(value), want) {
				return true
			}
		}
	}
	return false
}
