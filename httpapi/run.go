package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"tandem/sessions"
)

// reattachGrace is how long a run that its client named waits for a new reader once it has
// lost its last: such a client can come back to it, another cannot.
const reattachGrace = 10 * time.Second

// door is what the engine is told of who asks.
const door = "rest"

// runBody is the body of POST run. The documented names come first, those of the
// published SDKs after them.
type runBody struct {
	Code      *string           `json:"code"`
	Command   *string           `json:"command"`
	TimeoutMS *int64            `json:"timeout_ms"`
	Timeout   *int64            `json:"timeout"`
	Cwd       string            `json:"cwd"`
	Env       map[string]string `json:"env"`
	Stdin     stdinField        `json:"stdin"`
	Detach    bool              `json:"detach"`
	RunID     string            `json:"run_id"`
}

// A stdinField is true for a stream, a string for that text and then the end, and false
// or absent for none.
type stdinField struct {
	mode sessions.Stdin
	text []byte
}

// UnmarshalJSON decodes one of the three.
func (f *stdinField) UnmarshalJSON(data []byte) error {
	*f = stdinField{}
	switch string(data) {
	case "null", "false":
		return nil
	case "true":
		f.mode = sessions.OpenStdin
		return nil
	}
	var text string
	if json.Unmarshal(data, &text) != nil {
		return invalid(`the field "stdin" must be true or a string`)
	}
	f.mode, f.text = sessions.TextStdin, []byte(text)
	return nil
}

// request says the same in the engine's words.
func (b *runBody) request() sessions.RunRequest {
	req := sessions.RunRequest{
		ID: b.RunID, Cwd: b.Cwd, Env: b.Env, By: door,
		Stdin: b.Stdin.mode, StdinText: b.Stdin.text,
		Tethered: !b.Detach,
	}
	if code := firstOf(b.Code, b.Command); code != nil {
		req.Code = *code
	}
	if ms := firstOf(b.TimeoutMS, b.Timeout); ms != nil {
		const most = math.MaxInt64 / int64(time.Millisecond)
		req.Timeout = time.Duration(min(max(*ms, -1), most)) * time.Millisecond
	}
	if b.RunID != "" && !b.Detach {
		req.Grace = reattachGrace
	}
	return req
}

