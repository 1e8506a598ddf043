package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"tandem/sessions"
	"tandem/ws"
)

// runFlags are what "tandem run" can be told.
type runFlags struct {
	session string
	cwd     string
	env     []string
	timeout time.Duration
	noStdin bool
	detach  bool
	asJSON  bool
	id      string
}

func runCommand(p process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run [-s SESSION] [flags] [-- CODE...]",
		Short: "run bash code, and exit as it does",
		Long: `Run bash code in a session, or without -s in one of its own that ends with it. Without
CODE the code is read from standard input; several arguments are joined with spaces, as
ssh(1) does. What the code prints comes out as it is printed, byte for byte, and standard
input is passed on to it. Ctrl-C interrupts it, a second one ends it by force. A connection
that is lost is made again, and nothing is missing or doubled.

The exit code is that of the code; beside that:

  2    wrong flags or arguments
  124  ended by --timeout, or by the server's limit
  125  refused: a wrong token, an unknown session or directory, a full queue; or canceled
  141  nobody reads its output any more: the code is ended, as SIGPIPE would
  255  the server cannot be reached, or no longer; or some of the output is lost

With --json the field "reason" tells these from the exit codes of the code itself.` + sessionHelp,
		Example: `  tandem run -- 'cd /tmp && make'
  tandem run -s build --timeout 10m --env CI=1 -- make test
  tandem run -s build < script.sh
  tar c . | tandem run --cwd /srv/app -- tar x
  id=$(tandem run -s build --detach -- make) && tandem wait build $id`,
		Args: cobra.ArbitraryArgs,
	}
	server := remoteFlags(cmd, p)
	patienceFlag(cmd)
	var f runFlags
	fs := cmd.Flags()
	fs.StringVarP(&f.session, "session", "s", "", "the session to run it in")
	fs.StringVar(&f.cwd, "cwd", "", "directory to go to first; the session stays there")
	fs.StringArrayVar(&f.env, "env", nil, "NAME=VALUE for this run alone; may be repeated")
	fs.DurationVar(&f.timeout, "timeout", 0, "end the run after this long, as 90s or 1h30m")
	fs.BoolVarP(&f.noStdin, "no-stdin", "n", false, "let the code read nothing")
	fs.BoolVarP(&f.detach, "detach", "d", false, "print the run's id and do not wait; without -s, the session's id before it")
	fs.BoolVar(&f.asJSON, "json", false, "print one JSON object at the end, with the output in it")
	fs.StringVar(&f.id, "run-id", "", "id for the run: the same one again is the same run, not another; its output stays with 'tandem logs'")
	_ = cmd.RegisterFlagCompletionFunc("session", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return server.names(cmd), cobra.ShellCompDirectiveNoFileComp
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flag("session").Changed && f.session == "" {
			return usagef("--session is empty: give the session, or leave it out for one of its own")
		}
		request, err := f.request(args, p.stdin)
		if err != nil {
			return err
		}
		r, err := server()
		if err != nil {
			return err
		}
		defer r.close()
		id := ""
		if f.session != "" {
			s, err := r.find(cmd.Context(), f.session)
			if err != nil {
				return err
			}
			id = s.ID
		}
		if f.detach {
			return r.detach(cmd.Context(), id, request, p.stdout, f.asJSON)
		}
		return r.run(cmd, id, request, p, f.asJSON)
	}
	return cmd
}

// request is the run that was asked for.
func (f *runFlags) request(args []string, stdin io.Reader) (ws.Run, error) {
	req := ws.Run{ID: f.id, Code: strings.Join(args, " "), Cwd: f.cwd, Timeout: (f.timeout + time.Millisecond - 1).Truncate(time.Millisecond)}
	if f.timeout < 0 {
		return req, usagef("--timeout %s: give how long the run may take, as 90s", f.timeout)
	}
	vars, err := parseEnv(f.env)
	if err != nil {
		return req, err
	}
	req.Env = vars
	if !utf8.ValidString(req.Code + req.Cwd) {
		return req, usagef("the code and --cwd must be UTF-8")
	}
	if strings.TrimSpace(req.Code) != "" {
		if !f.noStdin && !f.detach {
			req.Stdin = sessions.OpenStdin
		}
		return req, nil
	}
	if len(args) > 0 {
		return req, errNoCode()
	}
	code, err := io.ReadAll(io.LimitReader(stdin, sessions.MaxCode+1))
	if err != nil {
		return req, fmt.Errorf("read the code from standard input: %w", err)
	}
	if len(code) > sessions.MaxCode {
		return req, usagef("the code on standard input is too large: at most %d bytes", sessions.MaxCode)
	}
	if !utf8.Valid(code) {
		return req, usagef("the code on standard input is not UTF-8")
	}
	req.Code = string(code)
	if strings.TrimSpace(req.Code) == "" {
		return req, errNoCode()
	}
	return req, nil
}

