package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"tandem/httpapi"
	"tandem/sessions"
	"tandem/web"
	"tandem/ws"
)

// What the HTTP server allows a client beside what flags say. There is no limit on
// writing: event streams last as long as their runs, and stalled readers are cut off by
// the rule they are told.
const (
	keepAliveTimeout = 2 * time.Minute
	maxHeaderBytes   = 64 << 10
)

// headroom is how much garbage may lie about at least, in bytes. The collector begins when the
// heap is twice what it last found in use, which in a small server is a few megabytes: requests
// would make it run all the time. So there is something in use that is never touched, and takes
// no memory, though it counts where somebody has set GOMEMLIMIT.
const headroom = 32 << 20

// warmSessions is how many shells wait to be somebody's session: enough for one that is
// created right after another, and a megabyte of memory.
const warmSessions = 2

// serveCommand is "tandem serve": flags, config, checks, build, serve, and the end in order.
func serveCommand(p process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "serve sessions over REST, WebSocket and to browsers",
		Args:  noArgs,
	}
	flags := serveFlags(cmd.Flags())
	cmd.SetHelpFunc(func(cmd *cobra.Command, _ []string) { printServeHelp(cmd.OutOrStdout()) })
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := newConfig(flags, p.getenv)
		if err == nil {
			err = c.validate()
		}
		if err != nil {
			return err
		}
		bash, err := findBash(cmd.Context(), "bash")
		if err != nil {
			return err
		}
		if _, err := sessions.CheckDir(); err != nil {
			return usagef("%w: set TMPDIR to a directory that this user may write to", err)
		}
		return listenAndServe(cmd.Context(), c, bash, p)
	}
	return cmd
}

func listenAndServe(ctx context.Context, c *config, bash string, p process) error {
	untouched := make([]byte, headroom)
	defer runtime.KeepAlive(untouched)
	// From here on, so that every process started has the default dispositions.
	signals, stop := p.signals()
	defer stop()
	keys, err := newKeyPair(c)
	if err != nil {
		return err
	}
	ln, passed, err := listen(c, p)
	if err != nil {
		return err
	}
	log := &logWriter{w: p.stderr}
	defer log.flush()
	p.stderr = log
	s, err := build(c, bash, ln, keys, p)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	s.passed = passed
	announce(p.stdout, c, ln.Addr())
	return s.serve(ctx, signals)
}

// announce says where the server is: the first line for whoever waits for it, the second
// for a person with a browser.
func announce(stdout io.Writer, c *config, addr net.Addr) {
	if addr.Network() == "unix" {
		_, _ = fmt.Fprintf(stdout, "tandem listening on unix:%s\n", addr)
		return
	}
	scheme := "http"
	if c.tlsCert != "" {
		scheme = "https"
	}
	_, _ = fmt.Fprintf(stdout, "tandem listening on %s://%s\n", scheme, addr)
	tokens := c.tokens
	if !isTerminal(stdout) {
		tokens = nil // whatever keeps the output is not to keep the token
	}
	_, _ = fmt.Fprintf(stdout, "open %s\n", pageLink(scheme, addr, tokens))
}

// isTerminal reports whether somebody reads what is written to w, as far as can be told.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// pageLink is the address of the page for a browser on this machine. The token is in the
// fragment, which a browser does not send.
func pageLink(scheme string, addr net.Addr, tokens []httpapi.Token) string {
	u := url.URL{Scheme: scheme, Host: addr.String(), Path: "/"}
	if a, ok := addr.(*net.TCPAddr); ok && a.IP.IsUnspecified() {
		u.Host = net.JoinHostPort("localhost", strconv.Itoa(a.Port))
	}
	if len(tokens) == 0 {
		return u.String()
	}
	return u.String() + "#token=" + url.QueryEscape(tokens[0].Secret)
}

func newLogger(c *config, p process) *slog.Logger {
	if c.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(p.stderr, nil))
	}
	return slog.New(slog.NewTextHandler(p.stderr, nil))
}

