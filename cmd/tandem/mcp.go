package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/spf13/cobra"

	"tandem/httpapi"
)

// mcpPath is where MCP is served over HTTP.
const mcpPath = "/mcp"

const (
	// mcpIdle is how long a client over HTTP may say nothing until its session is ended: one
	// that has gone without a word is not told from one whose user is away.
	mcpIdle = 8 * time.Hour

	// mcpEnd is how long the end may take, in which runs are interrupted and sessions ended.
	mcpEnd = 8 * time.Second
)

func mcpCommand(p process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mcp",
		Short: "let agents use the sessions: an MCP server on standard input and output",
		Long: `Serve the Model Context Protocol on standard input and output, for an agent host that
starts this as a command; or with --listen over HTTP, at /mcp.

Each client has a session of its own, which begins with its first command and ends with the
client; with --session all use that one, which stays. The agent can also make, list and end
sessions.

Over HTTP a client must present the token that this command was given, or one of its file,
and pages of other origins are refused. Without a token only loopback addresses are served.` + sessionHelp,
		Example: `  tandem mcp --session work
  tandem mcp --listen 127.0.0.1:4478 --token-file token`,
		Args: noArgs,
	}
	server := remoteFlags(cmd, p)
	var f mcpFlags
	cmd.Flags().StringVarP(&f.session, "session", "s", "", "the session to use instead of one for each client")
	cmd.Flags().StringVar(&f.cwd, "cwd", "", "directory that each client's session begins in, made where it is missing")
	cmd.Flags().StringVar(&f.listen, "listen", "", "serve over HTTP instead: host:port, port 0 picks a free one; or unix:PATH")
	_ = cmd.RegisterFlagCompletionFunc("session", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return server.names(cmd), cobra.ShellCompDirectiveNoFileComp
	})
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flag("session").Changed && f.session == "" {
			return usagef("--session is empty: give the session, or leave it out for one for each client")
		}
		if f.session != "" && f.cwd != "" {
			return usagef("--cwd is for sessions that are made here: it does not go with --session")
		}
		r, err := server()
		if err != nil {
			return err
		}
		defer r.close()
		c, err := mcpConfig(f.listen, cmd.Flag("token-file").Value.String(), r, p)
		if err != nil {
			return err
		}
		d, err := newMCPDoor(cmd.Context(), r, f, p)
		if err != nil {
			return err
		}
		if f.listen != "" {
			return d.serveHTTP(c, p)
		}
		return d.serveStdio(p)
	}
	return cmd
}

type mcpFlags struct{ session, cwd, listen string }

// mcpConfig is what to serve where. Whoever may use the server may use it from here.
func mcpConfig(listen, tokenFile string, r *remote, p process) (*config, error) {
	c := &config{from: map[string]string{}}
	if listen == "" {
		return c, nil
	}
	if err := setListen(c, listen); err != nil {
		return nil, usagef("--listen: %w", err)
	}
	tokens, err := clientTokens(tokenFile, p)
	if err != nil {
		return nil, err
	}
	if c.tokens = tokens; len(tokens) == 0 && r.token != "" {
		c.tokens = []httpapi.Token{{Secret: r.token}}
	}
	if len(c.tokens) == 0 && !localAddress(listen) {
		return nil, usagef("--listen %s: without a token only loopback addresses are served: use --token-file or TANDEM_TOKEN, or listen on 127.0.0.1 or unix:PATH", listen)
	}
	return c, nil
}

// An mcpDoor is an MCP server in front of a tandem server, whose public protocol is all it
// uses. It keeps nothing but which session is whose.
type mcpDoor struct {
	remote  *remote
	session string // that all use; "": each has its own
	cwd     string
	log     *slog.Logger
	server  *mcp.Server

	ending context.Context // ends when the calls that are on are to end
	end    context.CancelFunc

	mu      sync.Mutex
	guests  map[*mcp.ServerSession]*guest
	closed  bool
	leaving sync.WaitGroup // a goroutine for each guest, which ends with it
}

