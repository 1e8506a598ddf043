package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/modelcontextprotocol/go-sdk/mcp"

	"tandem/ws"
)

// giveUpWait is how long a run that nobody waits for any more may take to be interrupted.
const giveUpWait = 3 * time.Second

type runInput struct {
	Code        string            `json:"code" jsonschema:"bash code to run: a command line or a whole script"`
	Session     string            `json:"session,omitempty"`
	Cwd         string            `json:"cwd,omitempty" jsonschema:"directory to go to first, which must exist; the session stays there, as after cd"`
	Env         map[string]string `json:"env,omitempty" jsonschema:"environment variables for this run alone"`
	Stdin       string            `json:"stdin,omitempty" jsonschema:"text to give the code on standard input, followed by its end; without it and interactive, standard input is empty"`
	Interactive bool              `json:"interactive,omitempty" jsonschema:"keep standard input open for write_stdin; the answer then comes as soon as the code falls silent"`
	TimeoutMS   int64             `json:"timeout_ms,omitempty" jsonschema:"end the run by force after so many milliseconds, with exit code 124; 0 or absent: no limit"`
	WaitMS      int64             `json:"wait_ms" jsonschema:"how many milliseconds to wait for the end; a run that takes longer goes on, and the answer says how to read on; 0 starts it and answers at once"`
}

// A runView is how a run stands, and some of its output.
type runView struct {
	Session    string  `json:"session" jsonschema:"id of the session"`
	RunID      string  `json:"run_id" jsonschema:"id of the run, for read_output, write_stdin, interrupt and signal"`
	State      string  `json:"state" jsonschema:"queued (waits for other runs of its session), running or finished"`
	Reason     string  `json:"reason,omitempty" jsonschema:"how it ended: exited, interrupted, timed_out, canceled, shell_exited, session_closed or refused"`
	ExitCode   *int    `json:"exit_code,omitempty" jsonschema:"exit code of the code; absent while it runs, and where there is none"`
	Signal     string  `json:"signal,omitempty" jsonschema:"the signal that ended the shell, if one did"`
	Detail     string  `json:"detail,omitempty" jsonschema:"why it was refused"`
	Cwd        string  `json:"cwd,omitempty" jsonschema:"the session's directory after the run"`
	DurationMS *int64  `json:"duration_ms,omitempty" jsonschema:"how long it ran"`
	Output     []piece `json:"output" jsonschema:"the output, in the order in which it came"`
	Next       uint64  `json:"next" jsonschema:"position to give read_output as after, to have what comes after this output"`
	More       bool    `json:"more,omitempty" jsonschema:"there is more output already: read_output with after=next has it"`
	Lost       uint64  `json:"lost,omitempty" jsonschema:"so many bytes and events were no longer kept by the server: output may be missing"`
	Note       string  `json:"note,omitempty" jsonschema:"what can be done now"`
}

// run is the tool: it starts a run and waits for its end, but no longer than was asked.
func (g *guest) run(ctx context.Context, req *mcp.CallToolRequest, in runInput) (*runView, error) {
	if strings.TrimSpace(in.Code) == "" {
		return nil, errors.New("code is empty: give the bash code to run")
	}
	if in.Interactive && in.Stdin != "" {
		return nil, errors.New("stdin and interactive are both given: stdin is followed by its end; with interactive, give input with write_stdin")
	}
	session, err := g.session(ctx, in.Session, true)
	if err != nil {
		return nil, g.explain(err, "")
	}
	w := &runWatch{session: session, run: uuid.NewString(), wait: time.Duration(in.WaitMS) * time.Millisecond, talk: in.Interactive}
	w.begin = func(ctx context.Context) error {
		post := func() error {
			return g.d.remote.call(ctx, http.MethodPost, sessionPath(session, "run"), in.request(w.run), nil)
		}
		err := post()
		if errors.Is(err, ws.ErrLost) {
			err = post() // the server may have taken it; the same id is the same run
		}
		return err
	}
	stop := w.tell(ctx, req)
	err = g.d.follow(ctx, w)
	stop()
	if ctx.Err() != nil {
		g.d.giveUp(session, w.run)
		return nil, fmt.Errorf("the run was interrupted, because nobody waits for it any more: %w", context.Cause(ctx))
	}
	if err != nil {
		return nil, g.explain(err, session)
	}
	if w.ended != nil && w.ended.Reason == "refused" {
		return nil, fmt.Errorf("the run was refused: %s", w.ended.Message)
	}
	if w.ended == nil && !w.started {
		// It was not waited for until it was seen to start: that may be all that it waits for.
		info, err := g.d.runInfo(ctx, session, w.run)
		if err != nil {
			return nil, g.explain(err, session)
		}
		w.started = info.StartedAt != nil
	}
	return w.answer(nil), nil
}

