package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"tandem/sessions"
)

// An outputView is a stretch of one run's output. Asking again with after=Next goes on
// exactly where it ends.
type outputView struct {
	RunID        string            `json:"run_id"`
	State        sessions.RunState `json:"state"`
	Stdout       string            `json:"stdout"`
	Stderr       string            `json:"stderr"`
	StdoutBase64 []byte            `json:"stdout_base64,omitempty"`
	StderrBase64 []byte            `json:"stderr_base64,omitempty"`
	Next         uint64            `json:"next"`
	Truncated    bool              `json:"truncated"`
}

// runOutput answers what one run has written from a position on: as a stream that goes on
// to its end, or as one object, with "wait" not before there is something in it or the run
// has ended.
func (a *api) runOutput(w http.ResponseWriter, r *http.Request) error {
	s, run, err := a.run(r)
	if err != nil {
		return err
	}
	after, err := resumePosition(r)
	if err != nil {
		return err
	}
	wait, err := patience(r)
	if err != nil {
		return err
	}
	d := &reading{session: s, run: run, after: after, stream: true, lasting: !ViewOnly(r)}
	if wantsStream(r) {
		return a.answerRun(w, r, d)
	}
	from := d.from()
	reader, _, err := s.Attach(sessions.AttachOptions{After: &from, Viewer: true, By: door})
	if err != nil {
		return err
	}
	defer reader.Close()
	if wait > 0 {
		if err := awaitOutput(r.Context(), run, reader, wait); err != nil {
			return err
		}
	}
	return a.writeJSON(w, http.StatusOK, viewOutput(run, from))
}

func viewOutput(run *sessions.Run, from uint64) outputView {
	info := run.Info() // before the output: what is called finished here is all there
	entries, next, truncated := run.Output(from, keepOutput)
	var kept tailSink
	for _, e := range entries {
		_ = kept.output(e) // keeping cannot fail
	}
	view := outputView{RunID: info.ID, State: info.State, Next: next, Truncated: truncated}
	view.Stdout, view.StdoutBase64 = asText(kept.stdout.bytes())
	view.Stderr, view.StderrBase64 = asText(kept.stderr.bytes())
	return view
}

// awaitOutput returns when the reader has come upon output of the run, the run has ended,
// or wait has passed.
func awaitOutput(ctx context.Context, run *sessions.Run, reader *sessions.Reader, wait time.Duration) error {
	ctx, stop := context.WithTimeoutCause(ctx, wait, errWaited)
	defer stop()
	_, err := follow(ctx, run, reader, &untilOutput{})
	if errors.Is(err, errWaited) {
		return nil
	}
	return err
}

var errWaited = errors.New("waited long enough")

// untilOutput is a sink that is content with the first output it sees.
type untilOutput struct{ tailSink }

func (*untilOutput) output(sessions.Entry) error         { return errWaited }
func (*untilOutput) gap(uint64, uint64, time.Time) error { return errWaited }