// newMCPDoor fails when the server cannot be used.
func newMCPDoor(ctx context.Context, r *remote, f mcpFlags, p process) (*mcpDoor, error) {
	var about struct {
		Role string `json:"role"`
	}
	if err := r.call(ctx, http.MethodGet, "/session", nil, &about); err != nil {
		return nil, fmt.Errorf("%s: %w", r.base, err)
	}
	if about.Role == "view" {
		return nil, exitError{exitRefused, fmt.Errorf("%s: the token is for viewing: give one that may control", r.base)}
	}
	d := &mcpDoor{remote: r, cwd: f.cwd, guests: map[*mcp.ServerSession]*guest{}}
	if f.session != "" {
		s, err := r.find(ctx, f.session)
		if err != nil {
			return nil, err
		}
		d.session = s.ID
	}
	level := slog.LevelWarn // a host shows its user what is on stderr
	if f.listen != "" {
		level = slog.LevelInfo
	}
	d.log = slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: level}))
	d.ending, d.end = context.WithCancel(ctx)
	d.server = d.newServer()
	return d, nil
}

// serveStdio serves one client until it closes the input, or a signal or the context ends it.
func (d *mcpDoor) serveStdio(p process) error {
	ctx, stop := untilSignal(d.ending, p)
	defer stop()
	out := &sharedWriter{w: p.stdout}
	lines := &agentLines{in: bufio.NewReader(p.stdin), out: out}
	ss, err := d.server.Connect(ctx, &mcp.IOTransport{Reader: lines, Writer: out, MaxLineLength: -1}, nil)
	if err != nil {
		return fmt.Errorf("serve MCP: %w", err)
	}
	gone := make(chan struct{})
	go func() { defer close(gone); err = ss.Wait() }()
	select {
	case <-gone:
	case <-ctx.Done():
	}
	told := ctx.Err() != nil
	if err := d.close(); err != nil {
		return err
	}
	if <-gone; err != nil && !told {
		return fmt.Errorf("the connection on standard input and output: %w: it is to be one JSON-RPC message a line", err)
	}
	return nil
}

// close ends what is on and what is kept for clients, and waits for it: but not for ever, as
// when nobody reads what is written.
func (d *mcpDoor) close() error {
	d.end()
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		var ending sync.WaitGroup
		for ss := range d.server.Sessions() {
			ending.Go(func() { _ = ss.Close() })
		}
		ending.Wait()
		d.leaving.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-time.After(mcpEnd):
		return fmt.Errorf("not ended within %s: clients do not read their answers, or the server does not answer", mcpEnd)
	}
}

// serveHTTP serves clients over HTTP until a signal or the context ends it.
func (d *mcpDoor) serveHTTP(c *config, p process) error {
	ctx, stop := untilSignal(d.ending, p)
	defer stop()
	ln, _, err := listen(c, p)
	if err != nil {
		return err
	}
	var tokens *httpapi.Tokens
	if len(c.tokens) > 0 {
		tokens = httpapi.NewTokens(c.tokens...)
	}
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return d.server }, &mcp.StreamableHTTPOptions{
		SessionTimeout:             mcpIdle,
		DisableLocalhostProtection: true, // the guard looks at Host, and at more
		MaxRequestBodyBytes:        -1,   // the guard again
		Logger:                     slog.New(slog.DiscardHandler),
	})
	guard := httpapi.Config{Tokens: tokens, Logger: d.log, HostAdvice: "with a token, from --token-file or TANDEM_TOKEN, any would do"}
	server := newHTTPServer(context.Background(), httpapi.Guard(guard, mcpPath, handler), d.log)
	server.ReadHeaderTimeout = 10 * time.Second
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	announceMCP(p.stdout, ln.Addr())
	select {
	case err = <-served:
		served <- err
		err = fmt.Errorf("accept connections: %w", err)
	case <-ctx.Done():
	}
	stopping, cancel := context.WithCancel(context.Background())
	cancel()
	_ = server.Shutdown(stopping) // takes no more connections, and does not wait
	err = errors.Join(err, d.close())
	_ = server.Close()
	<-served
	return err
}

func announceMCP(stdout io.Writer, addr net.Addr) {
	if addr.Network() == "unix" {
		_, _ = fmt.Fprintf(stdout, "tandem mcp listening on unix:%s, at %s\n", addr, mcpPath)
		return
	}
	_, _ = fmt.Fprintf(stdout, "tandem mcp listening on http://%s%s\n", addr, mcpPath)
}

// withEnd is a context that also ends when the calls that are on are to end.
func (d *mcpDoor) withEnd(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(d.ending, func() { cancel(errMCPEnding) })
	return ctx, func() { stop(); cancel(nil) }
}

var errMCPEnding = errors.New("tandem mcp is ending")