// request is what the server is asked for.
func (in runInput) request(id string) map[string]any {
	body := map[string]any{"code": in.Code, "run_id": id, "detach": true, "timeout_ms": in.TimeoutMS, "env": in.Env, "cwd": in.Cwd}
	switch {
	case in.Interactive:
		body["stdin"] = true
	case in.Stdin != "":
		body["stdin"] = in.Stdin
	}
	return body
}

// giveUp interrupts a run, or takes it out of the queue, if it is there and has not ended.
func (d *mcpDoor) giveUp(session, run string) {
	ctx, cancel := context.WithTimeout(context.Background(), giveUpWait)
	defer cancel()
	err := d.interrupt(ctx, session, run, false)
	if refused, ok := errors.AsType[*ws.RefusedError](err); err != nil && !(ok && refused.Code == "RUN_NOT_RUNNING") {
		d.log.Warn("a run that was given up could not be interrupted", "session_id", session, "run_id", run, "error", err)
	}
}

// interrupt interrupts a run, "" being the one that is on, or takes it out of the queue. With
// a run that has ended, it fails.
func (d *mcpDoor) interrupt(ctx context.Context, session, run string, force bool) error {
	in := map[string]any{"force": force}
	if run != "" {
		in["run_id"] = run
	}
	err := d.remote.call(ctx, http.MethodPost, sessionPath(session, "interrupt"), in, nil)
	refused, ok := errors.AsType[*ws.RefusedError](err)
	if !ok || refused.Code != "RUN_NOT_RUNNING" || run == "" {
		return err
	}
	if info, e := d.runInfo(ctx, session, run); e == nil && info.State == "queued" {
		return d.remote.call(ctx, http.MethodDelete, sessionPath(session, "run", run), nil, nil)
	}
	return err
}

func (d *mcpDoor) runInfo(ctx context.Context, session, run string) (info runInfo, err error) {
	err = d.remote.call(ctx, http.MethodGet, sessionPath(session, "run", run), nil, &info)
	return info, err
}

// answer is what is told. before is how the run stood before the watch began, nil where it made
// it: what is told of its state is never newer than the output.
func (w *runWatch) answer(before *runInfo) *runView {
	v := &runView{Session: w.session, RunID: w.run, State: "queued", Next: w.next, More: w.full, Lost: w.lost}
	switch {
	case w.ended != nil:
		v.end(w.ended.Reason, w.ended.ExitCode, w.ended.Signal, w.ended.Message, w.ended.Cwd, w.ended.DurationMS)
	case before != nil && before.Last != nil:
		v.end(before.Reason, before.ExitCode, before.Signal, before.Detail, before.Cwd, before.DurationMS)
	case w.started || before != nil && before.StartedAt != nil:
		v.State = "running"
	}
	if v.State != "finished" {
		if next := w.out.holdBack(); next > 0 {
			v.Next = next
		}
	}
	v.Output = w.out.pieces()
	v.Note = v.note()
	return v
}

func (v *runView) end(reason string, exitCode *int, signal, detail, cwd string, ms int64) {
	v.State, v.Reason, v.ExitCode, v.Signal, v.Detail, v.Cwd, v.DurationMS = "finished", reason, exitCode, signal, detail, cwd, &ms
}

// note says what can be done now.
func (v *runView) note() string {
	on := fmt.Sprintf("read_output with run_id=%s and after=%d", v.RunID, v.Next)
	switch {
	case v.State == "queued":
		return "it waits for the runs before it in its session: " + on + " reads on; interrupt takes it out of the queue"
	case v.State == "running" && v.More:
		return "it goes on, and there is more output already: " + on + " reads on"
	case v.State == "running":
		return "it goes on: " + on + " reads on; write_stdin gives it input if it is interactive; interrupt stops it"
	case v.More:
		return "there is more output: " + on + " reads on"
	}
	return ""
}

// status is how the run stands, in a line.
func (v *runView) status() string {
	line := v.State
	if v.State == "finished" {
		line = strings.ReplaceAll(v.Reason, "_", " ")
		if v.ExitCode != nil {
			line += fmt.Sprintf(", exit code %d", *v.ExitCode)
		}
		if v.Signal != "" {
			line += ", by " + v.Signal
		}
		if v.Detail != "" {
			line += ": " + v.Detail
		}
		line += ", after " + (time.Duration(*v.DurationMS) * time.Millisecond).String()
	}
	if v.Cwd != "" {
		line += ", in " + v.Cwd
	}
	line += fmt.Sprintf(" (run %s, session %s)", v.RunID, v.Session)
	if v.Lost > 0 {
		line += fmt.Sprintf("\n%d bytes and events were no longer kept by the server: output may be missing", v.Lost)
	}
	if v.Note != "" {
		line += "\n" + v.Note
	}
	return line
}

