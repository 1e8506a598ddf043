package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"tandem/sessions"
)

const (
	// writeSize is when an encoded batch is written before it is complete.
	writeSize = 128 << 10

	// pingEvery is the silence after which a run's stream gets a ping. Clients of the
	// reference server count on it.
	pingEvery = 3 * time.Second

	// lineWait is how long a line begun waits for its end, and then the first bytes of a character
	// for the others: clients take an event for a line, and many commands write one in pieces.
	lineWait = 20 * time.Millisecond

	// firstWait is how long the events that every stream begins with wait for something to go
	// with: most runs write or have ended by then, and each packet costs as much as the rest
	// of a short run's answer.
	firstWait = 5 * time.Millisecond

	// startWait is how long they wait for a run that is queued to start, so that a refusal
	// is still a status of its own.
	startWait = time.Second
)

// eventSink streams a run as server-sent events. It is a stream from the first that is sent:
// until then, the answer may become another.
type eventSink struct {
	w     http.ResponseWriter
	out   *outlet
	run   *sessions.Run
	beat  *metronome
	lines lineEncoder
	buf   []byte
	pos   uint64       // everything below is in the stream
	first time.Time    // when the first events were encoded; zero: they wait no longer
	begin time.Time    // since when what the line encoder keeps waits for more
	sent  time.Time    // when something last was; zero: nothing was
	took  func(uint64) // is told how far the client is
}

// begun reports whether the client has been sent something.
func (s *eventSink) begun() bool { return !s.sent.IsZero() }

func (s *eventSink) output(e sessions.Entry) error {
	s.first = time.Time{}
	was := len(s.lines.begun)
	s.buf = s.lines.output(s.buf, e.Kind, e.Pos, e.Time.UnixMilli(), e.Data)
	if was == 0 || len(s.lines.begun) != was+len(e.Data) {
		s.begin = e.Time
	}
	if len(s.buf) < writeSize {
		return nil
	}
	return s.write()
}

// A gapEvent has no text: clients print the text of events they do not know.
type gapEvent struct {
	Type      string `json:"type"`
	From      uint64 `json:"from"`
	To        uint64 `json:"to"`
	Timestamp int64  `json:"timestamp"`
}

func (s *eventSink) gap(from, to uint64, at time.Time) error {
	s.buf = s.lines.rest(s.buf)
	return s.event(to, gapEvent{Type: "gap", From: from, To: to, Timestamp: at.UnixMilli()})
}

func (s *eventSink) batch(pos uint64) error {
	s.pos = pos
	if s.holding() {
		return nil
	}
	return s.sendOrPing()
}

// holding reports whether the first events still wait.
func (s *eventSink) holding() bool {
	waited := time.Since(s.first)
	return waited < firstWait || waited < startWait && !isClosed(s.run.Started())
}