func firstOf[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

// postRun starts a run, or finds the one with the same id and code, and answers it as a
// stream, as one JSON object, or, detached, with its id alone. Whoever goes away before
// the end of a run that is not detached gives it up.
func (a *api) postRun(w http.ResponseWriter, r *http.Request) error {
	s, err := a.session(r)
	if err != nil {
		return err
	}
	var in runBody
	if err := a.readJSON(w, r, &in, false); err != nil {
		return err
	}
	resume, err := resumePosition(r)
	if err != nil {
		return err
	}
	req := in.request()
	req.Context = r.Context()
	var reader *sessions.Reader
	if _, unknown := s.Run(in.RunID); unknown != nil && !in.Detach {
		// Before the run can begin, which nobody holds back without a reader.
		if reader, err = attachToRun(s, r, nil, in.RunID != ""); err != nil {
			return err
		}
		defer reader.Close()
	}
	run, created, err := s.Submit(req)
	if err != nil {
		return err
	}
	isAbout(r, runParam, run.ID())
	if in.Detach {
		if !created {
			run.Hold()(true) // from now on it needs nobody to hold it, whoever asked for it first
		}
		return a.writeJSON(w, http.StatusAccepted, map[string]string{"run_id": run.ID()})
	}
	if created {
		resume = nil
	} else if reader != nil { // somebody else was quicker
		reader.Close()
		reader = nil
	}
	stream := !listed(r.Header, "Accept", "application/json") || wantsStream(r)
	return a.answerRun(w, r, &reading{session: s, run: run, reader: reader, after: resume, stream: stream, lasting: in.RunID != ""})
}

func wantsStream(r *http.Request) bool { return listed(r.Header, "Accept", "text/event-stream") }

// A reading is how a client reads a run.
type reading struct {
	session *sessions.Session
	run     *sessions.Run
	reader  *sessions.Reader // from the beginning; nil: there is none yet
	after   *uint64          // it goes on from there; nil: from the beginning
	stream  bool             // or as one object
	lasting bool             // the client knows the run's id beforehand, and can come back to it
}

// from is where in the journal it begins.
func (d *reading) from() uint64 {
	if d.after == nil {
		return d.run.From()
	}
	return max(d.run.From(), *d.after)
}

// answerRun holds on to a run while its client reads it, from a position on and to its end.
// It returns later where it waits for a client that went away.
func (a *api) answerRun(w http.ResponseWriter, r *http.Request, d *reading) error {
	var f *follower              // nil: the client cannot come back
	defer func() { f.leave() }() // last: the run waits for a reader meanwhile as well
	release, cut := d.run.Hold(), false
	defer func() { release(cut) }()
	from := d.from()
	reader, err := d.reader, error(nil)
	if reader == nil {
		if reader, err = attachToRun(d.session, r, &from, d.lasting); err != nil {
			return err
		}
	}
	defer reader.Close()
	if d.lasting {
		f = a.audience.join(d.run, from, d.after != nil)
	}
	if !d.stream {
		return a.collectRun(w, r, d.run, reader)
	}
	err = a.streamRun(w, r, d.session, d.run, reader, from)
	cut = cutOff(err, reader)
	if d.lasting && !cut && hasLeft(r) {
		f.expect(d.session, a.absence)
	}
	return err
}

// attachToRun adds a reader for who reads a run, from a position on; nil: from now on.
func attachToRun(s *sessions.Session, r *http.Request, from *uint64, lasting bool) (*sessions.Reader, error) {
	opts := sessions.AttachOptions{After: from, Viewer: ViewOnly(r), By: door, Unhurried: true}
	if lasting {
		opts.Lag = nearEnd
	}
	reader, _, err := s.Attach(opts)
	return reader, err
}

// hasLeft reports whether the client of a request that is being answered is gone.
func hasLeft(r *http.Request) bool { return context.Cause(r.Context()) == context.Canceled }

// cutOff reports whether a stream ended because its client had stopped reading, which is
// our doing and not its. A write that ran out of time has outlasted the engine's limit.
func cutOff(err error, reader *sessions.Reader) bool {
	if !errors.Is(err, errGone) {
		return false
	}
	_, cut := reader.Next(nil, 0)
	return errors.Is(cut, sessions.ErrStalled) || errors.Is(err, os.ErrDeadlineExceeded)
}

func refused(info sessions.RunInfo) error {
	if info.Reason != sessions.ReasonRefused {
		return nil
	}
	return &sessions.Error{Kind: info.Refusal, Message: info.Detail}
}

// streamRun answers with the events of a run. Once it has begun, whatever goes wrong can
// only end it.
func (a *api) streamRun(w http.ResponseWriter, r *http.Request, s *sessions.Session, run *sessions.Run, reader *sessions.Reader, from uint64) error {
	if r.Method == http.MethodHead {
		if err := refused(run.Info()); err != nil {
			return err
		}
		startStream(w)
		return nil
	}
	sink := &eventSink{w: w, out: a.newOutlet(w), run: run, beat: &a.beat, pos: from, took: reader.Took}
	sink.open(s.ID())
	end, err := follow(r.Context(), run, reader, sink)
	if err == nil && !sink.begun() {
		err = refused(*end)
	}
	if err == nil {
		err = sink.finish(end)
	}
	if err != nil && sink.begun() && !errors.Is(err, errGone) {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	return err
}

// A runResult is the answer of a run as one object.
type runResult struct {
	RunID        string          `json:"run_id"`
	ExitCode     *int            `json:"exit_code"`
	Reason       sessions.Reason `json:"reason"`
	Signal       string          `json:"signal,omitempty"`
	Stdout       string          `json:"stdout"`
	Stderr       string          `json:"stderr"`
	StdoutBase64 []byte          `json:"stdout_base64,omitempty"`
	StderrBase64 []byte          `json:"stderr_base64,omitempty"`
	Truncated    bool            `json:"truncated"`
	DurationMS   int64           `json:"duration_ms"`
	Cwd          string          `json:"cwd"`
}

// collectRun answers with one object when the run has ended.
func (a *api) collectRun(w http.ResponseWriter, r *http.Request, run *sessions.Run, reader *sessions.Reader) error {
	var kept tailSink
	end, err := follow(r.Context(), run, reader, &kept)
	if err == nil {
		err = refused(*end)
	}
	if err != nil {
		return err
	}
	answer := runResult{
		RunID: end.ID, ExitCode: end.ExitCode, Reason: end.Reason, Signal: end.Signal,
		DurationMS: end.Duration.Milliseconds(), Cwd: end.Cwd,
	}
	answer.Stdout, answer.StdoutBase64 = asText(kept.stdout.bytes())
	answer.Stderr, answer.StderrBase64 = asText(kept.stderr.bytes())
	answer.Truncated = kept.gaps || kept.stdout.cut || kept.stderr.cut
	return a.writeJSON(w, http.StatusOK, answer)
}

// asText is p as text and, where that would not be exact, as the bytes it is beside it.
func asText(p []byte) (text string, exact []byte) {
	if utf8.Valid(p) {
		return string(p), nil
	}
	return strings.ToValidUTF8(string(p), "\ufffd"), p
}

// runView is a run in answers.
type runView struct {
	RunID         string            `json:"run_id"`
	Number        uint64            `json:"number"`
	State         sessions.RunState `json:"state"`
	Code          string            `json:"code"`
	CodeTruncated bool              `json:"code_truncated,omitempty"`
	By            string            `json:"by"`
	StartedAt     *int64            `json:"started_at"` // null: not started
	First         uint64            `json:"first"`
	*runEnd                         // absent until it has finished
}

type runEnd struct {
	ExitCode   *int            `json:"exit_code"`
	Reason     sessions.Reason `json:"reason"`
	Signal     string          `json:"signal,omitempty"`
	DurationMS int64           `json:"duration_ms"`
	Cwd        string          `json:"cwd"`
	Last       uint64          `json:"last"`
	Detail     string          `json:"detail,omitempty"`
}

func viewRun(info sessions.RunInfo) runView {
	view := runView{
		RunID: info.ID, Number: info.Number, State: info.State,
		Code: info.Code, CodeTruncated: info.CodeTruncated, By: info.By, First: info.First,
	}
	if !info.StartedAt.IsZero() {
		ms := info.StartedAt.UnixMilli()
		view.StartedAt = &ms
	}
	if info.State == sessions.RunDone {
		view.runEnd = &runEnd{
			ExitCode: info.ExitCode, Reason: info.Reason, Signal: info.Signal,
			DurationMS: info.Duration.Milliseconds(), Cwd: info.Cwd, Last: info.Last, Detail: info.Detail,
		}
	}
	return view
}

// run finds the run the path names.
func (a *api) run(r *http.Request) (*sessions.Session, *sessions.Run, error) {
	s, err := a.session(r)
	if err != nil {
		return nil, nil, err
	}
	run, err := s.Run(pathParam(r, "run_id"))
	return s, run, err
}

// listRuns answers the runs that are remembered, newest first.
func (a *api) listRuns(w http.ResponseWriter, r *http.Request) error {
	s, err := a.session(r)
	if err != nil {
		return err
	}
	views := []runView{}
	for _, run := range s.Runs() {
		views = append(views, viewRun(run.Info()))
	}
	return a.writeJSON(w, http.StatusOK, map[string]any{"runs": views})
}

// getRun answers a run as it is, or with "wait" as it is once it has ended or that much
// time has passed.
func (a *api) getRun(w http.ResponseWriter, r *http.Request) error {
	_, run, err := a.run(r)
	if err != nil {
		return err
	}
	wait, err := patience(r)
	if err != nil {
		return err
	}
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-run.Done():
		case <-timer.C:
		case <-r.Context().Done():
			return context.Cause(r.Context())
		}
	}
	return a.writeJSON(w, http.StatusOK, viewRun(run.Info()))
}

