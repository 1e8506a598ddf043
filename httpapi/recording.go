package httpapi

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"tandem/sessions"
)

// record answers with a recording of what the journal still has of a session, or of one run
// of it, up to where it is now. It never holds a command back: what retention drops
// meanwhile is a gap in the recording, which says so.
func (a *api) record(w http.ResponseWriter, r *http.Request) error {
	s, err := a.session(r)
	if err != nil {
		return err
	}
	query, err := queryOf(r)
	if err != nil {
		return err
	}
	format, err := recordingFormat(query)
	if err != nil {
		return err
	}
	rec, name, err := newRecording(s, query)
	if err != nil {
		return err
	}
	defer rec.reader.Close()
	if rec.run != nil {
		isAbout(r, runParam, rec.run.ID())
	}
	h := w.Header()
	h.Set("Content-Type", "application/x-asciicast")
	h.Set("Content-Disposition", `attachment; filename="`+name+`.cast"`)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	rec.cast.format = format
	rec.out = a.newOutlet(w)
	if rec.stream(r.Context()) != nil {
		panic(http.ErrAbortHandler) // what was sent must not be taken for a whole recording
	}
	return nil
}

func recordingFormat(query url.Values) (castFormat, error) {
	switch format := query.Get("format"); {
	case !query.Has("format"), format == "v3":
		return castV3, nil
	case format == "v2":
		return castV2, nil
	default:
		return 0, invalid(`the query parameter "format" must be v3 or v2, not %.40q`, format)
	}
}

// A recording turns a journal into an asciicast: the output as a terminal would show it, each
// run's code behind a prompt before its output, and markers for what else happened.
type recording struct {
	out    *outlet
	cast   castEncoder
	reader *sessions.Reader
	run    *sessions.Run // nil: all of the session
	end    uint64        // where the recording ends
	asked  time.Time

	// A gap that has not been told yet, since it has the time of what follows it.
	gapFrom, gapTo uint64

	buf []byte
}

// newRecording attaches to what the query asks for, and returns the name of its file.
func newRecording(s *sessions.Session, query url.Values) (*recording, string, error) {
	rec, name, from := &recording{asked: time.Now()}, s.ID(), uint64(0)
	rec.cast.title = cmp.Or(s.Info().Name, "session "+s.ID())
	if query.Has("run") {
		run, err := s.Run(query.Get("run"))
		if err != nil {
			return nil, "", err
		}
		info := run.Info()
		rec.run, from = run, info.First
		rec.cast.title += ", " + runLabel(&info)
		name += "-" + run.ID()
	}
	reader, snap, err := s.Attach(sessions.AttachOptions{After: &from, Viewer: true, Client: true, By: door})
	if err != nil {
		return nil, "", err
	}
	rec.reader, rec.end = reader, snap.End
	if rec.run != nil {
		// Asked after attaching: if its end lies before snap.End, it is known here.
		if info := rec.run.Info(); info.State == sessions.RunDone {
			rec.end = min(rec.end, info.Last+1)
		}
	}
	return rec, name, nil
}

// stream sends the recording. It fails where the whole of it could not be sent.
func (r *recording) stream(ctx context.Context) error {
	var entries []sessions.Entry
	for pos := r.reader.Start(); pos < r.end; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		clear(entries)
		var err error
		if entries, err = r.reader.Next(entries[:0], int(min(pieceSize, r.end-pos))); err != nil {
			return err
		}
		for _, e := range entries {
			pos = e.End()
			r.add(e)
			if len(r.buf) < writeSize {
				continue
			}
			if err := r.write(); err != nil {
				return err
			}
			r.reader.Took(pos)
		}
	}
	r.tellGap(r.asked)
	r.buf = r.cast.restOfAll(r.buf, r.asked)
	r.buf = r.cast.begin(r.buf, r.asked)
	return r.write()
}

func (r *recording) write() error {
	err := r.out.write(r.buf)
	r.buf = r.buf[:0]
	return err
}

// add appends the events for an entry.
func (r *recording) add(e sessions.Entry) {
	switch {
	case e.Kind == sessions.Gap:
		r.gap(e)
		return
	case !r.shows(e):
		return
	}
	r.tellGap(e.Time)
	switch {
	case e.Kind.Output():
		r.buf = r.cast.output(r.buf, e.Time, castSource{e.Run, e.Kind}, e.Data)
	case e.Kind == sessions.RunStarted:
		r.started(e.Info, e.Time)
	case e.Kind == sessions.RunFinished:
		r.finished(e.Info, e.Time)
	case e.Kind == sessions.ShellRestarted:
		r.mark(e.Time, fmt.Sprintf("shell restarted: %s, restored: %s", e.Restart.Cause, e.Restart.Restored))
	case e.Kind == sessions.SessionClosed:
		r.mark(e.Time, fmt.Sprintf("session closed: %s", e.Closed))
	}
}