func errNoCode() error {
	return usagef("there is no code: give it after --, or on standard input")
}

// detach starts a run that is not waited for, without a session in one that is made for it.
func (r *remote) detach(ctx context.Context, id string, req ws.Run, stdout io.Writer, asJSON bool) error {
	var out struct {
		SessionID string `json:"session_id"`
		RunID     string `json:"run_id"`
	}
	made := id == ""
	if made {
		if err := r.call(ctx, http.MethodPost, "/session", map[string]string{}, &out); err != nil {
			return err
		}
		id = out.SessionID
	}
	in := map[string]any{"code": req.Code, "cwd": req.Cwd, "env": req.Env, "timeout_ms": req.Timeout.Milliseconds(), "detach": true}
	if req.ID != "" {
		in["run_id"] = req.ID
	}
	if err := r.call(ctx, http.MethodPost, sessionPath(id, "run"), in, &out); err != nil {
		if made {
			_ = r.call(ctx, http.MethodDelete, sessionPath(id), nil, nil)
		}
		return err
	}
	out.SessionID = id
	if asJSON {
		return printJSON(stdout, out)
	}
	if made {
		_, _ = fmt.Fprintln(stdout, id)
	}
	_, err := fmt.Fprintln(stdout, out.RunID)
	return err
}

// run runs it and sees it to its end.
func (r *remote) run(cmd *cobra.Command, id string, req ws.Run, p process, asJSON bool) error {
	say := func(text string) { _, _ = fmt.Fprintf(p.stderr, "%s: %s\n", cmd.CommandPath(), text) }
	progress := func(string) {}
	if isTerminal(p.stderr) {
		progress = say
	}
	s, err := r.openSession(cmd, id, ws.SessionOptions{
		Lost: func(err error) { progress("the connection was lost, trying again: " + cause(err).Error()) },
		Event: func(m ws.Message) {
			if m.Type == ws.TypeRunQueued {
				progress(fmt.Sprintf("queued: %d before it", m.Ahead))
			}
		},
	})
	if err != nil {
		return err
	}
	defer s.Close()
	signals, stop := p.signals()
	defer stop()
	c, err := s.Run(cmd.Context(), req)
	if err != nil {
		return err
	}
	if req.Stdin == sessions.OpenStdin {
		// Nobody waits for this one: a read of a terminal cannot be called off. It ends with
		// its input, or with the program.
		go feed(c.Stdin(), p.stdin, say)
	}
	ctx, cancel := context.WithCancelCause(cmd.Context())
	var pressing sync.WaitGroup
	pressing.Go(func() { passOn(ctx, cancel, c, signals, progress) })
	defer pressing.Wait()
	defer cancel(nil)
	if asJSON {
		return printResult(ctx, p.stdout, s, c)
	}
	res, err := c.Copy(ctx, p.stdout, p.stderr)
	if err != nil {
		return broken(c, err)
	}
	return lostOr(res, endOf(res.Reason, res.ExitCode, res.Message))
}

// lostOr is end, unless output is missing: nobody is to take that for all there was.
func lostOr(res ws.Result, end error) error {
	if res.Lost == 0 {
		return end
	}
	code := "no exit code"
	if res.ExitCode != nil {
		code = fmt.Sprintf("exit code %d", *res.ExitCode)
	}
	return exitError{exitLost, fmt.Errorf("%d bytes and events were no longer kept by the server when they were asked for: output may be missing; the run ended with %s", res.Lost, code)}
}