func (a *api) cancelRun(w http.ResponseWriter, r *http.Request) error {
	s, err := a.session(r)
	if err != nil {
		return err
	}
	if err := s.Cancel(pathParam(r, "run_id")); err != nil {
		return err
	}
	return a.done(w)
}

// writeStdin passes the body on as it comes, and answers when the engine has all of it.
func (a *api) writeStdin(w http.ResponseWriter, r *http.Request) error {
	_, run, err := a.run(r)
	if err != nil {
		return err
	}
	closing, err := flag(r, "close")
	if err != nil {
		return err
	}
	// A refusal must not wait for a body that may never end.
	_ = http.NewResponseController(w).EnableFullDuplex()
	if err := run.WriteStdin(r.Context(), nil); err != nil {
		return err
	}
	unboundBody(w)
	total, err := feedUntilEnd(w, r, run)
	if err != nil {
		return err
	}
	if closing {
		if err := run.CloseStdin(); err != nil {
			return err
		}
	}
	return a.writeJSON(w, http.StatusOK, map[string]int64{"bytes": total})
}

// feedUntilEnd is feed, but that a client which sends nothing more does not keep the request
// when the run has ended.
func feedUntilEnd(w http.ResponseWriter, r *http.Request, run *sessions.Run) (total int64, err error) {
	fed := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-run.Done():
			_ = http.NewResponseController(w).SetReadDeadline(time.Now())
		case <-fed:
		}
	})
	total, err = feed(r, run)
	close(fed)
	watch.Wait()
	unboundBody(w)
	return total, err
}

// feed writes the body of r to the run's stdin, as fast as the run reads.
func feed(r *http.Request, run *sessions.Run) (total int64, err error) {
	buf := make([]byte, 32<<10)
	for {
		n, failure := r.Body.Read(buf)
		if err := run.WriteStdin(r.Context(), buf[:n]); err != nil {
			return total, err
		}
		total += int64(n)
		if failure == io.EOF {
			return total, nil
		}
		if errors.Is(failure, os.ErrDeadlineExceeded) {
			return total, run.WriteStdin(r.Context(), nil) // says that the run has ended
		}
		if failure != nil {
			return total, invalid("the body could not be read to its end; %d bytes of it went to the run", total)
		}
	}
}

// flag reads a yes or no from the query.
func flag(r *http.Request, name string) (bool, error) {
	query, err := queryOf(r)
	if err != nil {
		return false, err
	}
	switch query.Get(name) {
	case "", "0", "false":
		return false, nil
	case "1", "true":
		return true, nil
	}
	return false, invalid("the query parameter %q must be 1 or true, 0 or false, not %.40q", name, query.Get(name))
}