// shows reports whether an entry is one of those that were asked for.
func (r *recording) shows(e sessions.Entry) bool {
	switch {
	case r.run == nil:
		return true
	case e.Kind.Output():
		return e.Run == r.run.Number()
	}
	return e.Info != nil && e.Info.Number == r.run.Number()
}

func (r *recording) mark(at time.Time, label string) {
	r.buf = r.cast.marker(r.buf, at, label)
}

// started shows the code of a run as it would have been typed.
func (r *recording) started(run *sessions.RunInfo, at time.Time) {
	r.mark(at, runLabel(run))
	code := strings.ReplaceAll(visible(strings.TrimRight(run.Code, "\n")), "\n", "\n> ")
	if run.CodeTruncated {
		code += "…"
	}
	r.buf = r.cast.line(r.buf, at, "$ "+code)
}

// finished tells how a run ended.
func (r *recording) finished(run *sessions.RunInfo, at time.Time) {
	r.buf = r.cast.rest(r.buf, at, run.Number)
	label := fmt.Sprintf("run %d ended: %s", run.Number, run.Reason)
	for _, more := range []string{run.Signal, run.Detail} {
		if more != "" {
			label += ", " + more
		}
	}
	if run.ExitCode != nil {
		label += fmt.Sprintf(", exit code %d", *run.ExitCode)
	}
	r.mark(at, label)
	if r.run != nil && run.ExitCode != nil {
		r.buf = r.cast.exit(r.buf, at, *run.ExitCode)
	}
}

// gap takes note of positions that are no longer kept. Of a run that began there and is of
// interest after it, the code is known all the same, and of the run that is recorded also the end.
func (r *recording) gap(e sessions.Entry) {
	if r.run == nil {
		r.lose(e.Pos, e.Gap.To)
		if on := e.Gap.Running; on != nil && on.First >= e.Pos && on.First < r.end {
			r.tellGap(on.StartedAt)
			r.started(on, on.StartedAt)
		}
		return
	}
	info := r.run.Info()
	if from, ours := ownGap(info, e); ours && from < r.end {
		if info.First >= e.Pos {
			r.started(&info, info.StartedAt)
		}
		r.lose(from, e.Gap.To)
	}
	if end := endInGap(r.run, e.Gap); end != nil && end.Last < r.end {
		at := e.Time
		if !end.StartedAt.IsZero() {
			at = end.StartedAt.Add(end.Duration)
		}
		r.tellGap(at)
		r.finished(end, at)
	}
}

func (r *recording) lose(from, to uint64) {
	if r.gapTo == 0 {
		r.gapFrom = from
	}
	r.gapTo = min(to, r.end)
}

// tellGap tells, where there was a gap, what is missing.
func (r *recording) tellGap(at time.Time) {
	if r.gapTo == 0 {
		return
	}
	text := fmt.Sprintf("gap: positions %d to %d are no longer kept", r.gapFrom, r.gapTo)
	r.gapTo = 0
	r.buf = r.cast.restOfAll(r.buf, at)
	r.mark(at, text)
	r.buf = r.cast.reset(r.buf, at)
	r.buf = r.cast.line(r.buf, at, "["+text+"]")
}

// labelSize is how many characters of its code the label of a run has at most.
const labelSize = 60

// runLabel is the number of a run and the first line of its code.
func runLabel(run *sessions.RunInfo) string {
	first, more, _ := strings.Cut(strings.TrimSpace(run.Code), "\n")
	label := []rune(visible(first))
	cut := more != "" || len(label) > labelSize
	text := strings.TrimSpace(string(label[:min(len(label), labelSize)]))
	if cut {
		text += "…"
	}
	return fmt.Sprintf("run %d: %s", run.Number, text)
}

// visible writes the control characters of code, but for newlines and tabs, so that they can
// be seen and do nothing to a terminal.
func visible(code string) string {
	var b strings.Builder
	for _, c := range code {
		switch {
		case c == '\n' || c == '\t' || c >= ' ' && c < '\x7f' || c > '\u009f':
			b.WriteRune(c)
		case c <= '\x7f':
			b.WriteByte('^')
			b.WriteRune(c ^ 0x40)
		default:
			b.WriteRune(utf8.RuneError)
		}
	}
	return b.String()
}