// A server is everything that is at work, and knows how to end it.
type server struct {
	log      *slog.Logger
	http     *http.Server
	listener net.Listener
	passed   bool               // the listener is not the server's own
	ready    *atomic.Bool       // what /readyz answers
	streams  context.CancelFunc // ends the requests that are still being answered
	reloads  *reloader
	notify   func(state string)
	watchdog time.Duration
	terminal bool    // the program was started from one
	traces   *traces // nil: none
	manager  interface {
		List() []*sessions.Session
		Drain(ctx context.Context) error
		Close(ctx context.Context) error
	}
	sockets interface {
		Close(ctx context.Context) error
	}
}

// build makes the server from a valid config. It serves on ln once serve is called.
func build(c *config, bash string, ln net.Listener, keys *keyPair, p process) (*server, error) {
	log := newLogger(c, p)
	tracing, err := newTraces(p.getenv, log)
	if err != nil {
		return nil, err
	}
	meter := newMetrics()
	manager, err := newManager(c, bash, log, observe(meter, tracing), p)
	if err != nil {
		return nil, errors.Join(err, tracing.close(context.Background()))
	}
	var tokens *httpapi.Tokens
	if len(c.tokens) > 0 {
		tokens = httpapi.NewTokens(c.tokens...)
	}
	self := "tandem/" + version()
	sockets := ws.New(ws.Config{
		Sessions:     manager,
		Logger:       log,
		Server:       self,
		ViewOnly:     httpapi.ViewOnly,
		Revoked:      httpapi.Revoked,
		Received:     meter.received.Inc,
		Sent:         func(n int) { meter.sent.Add(float64(n)) },
		MaxMessage:   int64(c.maxMessage),
		StallTimeout: c.stallTimeout,
	})
	ready := new(atomic.Bool)
	handler := httpapi.New(httpapi.Config{
		Sessions:     manager,
		Messages:     func() httpapi.EntryEncoder { return &ws.Encoder{Server: self} },
		Tokens:       tokens,
		AllowHosts:   c.allowHosts,
		AllowOrigins: c.allowOrigins,
		HostAdvice:   "--allow-host would make it one, and with a token any would do",
		OriginAdvice: "--allow-origin would let it",
		MaxBody:      int64(c.maxMessage),
		BodyTimeout:  c.bodyTimeout,
		StallTimeout: c.stallTimeout,
		Logger:       log,
		Ready:        ready.Load,
		Root:         web.Handler(),
		WebSocket:    routes(sockets),
		Metrics:      meter.handler(log),
		Answered:     meter.answered,
		AsyncAPI:     ws.AsyncAPI(),
	})
	base, cancel := context.WithCancel(context.Background())
	crowd := newCrowd(ln, c.maxConnections, log)
	meter.watch(manager, crowd)
	web := newHTTPServer(base, tracing.extract(handler), log)
	web.ReadHeaderTimeout = c.headerTimeout
	web.ConnState = crowd.note
	if keys != nil {
		web.TLSConfig = keys.config()
	}
	return &server{
		log:      log,
		listener: crowd,
		ready:    ready,
		streams:  cancel,
		manager:  manager,
		sockets:  sockets,
		traces:   tracing,
		http:     web,
		reloads:  newReloader(log, watches(c, tokens, keys)...),
		notify:   p.notify,
		watchdog: p.watchdog,
		terminal: hasTerminal(),
	}, nil
}

// newManager makes the engine.
func newManager(c *config, bash string, log *slog.Logger, o sessions.Observer, p process) (*sessions.Manager, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the program to start guardians with: %w", err)
	}
	manager, err := sessions.New(sessions.Config{
		Bash:         bash,
		Env:          sessionEnv(p.environ, c.envPass),
		Guardian:     []string{exe, "guard"},
		Adopt:        p.adopt,
		Logger:       log,
		Observer:     o,
		MaxSessions:  c.maxSessions,
		MaxQueue:     c.maxQueue,
		MaxClients:   c.maxClients,
		MaxCode:      c.maxCode,
		MaxEnv:       c.maxEnv,
		Retention:    c.retention,
		Memory:       c.memory,
		Warm:         warmSessions,
		StallTimeout: c.stallTimeout,
		IdleTimeout:  c.idleTimeout,
		RunTimeout:   c.runTimeout,
	})
	if err != nil {
		return nil, fmt.Errorf("start the session manager: %w", err)
	}
	return manager, nil
}