// feed passes input on until either side ends. Input that cannot be read is input that ends.
func feed(to io.WriteCloser, from io.Reader, say func(string)) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if _, failed := to.Write(buf[:n]); failed != nil {
			return // the run takes no more
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				say("standard input: " + err.Error())
			}
			_ = to.Close()
			return
		}
	}
}

// errLeft is the end for somebody who would not wait for an answer any more.
var errLeft = errors.New("left without an answer from the server: the run may go on")

// passOn has each SIGINT interrupt the run, from the second on by force, and any other signal
// cancel it. It returns when ctx ends, and from the third on ends that with errLeft if the server
// has not answered what was asked before.
func passOn(ctx context.Context, leave context.CancelCauseFunc, c *ws.Command, signals <-chan os.Signal, progress func(string)) {
	var asking sync.WaitGroup
	defer asking.Wait()
	var unanswered atomic.Int32
	for n := 1; ; n++ {
		var sig os.Signal
		select {
		case <-ctx.Done():
			return
		case sig = <-signals:
		}
		if n > 2 && unanswered.Load() > 0 {
			leave(exitError{exitLost, errLeft})
			return
		}
		if n == 1 && sig == os.Interrupt {
			progress("interrupting; once more ends it by force")
		}
		unanswered.Add(1)
		asking.Go(func() {
			defer unanswered.Add(-1)
			ask(ctx, c, sig == os.Interrupt, n > 1)
		})
	}
}

// ask has the run interrupted, or canceled, which a run that waits in the queue is in any case.
func ask(ctx context.Context, c *ws.Command, interrupt, force bool) {
	if interrupt {
		err := c.Interrupt(ctx, force)
		refused, ok := errors.AsType[*ws.RefusedError](err)
		if !ok || refused.Code != "RUN_NOT_RUNNING" {
			return
		}
	}
	_ = c.Cancel(ctx)
}

// cancelWait is how long a run is given to be told that nobody wants its output.
const cancelWait = 5 * time.Second

// broken ends the run whose output cannot be written, as a pipe that breaks ends a program.
func broken(c *ws.Command, err error) error {
	if errors.Is(err, errLeft) || errors.Is(err, ws.ErrLost) || errors.Is(err, ws.ErrSessionClosed) || errors.As(err, new(*ws.RefusedError)) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), cancelWait)
	defer cancel()
	_ = c.Cancel(ctx)
	return err
}

// A runResult is what --json prints.
type runResult struct {
	SessionID    string `json:"session_id"`
	RunID        string `json:"run_id"`
	Reason       string `json:"reason"`
	ExitCode     *int   `json:"exit_code"`
	Signal       string `json:"signal,omitempty"`
	Detail       string `json:"detail,omitempty"`
	Stdout       string `json:"stdout"`
	Stderr       string `json:"stderr"`
	StdoutBase64 string `json:"stdout_base64,omitempty"` // where it is not UTF-8
	StderrBase64 string `json:"stderr_base64,omitempty"`
	DurationMS   int64  `json:"duration_ms"`
	Cwd          string `json:"cwd"`
	Lost         uint64 `json:"lost,omitempty"` // positions that were no longer kept
}

func printResult(ctx context.Context, stdout io.Writer, s *ws.Session, c *ws.Command) error {
	res, err := c.Wait(ctx)
	if err != nil {
		return err
	}
	out := runResult{
		SessionID: s.ID(), RunID: res.RunID, Reason: res.Reason, ExitCode: res.ExitCode, Signal: res.Signal, Detail: res.Message,
		DurationMS: res.Duration.Milliseconds(), Cwd: res.Cwd, Lost: res.Lost,
	}
	out.Stdout, out.StdoutBase64 = textOf(res.Stdout)
	out.Stderr, out.StderrBase64 = textOf(res.Stderr)
	if err := printJSON(stdout, out); err != nil {
		return err
	}
	if end := lostOr(res, endOf(res.Reason, res.ExitCode, res.Message)); end != nil {
		return exitError{code: exitCodeOf(end)} // it has been told
	}
	return nil
}

// textOf is bytes as text, and where that loses something, as base64 too.
func textOf(b []byte) (text, exact string) {
	if utf8.Valid(b) {
		return string(b), ""
	}
	return string(bytes.ToValidUTF8(b, []byte("\ufffd"))), base64.StdEncoding.EncodeToString(b)
}
