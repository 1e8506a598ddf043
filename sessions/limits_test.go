package sessions_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"tandem/sessions"
	"tandem/sessions/sessionstest"
)

// Each limit refuses what is beyond it, says what it is, and leaves the session as it was.
func TestConfiguredLimits(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{MaxSessions: 2, MaxQueue: 1, MaxClients: 1, MaxCode: 64, MaxEnv: 16})
	s := sessionstest.Session(t, m)
	busy := sessionstest.Submit(t, s, sessions.RunRequest{Code: "read x", Stdin: sessions.OpenStdin})
	<-busy.Started()
	queued := sessionstest.Submit(t, s, sessions.RunRequest{Code: "echo queued"})
	reader, _, err := s.Attach(sessions.AttachOptions{Client: true})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	sessionstest.Session(t, m)
	submit := func(r sessions.RunRequest) func() error {
		return func() error { _, _, err := s.Submit(r); return err }
	}
	for name, c := range map[string]struct {
		ask  func() error
		kind error
		says string
	}{
		"sessions": {func() error { _, err := m.Create(sessions.Options{}); return err }, sessions.ErrTooMany, "2 sessions"},
		"queue":    {submit(sessions.RunRequest{Code: "echo no"}), sessions.ErrQueueFull, "1 runs wait"},
		"clients": {func() error {
			_, _, err := s.Attach(sessions.AttachOptions{Client: true})
			return err
		}, sessions.ErrTooMany, "1 clients"},
		"code":      {submit(sessions.RunRequest{Code: strings.Repeat(":", 65)}), sessions.ErrTooLarge, "at most 64"},
		"stdin":     {submit(sessions.RunRequest{Code: ":", Stdin: sessions.TextStdin, StdinText: make([]byte, 65)}), sessions.ErrTooLarge, "at most 64"},
		"run's env": {submit(sessions.RunRequest{Code: ":", Env: map[string]string{"ABCDEFGH": "123456789"}}), sessions.ErrTooLarge, "at most 16"},
		"session's ": {func() error {
			_, err := m.Create(sessions.Options{Env: map[string]string{"ABCDEFGH": "123456789"}})
			return err
		}, sessions.ErrTooLarge, "at most 16"},
	} {
		if err := c.ask(); !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v that says %q", name, err, c.kind, c.says)
		}
	}
	if err := busy.CloseStdin(); err != nil {
		t.Fatal(err)
	}
	sessionstest.Wait(t, busy)
	sessionstest.Wait(t, queued)
	if got := sessionstest.Run(t, s, "echo well").Stdout; got != "well\n" {
		t.Errorf("afterwards %q", got)
	}
}

// The memory for output says how many sessions there can be, and what waits is bounded too.
func TestMemoryLimits(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{Retention: sessions.MinRetention, Memory: 2 * sessions.MinRetention})
	s := sessionstest.Session(t, m)
	sessionstest.Session(t, m)
	if _, err := m.Create(sessions.Options{}); !errors.Is(err, sessions.ErrTooMany) || !strings.Contains(err.Error(), "2 sessions") {
		t.Errorf("a third: %v", err)
	}
	busy := sessionstest.Submit(t, s, sessions.RunRequest{Code: "read x", Stdin: sessions.OpenStdin})
	<-busy.Started()
	long := ": " + strings.Repeat("x", sessions.MaxCode-2)
	for range 4 {
		sessionstest.Submit(t, s, sessions.RunRequest{Code: long})
	}
	if _, _, err := s.Submit(sessions.RunRequest{Code: ":"}); !errors.Is(err, sessions.ErrQueueFull) || !strings.Contains(err.Error(), "bytes of code") {
		t.Errorf("a fifth: %v", err)
	}
}

// A shell that may open too few files to be told anything is replaced, where we may not give
// it more.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	for _, n := range []int{5, 6, 7, 10} {
		s := sessionstest.Session(t, m)
		sessionstest.Run(t, s, fmt.Sprintf("ulimit -n %d", n))
		for range 2 {
			if r := sessionstest.Run(t, s, "echo here; exit 3"); r.Stdout != "here\n" || r.Code() != 3 {
				t.Errorf("%d: %q, %d", n, r.Stdout, r.Code())
			}
		}
	}
}
