package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
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
  255  the server cannot be reached, or no longer

With --json the field "reason" tells these from the exit codes of the code itself.` + sessionHelp,
		Example: `  tandem run -- 'cd /tmp && make'
  tandem run -s build --timeout 10m --env CI=1 -- make test
  tandem run -s build < script.sh
  tar c . | tandem run --cwd /srv/app -- tar x
  id=$(tandem run -s build --detach -- make) && tandem wait build $id`,
		Args: cobra.ArbitraryArgs,
	}
	server := remoteFlags(cmd, p)
	var f runFlags
	fs := cmd.Flags()
	fs.StringVarP(&f.session, "session", "s", "", "the session to run it in")
	fs.StringVar(&f.cwd, "cwd", "", "directory to go to first; the session stays there")
	fs.StringArrayVar(&f.env, "env", nil, "NAME=VALUE for this run alone; may be repeated")
	fs.DurationVar(&f.timeout, "timeout", 0, "end the run after this long, as 90s or 1h30m")
	fs.BoolVarP(&f.noStdin, "no-stdin", "n", false, "let the code read nothing")
	fs.BoolVarP(&f.detach, "detach", "d", false, "print the run's id and do not wait; without -s, the session's id before it")
	fs.BoolVar(&f.asJSON, "json", false, "print one JSON object at the end, with the output in it")
	fs.StringVar(&f.id, "run-id", "", "id for the run: the same one again is the same run, not another")
	_ = cmd.RegisterFlagCompletionFunc("session", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return sessionNames(cmd, server), cobra.ShellCompDirectiveNoFileComp
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
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
			return r.detach(cmd, id, request, p.stdout, f.asJSON)
		}
		return r.run(cmd, id, request, p, f.asJSON)
	}
	return cmd
}

// request is the run that was asked for.
func (f *runFlags) request(args []string, stdin io.Reader) (ws.Run, error) {
	req := ws.Run{ID: f.id, Code: strings.Join(args, " "), Cwd: f.cwd, Timeout: f.timeout}
	if f.timeout < 0 {
		return req, usagef("--timeout %s: give how long the run may take, as 90s", f.timeout)
	}
	vars, err := parseEnv(f.env)
	if err != nil {
		return req, err
	}
	req.Env = vars
	if len(args) > 0 {
		if !f.noStdin && !f.detach {
			req.Stdin = sessions.OpenStdin
		}
		return req, nil
	}
	code, err := io.ReadAll(io.LimitReader(stdin, sessions.MaxCode+1))
	if err != nil {
		return req, fmt.Errorf("read the code from standard input: %w", err)
	}
	if !utf8.Valid(code) {
		return req, usagef("the code on standard input is not UTF-8")
	}
	req.Code = string(code)
	if strings.TrimSpace(req.Code) == "" {
		return req, usagef("there is no code: give it after --, or on standard input")
	}
	return req, nil
}

// detach starts a run that is not waited for.
func (r *remote) detach(cmd *cobra.Command, id string, req ws.Run, stdout io.Writer, asJSON bool) error {
	made := id == ""
	if made {
		var out struct {
			SessionID string `json:"session_id"`
		}
		if err := r.call(cmd.Context(), "POST", "/session", map[string]string{}, &out); err != nil {
			return err
		}
		id = out.SessionID
	}
	in := map[string]any{"code": req.Code, "cwd": req.Cwd, "env": req.Env, "timeout_ms": req.Timeout.Milliseconds(), "detach": true}
	if req.ID != "" {
		in["run_id"] = req.ID
	}
	var out struct {
		SessionID string `json:"session_id"`
		RunID     string `json:"run_id"`
	}
	if err := r.call(cmd.Context(), "POST", sessionPath(id, "run"), in, &out); err != nil {
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
	say := func(string) {}
	if isTerminal(p.stderr) {
		say = func(text string) { _, _ = fmt.Fprintf(p.stderr, "%s: %s\n", cmd.CommandPath(), text) }
	}
	s, err := r.openSession(cmd, id, ws.SessionOptions{
		Lost: func(err error) { say("the connection was lost, trying again: " + err.Error()) },
		Event: func(m ws.Message) {
			if m.Type == ws.TypeRunQueued {
				say(fmt.Sprintf("waiting for %d runs before this one", m.Ahead))
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
		go feed(c.Stdin(), p.stdin)
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	var pressing sync.WaitGroup
	pressing.Go(func() { passOn(ctx, c, signals, say) })
	defer pressing.Wait()
	defer cancel()
	if asJSON {
		return printResult(ctx, p.stdout, s, c)
	}
	res, err := c.Copy(ctx, p.stdout, p.stderr)
	if err != nil {
		return r.broken(c, err)
	}
	if res.Lost > 0 {
		_, _ = fmt.Fprintf(p.stderr, "%s: %d bytes and events were no longer kept by the server when the connection was back: output may be missing\n", cmd.CommandPath(), res.Lost)
	}
	return endOf(res.Reason, res.ExitCode, res.Message)
}

// feed passes input on until either side ends.
func feed(to io.WriteCloser, from io.Reader) {
	_, err := io.Copy(to, from)
	if err == nil {
		_ = to.Close()
	}
}

// passOn has each SIGINT interrupt the run, from the second on by force, and any other signal
// cancel it. It returns when ctx ends.
func passOn(ctx context.Context, c *ws.Command, signals <-chan os.Signal, say func(string)) {
	force := false
	for {
		var sig os.Signal
		select {
		case <-ctx.Done():
			return
		case sig = <-signals:
		}
		var err error
		if sig == os.Interrupt {
			if !force {
				say("interrupting; once more ends it by force")
			}
			err = c.Interrupt(ctx, force)
			force = true
		} else {
			err = c.Cancel(ctx)
		}
		if refused, ok := errors.AsType[*ws.RefusedError](err); ok && refused.Code == "RUN_NOT_RUNNING" && sig == os.Interrupt {
			_ = c.Cancel(ctx) // it waits in the queue
		}
	}
}

// cancelWait is how long a run is given to be told that nobody wants its output.
const cancelWait = 5 * time.Second

// broken ends the run whose output cannot be written, as a pipe that breaks ends a program.
func (r *remote) broken(c *ws.Command, err error) error {
	if errors.Is(err, ws.ErrLost) || errors.Is(err, ws.ErrSessionClosed) || errors.As(err, new(*ws.RefusedError)) {
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
	if end := endOf(res.Reason, res.ExitCode, res.Message); end != nil {
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