// watches are the files that are read again when they change.
func watches(c *config, tokens *httpapi.Tokens, keys *keyPair) (all []*watch) {
	if c.tokenFile != "" && tokens != nil {
		all = append(all, &watch{what: "tokens", files: []string{c.tokenFile}, load: func() error {
			list, err := readTokens(c.tokenFile)
			if err == nil {
				tokens.Replace(list...)
			}
			return err
		}})
	}
	if keys != nil {
		all = append(all, &watch{what: "certificate", files: []string{keys.cert, keys.key}, load: keys.load})
	}
	return all
}

// routes is the WebSocket door as one handler.
func routes(sockets *ws.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ws", sockets.Create)
	mux.HandleFunc("GET /session/{id}/ws", sockets.Attach)
	return mux
}

func newHTTPServer(base context.Context, handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:        handler,
		IdleTimeout:    keepAliveTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		BaseContext:    func(net.Listener) context.Context { return base },
		TLSNextProto:   map[string]func(*http.Server, *tls.Conn, http.Handler){}, // no HTTP/2
	}
}

// errAtOnce is the end by a second signal.
var errAtOnce = errors.New("ended at once by a second signal, without waiting for what was running")

// sameSignal is within how long a signal that comes again is the same one.
const sameSignal = 100 * time.Millisecond

// serve answers until ctx ends, a signal comes or the listener fails, and then ends
// everything in order. It returns nil if that was asked for and went well.
//
// After a second signal it returns errAtOnce without waiting for anything: the caller is
// to exit, and the guardian ends what the server leaves.
func (s *server) serve(ctx context.Context, signals <-chan os.Signal) error {
	served := make(chan error, 1)
	s.ready.Store(true)
	go func() { served <- s.accept() }()
	s.notify(stateReady)
	stopHelpers := s.startHelpers()
	defer stopHelpers()

	first, failed := s.untilEnd(ctx, signals, served)
	asked := time.Now()
	s.ready.Store(false)
	s.notify(stateStopping)
	down := make(chan error, 1)
	go func() {
		err := shutDown(s.log, s.stages())
		<-served
		down <- err
	}()
	for {
		select {
		case err := <-down:
			return errors.Join(failed, err)
		case sig := <-signals:
			// Both the terminal and the shell in it send a SIGHUP when it is closed; and timeout(1),
			// for one, signals the program and its group.
			if sig != syscall.SIGHUP && (sig != first || time.Since(asked) > sameSignal) {
				return errAtOnce
			}
		}
	}
}

// accept serves connections until the server is shut down.
func (s *server) accept() error {
	if s.http.TLSConfig != nil {
		return s.http.ServeTLS(s.listener, "", "")
	}
	return s.http.Serve(s.listener)
}

// startHelpers starts what runs beside the server until stop is called, which waits for it.
func (s *server) startHelpers() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var helpers sync.WaitGroup
	helpers.Go(func() { s.reloads.run(ctx) })
	helpers.Go(func() { feedWatchdog(ctx, s.watchdog, func() { s.manager.List() }, s.notify) })
	return func() {
		cancel()
		helpers.Wait()
	}
}

// untilEnd returns when the server is to end, with the signal that asked for it, or with an
// error if it failed.
func (s *server) untilEnd(ctx context.Context, signals <-chan os.Signal, served chan error) (os.Signal, error) {
	for {
		select {
		case <-ctx.Done():
			s.log.Info("ending", "cause", context.Cause(ctx))
			return nil, nil
		case sig := <-signals:
			if sig == syscall.SIGHUP && s.terminal == hasTerminal() && s.reloads.ask() {
				continue
			}
			s.log.Info("ending", "signal", sig.String())
			return sig, nil
		case err := <-served:
			served <- err
			failed := fmt.Errorf("accept connections: %w", err)
			s.log.Error("ending", "error", failed)
			return nil, failed
		}
	}
}
