// Package httpapi is the REST door to the sessions: it decodes requests, calls package
// sessions and encodes what it answers. It knows HTTP and JSON and nothing of what a run
// or a session is; the WebSocket door is a handler it mounts and knows nothing about.
//
// Every handler is a method that returns an error. The one table in respond.go turns that
// into a status and {"code","message"}. Everything passes the middlewares in [New], in
// that order: a request id and one log line for each request, then the token, Origin and
// Host, then whether the server takes requests at all, then the routes.
//
// Two kinds of answer are streams, and both are server-sent events whose id is the journal
// position after the event: a run (sse.go encodes it line by line, follow.go follows it)
// and the journal of a session (events.go). A recording (recording.go, which asciicast.go
// encodes) is what the journal has when it is asked for, and ends there. A stream belongs to
// its handler's goroutine alone; there is no other. Each write has a deadline, so that a
// client which stopped reading holds nothing for longer than that. The same goroutine waits
// for a client that went away and may come back to the run (absent.go).
package httpapi

import (
	"cmp"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"tandem/sessions"
)

// Config is what the door is built from. Sessions and Messages are required.
type Config struct {
	Sessions *sessions.Manager
	Messages func() EntryEncoder // makes one for each stream of a journal

	Tokens       *Tokens  // nil: no token is asked for, and Host is checked instead
	AllowHosts   []string // names beside the loopback ones, with a port or for any port
	AllowOrigins []string // foreign origins that may call: see CheckOriginPattern

	// What a refused Host or Origin is told beside that, in the words of the program that serves:
	// how it would be let in. "": nothing.
	HostAdvice, OriginAdvice string

	MaxBody     int64         // bytes of a JSON body; default 32 MiB
	BodyTimeout time.Duration // how long a JSON body may take to arrive; default 30 s

	StallTimeout time.Duration // how long the engine waits for a reader; default 10 s
	Ready        func() bool   // what /readyz asks; while false only probes are answered; nil: always ready
	Logger       *slog.Logger  // one line for each request; nil: discards

	Root      http.Handler // serves /, /docs and the pages' assets; nil: 404
	WebSocket http.Handler // serves /ws and /session/{id}/ws; nil: 404
	Metrics   http.Handler // serves /metrics; nil: 404

	// Answered is told of every request that has been answered: its method, or "other"; its
	// route as New has it, or "none"; and the status. nil: nobody is.
	Answered func(method, route string, status int)
	AsyncAPI string // the document that describes WebSocket; "": 404
}

// Defaults of a [Config].
const (
	// DefaultMaxBody is room for the most code there can be, every byte of it written as an
	// escape of two.
	DefaultMaxBody = 2 * sessions.MaxCode

	DefaultBodyTimeout = 30 * time.Second
)

// api is what the handlers share. Nothing in it but the first two changes after New.
type api struct {
	beat     metronome
	audience audience
	sessions *sessions.Manager
	messages func() EntryEncoder
	ready    func() bool
	logger   *slog.Logger
	answered func(method, route string, status int)

	// writeLimit is the longest that one write to a client may take. It is longer than the
	// engine's own limit, so that by the time a write fails the engine has cut the reader
	// off if it was behind.
	writeLimit time.Duration

	absence time.Duration // how long the place of a client is kept that went away

	maxBody     int64
	bodyTimeout time.Duration
}

