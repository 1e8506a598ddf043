package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"tandem/ws"
)

const (
	// quietAfter is how long a conversation must be silent, after something was said, until the
	// run is taken to wait for input: longer than a program pauses in what it says. Of one
	// that says nothing it is known less: it is given quietAtFirst.
	quietAfter   = 500 * time.Millisecond
	quietAtFirst = 2 * time.Second

	// watchPatience is how long a connection that is lost under a call is sought for.
	watchPatience = 10 * time.Second

	// progressEach is how often a client is told of progress, and progressSilent how often where
	// there is none: clients may give up a call that they hear nothing of.
	progressEach   = 500 * time.Millisecond
	progressSilent = 5 * time.Second
)

// Why a runWatch ends before its run does.
var (
	errWaited  = errors.New("waited for as long as was asked")
	errQuiet   = errors.New("nothing more came")
	errNoState = errors.New("the session has ended")
)

// A runWatch follows one run, and keeps its output.
type runWatch struct {
	session, run string
	number       uint64                      // of the run; 0: not known yet
	after        *uint64                     // begin here; nil: with what happens now
	until        *uint64                     // and end here at the latest
	wait         time.Duration               // and then at the latest
	talk         bool                        // and when the run is silent, as quietAfter says
	begin        func(context.Context) error // called once it is attached; may be nil
	view         bool                        // never hold the run back
	out          kept

	begun   bool
	started bool        // the run was seen to
	full    bool        // there may be more output, for which there is no room
	next    uint64      // where to go on
	lost    uint64      // positions that were no longer kept
	ended   *ws.Message // how the run ended, once that was seen
	hush    *time.Timer
	expired *time.Timer
}

// follow returns when the watch has come to its end. It fails when ctx ends, and with what
// begin or the server fails with.
func (d *mcpDoor) follow(ctx context.Context, w *runWatch) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w.hush = time.AfterFunc(time.Hour, func() { cancel(errQuiet) })
	w.hush.Stop()
	defer w.hush.Stop()
	w.expired = time.AfterFunc(time.Hour, func() { cancel(errWaited) })
	w.expired.Stop()
	defer w.expired.Stop()

	opts := &ws.SessionOptions{DialOptions: d.remote.dialOptions(), After: w.after, View: w.view, Patience: watchPatience}
	err := ws.Follow(ctx, d.remote.base, w.session, opts, func(m ws.Message) error { return w.take(ctx, &m) })
	switch {
	case errors.Is(err, errAll), errors.Is(err, errWaited), errors.Is(err, errQuiet):
		return nil
	case err == nil:
		return errNoState
	}
	return err
}

func (w *runWatch) take(ctx context.Context, m *ws.Message) error {
	switch {
	case m.Type == ws.TypeAttached:
		if w.next = max(w.next, m.Pos); !w.begun {
			w.begun = true
			if w.begin != nil {
				if err := w.begin(ctx); err != nil {
					return err
				}
			}
			w.expired.Reset(w.wait)
			if w.talk {
				w.hush.Reset(quietAtFirst)
			}
		}
	case m.IsOutput() && m.Number == w.number && w.number > 0:
		if n := w.out.add(m.Type, m.Data, m.Pos); n < len(m.Data) {
			w.full, w.next = true, m.Pos+uint64(n)
			return errAll
		}
		if w.talk {
			w.hush.Reset(quietAfter)
		}
	case m.Type == ws.TypeRunStarted && m.RunID == w.run:
		w.number, w.started = m.Number, true
	case m.Type == ws.TypeRunFinished && m.RunID == w.run:
		w.finish(*m)
	case m.Type == ws.TypeGap:
		w.gap(m)
	}
	if m.Placed || m.Type == ws.TypeGap {
		w.next = m.End()
	}
	if w.ended != nil && w.until == nil || w.until != nil && w.next >= *w.until {
		return errAll
	}
	return nil
}

func (w *runWatch) finish(m ws.Message) { w.ended = &m }

func (w *runWatch) gap(m *ws.Message) {
	if m.Run != nil && m.Run.RunID == w.run {
		w.number, w.started = m.Run.Number, true
	}
	for _, end := range m.Finished {
		if end.RunID == w.run {
			w.finish(end)
		}
	}
	if w.number > 0 || w.ended != nil {
		w.lost += m.To - m.From
	}
}

// tell has the client told how the run gets on, if it asked for that, until stop is called,
// which waits for it.
func (w *runWatch) tell(ctx context.Context, req *mcp.CallToolRequest) (stop func()) {
	token := req.Params.GetProgressToken()
	if token == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		begun, tick := time.Now(), time.NewTicker(progressEach)
		defer tick.Stop()
		told, when := uint64(0), begun
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			total, line := w.out.soFar()
			if total == told && time.Since(when) < progressSilent {
				continue
			}
			told, when = total, time.Now()
			message := fmt.Sprintf("%d bytes of output so far", total)
			if line != "" {
				message += ": " + line
			}
			_ = req.Session.NotifyProgress(ctx, &mcp.ProgressNotificationParams{
				ProgressToken: token, Progress: time.Since(begun).Round(time.Millisecond).Seconds(), Message: message,
			})
		}
	}()
	return func() { cancel(); <-done }
}
