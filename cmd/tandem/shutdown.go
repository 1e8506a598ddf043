package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// A stage is one step of the end of the server.
type stage struct {
	name  string
	limit time.Duration // how long the next stage may be kept waiting
	vital bool          // its failure is a failure of the whole
	end   func(ctx context.Context) error
}

// stages is the order in which the server ends; by then it is not ready any more and refuses
// what is new. Each step makes the next one short: when runs have ended, their streams end
// with what they were owed; and only when nobody is connected are sessions taken away, so
// that a client which reconnects to the next server is never told that its session was deleted.
//
// A listener of the server's own stays open until the last streams: who asks meanwhile is
// told that the server stops, and a load balancer that it is not ready. One that was passed
// is let go of first: who connects from then on waits in it for the next server.
//
// The limits add up to less than the ten seconds that supervisors commonly allow.
func (s *server) stages() []stage {
	stages := []stage{
		{name: "runs", limit: 3 * time.Second, end: s.manager.Drain},
		{name: "sockets", limit: 2500 * time.Millisecond, end: s.sockets.Close},
		{name: "streams", limit: time.Second, end: s.endStreams},
		{name: "sessions", limit: 2500 * time.Millisecond, vital: true, end: s.endSessions},
	}
	if s.passed {
		intake := stage{name: "intake", limit: 500 * time.Millisecond, end: s.endIntake}
		stages = append([]stage{intake}, stages...)
	}
	return stages
}

// shutDown goes through the stages, each to its end or its limit, whatever became of the
// ones before. It returns the errors of the vital ones and logs the others.
func shutDown(log *slog.Logger, stages []stage) error {
	var failed error
	for _, st := range stages {
		ctx, cancel := context.WithTimeout(context.Background(), st.limit)
		err := st.end(ctx)
		cancel()
		switch {
		case err != nil && st.vital:
			failed = errors.Join(failed, fmt.Errorf("end %s: %w", st.name, err))
		case err != nil:
			log.Warn("not ended in time", "stage", st.name, "error", err)
		}
	}
	if failed == nil {
		log.Info("ended")
	}
	return failed
}

// endIntake closes the listener and every idle connection. Requests under way go on.
func (s *server) endIntake(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	cancel() // Shutdown closes first and waits then, and the waiting is for later
	if err := s.http.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// endSessions ends what is left. The last runs have ended by then, and traces of them are
// handed over meanwhile.
func (s *server) endSessions(ctx context.Context) error {
	var handover sync.WaitGroup
	handover.Go(func() {
		if err := s.traces.close(ctx); err != nil {
			s.log.Warn("end traces", "error", err)
		}
	})
	defer handover.Wait()
	return s.manager.Close(ctx)
}

// streamGrace is how long streams may take to write what they were owed when their runs
// ended, before they are told to end themselves: a few writes to a client that reads.
const streamGrace = 300 * time.Millisecond

// endStreams closes the listener and waits for the answers under way: those that end by themselves, then those
// that have to be told, and at last it closes the connections of the others. Hijacked ones
// are not among them: those are the sockets.
func (s *server) endStreams(ctx context.Context) error {
	grace, cancel := context.WithTimeout(ctx, streamGrace)
	defer cancel()
	if s.http.Shutdown(grace) == nil {
		return nil
	}
	s.streams()
	if s.http.Shutdown(ctx) == nil {
		return nil
	}
	return s.http.Close()
}