// New returns the handler of all routes. It starts nothing and needs no closing: streams
// end when their client goes away or when the sessions they follow end.
func New(cfg Config) http.Handler {
	a := newAPI(cfg)
	g := newGate(cfg, a)
	r := chi.NewRouter()
	r.Use(a.identify, a.logRequests, a.bound, g.admit, a.whileReady, middleware.GetHead)
	r.NotFound(a.handle(noSuchPath))
	r.MethodNotAllowed(a.handle(methodNotAllowed))

	r.Get("/healthz", a.handle(a.alive))
	r.Get("/ping", a.handle(a.alive))
	r.Get("/readyz", a.handle(a.readiness))

	r.Get("/openapi.json", a.handle(a.describe(openAPI)))
	if cfg.AsyncAPI != "" {
		r.Get("/asyncapi.json", a.handle(a.describe(cfg.AsyncAPI)))
	}

	r.Post("/session", a.handle(a.createSession))
	r.Get("/session", a.handle(a.listSessions))
	r.Delete("/command", a.handle(a.interruptCommand))
	// No sub-router: chi would then take every method of its own path for one that exists.
	r.Get("/session/{id}", a.handle(a.getSession))
	r.Patch("/session/{id}", a.handle(a.renameSession))
	r.Delete("/session/{id}", a.handle(a.deleteSession))
	r.Get("/session/{id}/events", a.handle(a.streamJournal))
	r.Get("/session/{id}/recording", a.handle(a.record))
	r.Post("/session/{id}/interrupt", a.handle(a.interrupt))
	r.Post("/session/{id}/signal", a.handle(a.signal))
	r.Post("/session/{id}/run", a.handle(a.postRun))
	r.Get("/session/{id}/run", a.handle(a.listRuns))
	r.Get("/session/{id}/run/{run_id}", a.handle(a.getRun))
	r.Delete("/session/{id}/run/{run_id}", a.handle(a.cancelRun))
	r.Get("/session/{id}/run/{run_id}/output", a.handle(a.runOutput))
	r.Post("/session/{id}/run/{run_id}/stdin", a.handle(a.writeStdin))

	if cfg.WebSocket != nil {
		r.Method(http.MethodGet, "/ws", cfg.WebSocket)
		r.Method(http.MethodGet, "/session/{id}/ws", cfg.WebSocket)
	}
	if cfg.Metrics != nil {
		r.Method(http.MethodGet, "/metrics", cfg.Metrics)
	}
	if cfg.Root != nil {
		for _, path := range []string{"/", "/docs", assets + "*", "/favicon.ico"} {
			r.Method(http.MethodGet, path, cfg.Root)
		}
	}
	return r
}

// assets is where the pages' files lie; like the pages they need no token.
const assets = "/assets/"

func newAPI(cfg Config) *api {
	a := &api{sessions: cfg.Sessions, messages: cfg.Messages, ready: cfg.Ready, logger: cfg.Logger, answered: cfg.Answered}
	if a.ready == nil {
		a.ready = func() bool { return true }
	}
	if a.logger == nil {
		a.logger = slog.New(slog.DiscardHandler)
	}
	if a.answered == nil {
		a.answered = func(string, string, int) {}
	}
	stall := cfg.StallTimeout
	if stall <= 0 {
		stall = 10 * time.Second
	}
	a.writeLimit = stall + 5*time.Second
	a.absence = min(reattachGrace, stall)
	a.maxBody = cmp.Or(cfg.MaxBody, DefaultMaxBody)
	a.bodyTimeout = cmp.Or(cfg.BodyTimeout, DefaultBodyTimeout)
	return a
}

// alive answers /healthz and /ping: the process serves requests.
func (a *api) alive(w http.ResponseWriter, _ *http.Request) error {
	return a.writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

// whileReady refuses everything but what probes ask once the server is no longer ready: what
// would be begun now could not be finished.
func (a *api) whileReady(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/healthz", "/ping", "/readyz", "/metrics":
		default:
			if !a.ready() {
				w.Header().Set("Connection", "close")
				a.fail(w, r, stopping())
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// readiness answers /readyz: 503 tells whoever balances load to send new work elsewhere.
func (a *api) readiness(w http.ResponseWriter, _ *http.Request) error {
	if !a.ready() {
		return refuse(http.StatusServiceUnavailable, codeRuntime, "the server takes no new work: it is starting or stopping")
	}
	return a.writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
}

func noSuchPath(_ http.ResponseWriter, r *http.Request) error {
	return refuse(http.StatusNotFound, codeNotFound, "there is nothing at %.200q", r.URL.Path)
}

// methodNotAllowed also says which methods would be right.
func methodNotAllowed(w http.ResponseWriter, r *http.Request) error {
	routes, allowed := chi.RouteContext(r.Context()).Routes, ""
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		if !routes.Match(chi.NewRouteContext(), method, r.URL.Path) {
			continue
		}
		if method == http.MethodGet {
			method = "GET, HEAD"
		}
		if allowed != "" {
			allowed += ", "
		}
		allowed += method
	}
	w.Header().Set("Allow", allowed)
	return refuse(http.StatusMethodNotAllowed, codeInvalid, "%s is not a method of this path; it takes %s", r.Method, allowed)
}
