package httpapi

import (
	"cmp"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
)

const requestIDHeader = "X-Request-Id"

// identify gives every request an id and every answer the same one: the client's own, if
// it is fit to stand in a header and a log, or a new one.
func (a *api) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(requestIDHeader)
		if !sane(id) {
			id = rand.Text()
		}
		w.Header().Set(requestIDHeader, id)
		next.ServeHTTP(w, r)
	})
}

// sane reports whether s is an id of at most 128 harmless characters.
func sane(s string) bool {
	harmless := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-", c)
	}
	return s != "" && len(s) <= 128 && strings.IndexFunc(s, func(c rune) bool { return !harmless(c) }) < 0
}

// The parameters of the routes that are in a request's line in the log, as session_id and
// run_id.
const (
	sessionParam = "id"
	runParam     = "run_id"
)

// isAbout puts into the line in the log what a request turned out to be about, where its path
// does not say so. It is for the request's own goroutine.
func isAbout(r *http.Request, param, id string) {
	chi.RouteContext(r.Context()).URLParams.Add(param, id)
}

// logRequests writes one line for each request when it has been answered: for a stream or
// a WebSocket that is at its end. The route stands for the path, and the query, the
// headers and the bodies are left out, so that no code and no token is ever in it.
func (a *api) logRequests(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, seen := time.Now(), &recorder{ResponseWriter: w}
		defer func() {
			failure := recover()
			under := seen.status != 0
			if failure != nil && failure != http.ErrAbortHandler {
				a.logger.Error("handler panicked", "request_id", w.Header().Get(requestIDHeader), "panic", failure, "stack", string(debug.Stack()))
				if !under {
					a.fail(seen, r, errPanicked)
				}
			}
			a.answered(boundedMethod(r.Method), routeOf(r, "none"), seen.answer())
			a.logger.LogAttrs(r.Context(), slog.LevelInfo, "request", seen.attrs(r, time.Since(start))...)
			if failure != nil && under {
				panic(http.ErrAbortHandler) // net/http breaks the connection off: the answer is not whole
			}
		}()
		next.ServeHTTP(seen, r)
	})
}

var errPanicked = errors.New("handler panicked")

// A recorder remembers what was answered. Unwrap keeps flushing, deadlines and hijacking
// working through it.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// answer is the status that was answered, which is 200 where nobody has said another.
func (w *recorder) answer() int { return cmp.Or(w.status, http.StatusOK) }

// routeOf is the pattern of the request's route, or none where it has come to no route.
func routeOf(r *http.Request, none string) string {
	return cmp.Or(chi.RouteContext(r.Context()).RoutePattern(), none)
}

// boundedMethod is the method where it is one that some route takes or a browser asks with.
func boundedMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

func (w *recorder) attrs(r *http.Request, took time.Duration) []slog.Attr {
	route := chi.RouteContext(r.Context())
	attrs := append(make([]slog.Attr, 0, 8),
		slog.String("method", r.Method), slog.String("route", routeOf(r, "(none)")), slog.Int("status", w.answer()),
		slog.Duration("duration", took), slog.Int64("bytes", w.bytes),
		slog.String("request_id", w.Header().Get(requestIDHeader)))
	if id := route.URLParam(sessionParam); sane(id) {
		attrs = append(attrs, slog.String("session_id", id))
	}
	if id := route.URLParam(runParam); sane(id) {
		attrs = append(attrs, slog.String("run_id", id))
	}
	return attrs
}
