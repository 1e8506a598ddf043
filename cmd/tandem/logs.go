package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"tandem/ws"
)

func logsCommand(p process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "logs SESSION [RUN]",
		Short: "print what a session, or one run, has put out",
		Long: `Print the output of a session, or of one of its runs, as far as the server keeps it:
standard output to standard output, standard error to standard error, byte for byte.
What is no longer kept is told on standard error.` + sessionHelp + runHelp,
		Example: "  tandem logs build -f\n  tandem logs build $run > out.txt\n  tandem logs build --cast > build.cast && asciinema play build.cast",
		Args:    someArgs(1, 2, "SESSION and perhaps RUN"),
	}
	server := remoteFlags(cmd, p)
	cmd.ValidArgsFunction = server.complete(false, server.runs)
	patienceFlag(cmd)
	follow := cmd.Flags().BoolP("follow", "f", false, "go on with what comes, until the run or the session ends")
	tail := cmd.Flags().Uint64("tail", 0, "only the last so many positions: bytes of output and events; not for a run")
	cast := cmd.Flags().Bool("cast", false, "print a recording for asciinema instead")
	format := cmd.Flags().String("cast-format", "v3", "v3 or v2, with --cast")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case cmd.Flag("cast-format").Changed && !*cast:
			return usagef("--cast-format is of a recording: give --cast too")
		case *format != "v3" && *format != "v2":
			return usagef("--cast-format %q: give v3 or v2", *format)
		case *cast && (*follow || *tail > 0):
			return usagef("--cast is of what there is: it goes with neither --follow nor --tail")
		case *tail > 0 && len(args) == 2:
			return usagef("--tail counts what happens in the session: it does not go with a run")
		}
		r, s, err := server.find(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		defer r.close()
		run := runInfo{}
		if len(args) == 2 {
			if run, err = r.findRun(cmd.Context(), s.ID, args[1]); err != nil {
				return err
			}
		}
		if *cast {
			return r.recording(cmd, s.ID, run.RunID, *format, p.stdout)
		}
		ctx, stop := untilSignal(cmd.Context(), p)
		defer stop()
		return r.logs(ctx, cmd, s.ID, run, *tail, *follow, p)
	}
	return cmd
}

// recording copies the server's recording.
func (r *remote) recording(cmd *cobra.Command, session, run, format string, to io.Writer) error {
	q := url.Values{"format": {format}}
	if run != "" {
		q.Set("run", run)
	}
	res, err := r.open(cmd.Context(), http.MethodGet, sessionPath(session, "recording")+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	out := &printed{w: to}
	if _, err := io.Copy(out, res.Body); err != nil && out.err == nil {
		return fmt.Errorf("%w: the recording is not whole: %w", ws.ErrLost, err)
	}
	return out.err
}

var (
	// errAll is that all that was asked for has been seen.
	errAll = errors.New("that is all")

	errSignal = errors.New("ended by a signal")
)

// untilSignal is a context that ends with the first signal that asks the program to.
func untilSignal(ctx context.Context, p process) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals, stop := p.signals()
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-signals:
			cancel(errSignal)
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-done
		stop()
	}
}

// An untilDone writes until ctx ends, also where nobody reads, as a pager that shows its first page.
type untilDone struct {
	ctx context.Context
	w   io.Writer
}

// Write fails with the cause of the context's end when that comes first. p is then still in use.
func (u *untilDone) Write(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	written := make(chan result, 1)
	// Nobody waits for this one then: a write to a pipe cannot be called off. It ends with the
	// reader, or with the program.
	go func() {
		n, err := u.w.Write(p)
		written <- result{n, err}
	}()
	select {
	case r := <-written:
		return r.n, r.err
	case <-u.ctx.Done():
		return 0, context.Cause(u.ctx)
	}
}

// logs copies output until errAll, the end of the session, or a signal.
func (r *remote) logs(ctx context.Context, cmd *cobra.Command, session string, run runInfo, tail uint64, follow bool, p process) error {
	l := &logCopy{stdout: &untilDone{ctx, p.stdout}, stderr: &untilDone{ctx, p.stderr}, name: cmd.CommandPath()}
	opts := &ws.SessionOptions{DialOptions: r.dialOptions(), Patience: r.patience, View: true, Tail: tail}
	if tail == 0 {
		opts.After = new(uint64)
	}
	if run.RunID != "" {
		l.run, l.number = run.RunID, run.Number
		opts.After = &run.First
		follow = follow && run.Last == nil // of one that has ended there is what there is
	}
	l.follow = follow
	if !follow {
		end, err := r.end(ctx, session)
		if err != nil {
			return err
		}
		if l.end = &end; end == 0 || opts.After != nil && *opts.After >= end {
			return nil
		}
	}
	err := ws.Follow(ctx, r.base, session, opts, l.take)
	if errors.Is(err, errAll) || errors.Is(err, errSignal) {
		return nil
	}
	return err
}