// hold waits for as long as they do, or less.
func (s *eventSink) hold(ctx context.Context, wake, ended <-chan struct{}) error {
	waited := time.Since(s.first)
	if waited >= firstWait {
		_, err := awaitAny(ctx, wake, s.run.Started(), startWait-waited)
		return err
	}
	select {
	case <-s.beat.next():
	case <-wake:
	case <-ended:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return nil
}

// wait sends a line begun that has waited long enough, and pings for as long as nothing happens.
func (s *eventSink) wait(ctx context.Context, wake, ended <-chan struct{}) error {
	if s.holding() {
		return s.hold(ctx, wake, ended)
	}
	for {
		now := time.Now()
		s.sendBegun(now)
		if err := s.sendOrPing(); err != nil {
			return err
		}
		due := s.sent.Add(pingEvery)
		if len(s.lines.begun) > 0 {
			due = s.begin.Add(lineWait)
		}
		if woken, err := awaitAny(ctx, wake, ended, due.Sub(now)); woken || err != nil {
			return err
		}
	}
}

// sendBegun encodes a line begun for which it is time, as far as its characters are whole, or
// what it kept of them the last time.
func (s *eventSink) sendBegun(now time.Time) {
	was := len(s.lines.begun)
	if was == 0 || now.Sub(s.begin) < lineWait {
		return
	}
	s.begin = now
	if s.buf = s.lines.restOfRunes(s.buf); len(s.lines.begun) == was {
		s.buf = s.lines.rest(s.buf)
	}
}

// awaitAny reports whether wake or ended had something within the time.
func awaitAny(ctx context.Context, wake, ended <-chan struct{}, limit time.Duration) (woken bool, err error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-timer.C:
		return false, nil
	case <-wake:
		return true, nil
	case <-ended:
		return true, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// sendOrPing sends what there is, and a ping where there has been nothing for too long.
func (s *eventSink) sendOrPing() error {
	if now := time.Now(); len(s.buf) == 0 && len(s.lines.begun) == 0 && now.Sub(s.sent) >= pingEvery {
		s.ping(now)
	}
	return s.send()
}

// open begins with what every stream of a run begins with. It is sent by wait at the latest.
func (s *eventSink) open(session string) {
	s.first = time.Now()
	s.buf = append(appendID(make([]byte, 0, firstSize), s.pos), `{"type":"init","text":"`...)
	s.buf = append(append(s.buf, session...), `","run_id":"`...)
	s.buf = append(append(s.buf, s.run.ID()...), '"') // neither has a character that JSON would escape
	s.buf = appendStamp(s.buf, s.first.UnixMilli())
	s.ping(s.first)
}

// firstSize is room for what most runs have to tell.
const firstSize = 512

func (s *eventSink) ping(now time.Time) {
	s.buf = append(appendID(s.buf, s.pos), `{"type":"ping","text":"pong"`...)
	s.buf = appendStamp(s.buf, now.UnixMilli())
}

// finish writes what is left and the one event that ends the stream of a run. The server
// sends it, together with the end of the answer, when the handler returns; a stream that is
// nothing else is whole already, and goes before anything else is done about the request.
func (s *eventSink) finish(end *sessions.RunInfo) error {
	s.buf = s.lines.rest(s.buf)
	if err := s.ended(end, time.Now()); err != nil {
		return err
	}
	if s.begun() {
		return s.write()
	}
	s.w.Header().Set("Content-Length", strconv.Itoa(len(s.buf)))
	return s.send()
}

func (s *eventSink) event(id uint64, v any) (err error) {
	s.buf, err = appendEvent(s.buf, id, v)
	return err
}

// write sends what is encoded, and lets a slow client's progress be seen within a batch, so
// that it is not taken for one that stopped.
func (s *eventSink) write() error {
	if !s.begun() {
		startStream(s.w)
	}
	err := s.out.write(s.buf)
	s.buf = s.buf[:0]
	s.sent, s.first = time.Now(), time.Time{}
	if err == nil {
		s.took(s.lines.end - uint64(len(s.lines.begun)))
	}
	return err
}

func (s *eventSink) send() error {
	if len(s.buf) == 0 {
		return nil
	}
	if err := s.write(); err != nil {
		return err
	}
	return s.out.flush()
}

type errorEvent struct {
	Type      string    `json:"type"`
	Error     errorInfo `json:"error"`
	Timestamp int64     `json:"timestamp"`
}

type errorInfo struct {
	EName     string   `json:"ename"`
	EValue    string   `json:"evalue"`
	Traceback []string `json:"traceback"`
}

// ended is the event that tells how a run ended.
func (s *eventSink) ended(end *sessions.RunInfo, now time.Time) error {
	id := max(s.pos, end.Last+1)
	if end.Reason == sessions.ReasonExited && *end.ExitCode == 0 {
		s.buf = append(appendID(s.buf, id), `{"type":"execution_complete","execution_time":`...)
		s.buf = append(strconv.AppendInt(s.buf, end.Duration.Milliseconds(), 10), `,"exit_code":0`...)
		s.buf = appendStamp(s.buf, now.UnixMilli())
		return nil
	}
	return s.event(id, errorEvent{Type: "error", Error: describeEnd(end), Timestamp: now.UnixMilli()})
}

func describeEnd(end *sessions.RunInfo) errorInfo {
	code := ""
	if end.ExitCode != nil {
		code = strconv.Itoa(*end.ExitCode)
	}
	e := errorInfo{EValue: code}
	trace := "exit status " + code
	switch end.Reason {
	case sessions.ReasonTimedOut:
		e.EName, trace = "CommandTimeout", fmt.Sprintf("timed out after %v", end.Duration.Round(time.Millisecond))
	case sessions.ReasonInterrupted:
		e.EName, trace = "CommandInterrupted", "interrupted"
	case sessions.ReasonShellExited:
		e.EName, trace = "ShellExited", "signal: "+end.Signal
	case sessions.ReasonCanceled:
		e.EName, trace = "CommandCanceled", "canceled"
	case sessions.ReasonSessionClosed:
		e.EName, trace = "SessionClosed", "the session was closed"
	case sessions.ReasonRefused:
		e.EName, e.EValue, trace = "InvalidCwd", end.Detail, end.Detail
	default:
		e.EName = "CommandExecError"
	}
	e.Traceback = []string{trace}
	return e
}