// texts are the answer for who reads: how it stands, and the output as it is.
func (v *runView) texts() []string {
	if output := readable(v.Output); output != "" {
		return []string{v.status(), output}
	}
	return []string{v.status() + "\nno output"}
}

type stdinInput struct {
	RunID   string  `json:"run_id" jsonschema:"the run, which was started with interactive"`
	Session string  `json:"session,omitempty"`
	Text    string  `json:"text,omitempty" jsonschema:"what to write, exactly: end a line with a newline"`
	Close   bool    `json:"close,omitempty" jsonschema:"end standard input after text, as Ctrl-D does"`
	After   *uint64 `json:"after,omitempty" jsonschema:"position from which on to show output, as the last answer had it in next; absent: what comes from now on"`
	WaitMS  int64   `json:"wait_ms" jsonschema:"how many milliseconds to wait at most: the answer comes once the run has put something out and falls silent, or has ended"`
}

// writeStdin is the tool: it gives a run input, and waits for what it answers.
func (g *guest) writeStdin(ctx context.Context, req *mcp.CallToolRequest, in stdinInput) (*runView, error) {
	if in.Text == "" && !in.Close {
		return nil, errors.New("there is nothing to do: give text, or close=true, or both")
	}
	session, err := g.session(ctx, in.Session, false)
	if err != nil {
		return nil, g.explain(err, "")
	}
	before, err := g.d.runInfo(ctx, session, in.RunID)
	if err != nil {
		return nil, g.explain(err, session)
	}
	// A viewer, so that input which the run does not take cannot keep its output from coming.
	w := &runWatch{session: session, run: in.RunID, number: before.Number, after: in.After, view: true,
		wait: time.Duration(in.WaitMS) * time.Millisecond, talk: true}
	w.begin = func(ctx context.Context) error {
		ctx, cancel := context.WithTimeoutCause(ctx, inputWait, errNotRead)
		defer cancel()
		path := sessionPath(session, "run", in.RunID, "stdin")
		if in.Close {
			path += "?close=1"
		}
		return g.d.remote.call(ctx, http.MethodPost, path, strings.NewReader(in.Text), nil)
	}
	stop := w.tell(ctx, req)
	err = g.d.follow(ctx, w)
	stop()
	if err != nil {
		return nil, g.explain(err, session)
	}
	return w.answer(&before), nil
}

// inputWait is how long input waits for a run that does not read.
const inputWait = 10 * time.Second

var errNotRead = errors.New("the run does not read its input, and the server holds as much of it as it can: a part of the text may have been taken; interrupt the run, or wait until it reads")

type readInput struct {
	RunID   string  `json:"run_id" jsonschema:"the run"`
	Session string  `json:"session,omitempty"`
	After   *uint64 `json:"after,omitempty" jsonschema:"position to begin at, as an answer had it in next or in from; absent: the beginning of the run"`
	WaitMS  int64   `json:"wait_ms" jsonschema:"how many milliseconds to wait for the end of the run; 0 answers at once with what there is"`
}

// readOutput is the tool: what a run has put out from a position on, and perhaps its end.
func (g *guest) readOutput(ctx context.Context, req *mcp.CallToolRequest, in readInput) (*runView, error) {
	session, err := g.session(ctx, in.Session, false)
	if err != nil {
		return nil, g.explain(err, "")
	}
	before, err := g.d.runInfo(ctx, session, in.RunID)
	if err != nil {
		return nil, g.explain(err, session)
	}
	end, err := g.d.remote.end(ctx, session)
	if err != nil {
		return nil, g.explain(err, session)
	}
	w := &runWatch{session: session, run: in.RunID, number: before.Number, after: in.After, view: true, wait: watchLimit, until: &end}
	w.out.whole = true
	if w.after == nil {
		w.after = &before.First
	}
	if before.StartedAt == nil {
		w.after = &end // nothing of it can be before that
	}
	if w.next = *w.after; w.next > end {
		return nil, fmt.Errorf("after=%d is beyond the end, which is at %d: give a position that an answer had in next or in from", w.next, end)
	}
	stop := w.tell(ctx, req)
	defer stop()
	if w.next < end {
		if err := g.d.follow(ctx, w); err != nil {
			return nil, g.explain(err, session)
		}
	}
	if in.WaitMS > 0 && before.Last == nil && w.ended == nil && !w.full {
		w.after, w.until, w.begun, w.wait = &w.next, nil, false, time.Duration(in.WaitMS)*time.Millisecond
		if err := g.d.follow(ctx, w); err != nil {
			return nil, g.explain(err, session)
		}
	}
	return w.answer(&before), nil
}

// watchLimit is how long reading what there is may take.
const watchLimit = time.Minute