// end is the position after all that has happened in a session.
func (r *remote) end(ctx context.Context, session string) (uint64, error) {
	s, err := ws.Open(ctx, r.base, session, &ws.SessionOptions{DialOptions: r.dialOptions(), View: true})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	return s.Position(), nil
}

// A logCopy writes what output there is in messages.
type logCopy struct {
	stdout, stderr io.Writer
	name           string
	follow         bool
	run            string // only this one's; "": everything
	number         uint64
	end            *uint64 // how far to go
}

func (l *logCopy) take(m ws.Message) error {
	if l.end != nil && m.Placed && m.Pos >= *l.end {
		return errAll
	}
	switch {
	case m.IsOutput() && (l.run == "" || m.Number == l.number):
		w := l.stdout
		if m.Type == ws.TypeStderr {
			w = l.stderr
		}
		if _, err := w.Write(m.Data); err != nil {
			return err
		}
	case m.Type == ws.TypeGap:
		_, _ = fmt.Fprintf(l.stderr, "%s: %d positions are no longer kept\n", l.name, m.To-m.From)
	}
	if l.run != "" && l.follow && l.ends(m) {
		return errAll
	}
	if l.end != nil && m.End() >= *l.end {
		return errAll
	}
	return nil
}

// ends reports whether the run ends with m, or has ended in it where m is a gap.
func (l *logCopy) ends(m ws.Message) bool {
	if m.Type == ws.TypeGap {
		return slices.ContainsFunc(m.Finished, func(end ws.Message) bool { return end.RunID == l.run })
	}
	return m.Type == ws.TypeRunFinished && m.RunID == l.run
}

func eventsCommand(p process) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events SESSION",
		Short: "print what happens in a session, by whomever, as it happens",
		Long: `Print what has happened in a session, as far as the server keeps it, and then what
happens, until the session ends or Ctrl-C.` + sessionHelp,
		Example: "  tandem events build\n  tandem events build --json | jq 'select(.type == \"run.finished\")'",
		Args:    someArgs(1, 1, "SESSION"),
	}
	server := remoteFlags(cmd, p)
	cmd.ValidArgsFunction = server.complete(false, nil)
	patienceFlag(cmd)
	after := cmd.Flags().Uint64("after", 0, "begin at this position")
	asJSON := cmd.Flags().Bool("json", false, "print each message as the server sends it, a line each")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r, s, err := server.find(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		defer r.close()
		ctx, stop := untilSignal(cmd.Context(), p)
		defer stop()
		opts := &ws.SessionOptions{DialOptions: r.dialOptions(), Patience: r.patience, View: true, After: after}
		opts.JSON = *asJSON
		out := &untilDone{ctx, p.stdout}
		err = ws.Follow(ctx, r.base, s.ID, opts, func(m ws.Message) error {
			if *asJSON {
				_, err := fmt.Fprintf(out, "%s\n", m.Raw)
				return err
			}
			return printEvent(out, m)
		})
		if errors.Is(err, errSignal) {
			return nil
		}
		return err
	}
	return cmd
}

// printEvent prints a message for a person: a line for an event, nothing for output.
func printEvent(w io.Writer, m ws.Message) error {
	line := ""
	switch m.Type {
	case ws.TypeAttached:
		return nil
	case ws.TypeRunStarted:
		line = fmt.Sprintf("%s  run %d (%s) by %s in %s: %s", time.UnixMilli(m.StartedAt).Format(time.DateTime), m.Number, m.RunID, m.By, m.Cwd, oneLine(m.Code, 100))
	case ws.TypeRunFinished:
		line = fmt.Sprintf("%19s  run %s %s", "", m.RunID, endText(m))
	case ws.TypeShellRestarted:
		line = fmt.Sprintf("%19s  the shell was replaced (%s), with the state of: %s", "", m.Cause, m.Restored)
	case ws.TypeGap:
		line = fmt.Sprintf("%19s  %d positions are no longer kept", "", m.To-m.From)
	case ws.TypeSessionClosed:
		line = fmt.Sprintf("%19s  the session was closed: %s", "", m.Reason)
	default:
		return nil
	}
	_, err := fmt.Fprintln(w, line)
	return err
}

// endText tells a person how a run ended.
func endText(m ws.Message) string {
	took := (time.Duration(m.DurationMS) * time.Millisecond).String()
	text := m.Reason
	if m.ExitCode != nil {
		text += fmt.Sprintf(" %d", *m.ExitCode)
	}
	if m.Signal != "" {
		text += " " + m.Signal
	}
	if m.Message != "" {
		text += ": " + m.Message
	}
	return text + " after " + took
}

// fileOf is the file behind a reader or writer, where there is one.
func fileOf(v any) *os.File {
	f, _ := v.(*os.File)
	return f
}
