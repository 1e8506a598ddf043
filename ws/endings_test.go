package ws_test

import (
	"testing"
	"time"

	"tandem/sessions"
	"tandem/ws"
)

// TestEveryEnding: however a run ends, whoever asked for it is told how.
func TestEveryEnding(t *testing.T) {
	both(t, func(t *testing.T, opts *ws.DialOptions) {
		d := open(t, sessions.Config{}, ws.Config{})
		p := d.dial(path(d.session(), ""), opts)
		for _, c := range []struct {
			run                     ws.Run
			reason, cause, restored string
		}{
			{ws.Run{Code: "sleep 60", Timeout: 50 * time.Millisecond}, "timed_out", "", ""},
			{ws.Run{Code: "true", Cwd: "/no/such/directory"}, "refused", "", ""},
			{ws.Run{Code: "kill -9 $$"}, "shell_exited", "signal", "checkpoint"},
			{ws.Run{Code: "exec true"}, "exited", "exec", "checkpoint"},
			{ws.Run{Code: "exit 0"}, "exited", "exit", "exit"},
		} {
			p.ask(c.run)
			end := p.until(ws.TypeRunFinished)
			if end.Reason != c.reason || (end.Message != "") != (c.reason == "refused") {
				t.Errorf("%q: %+v, want %s", c.run.Code, end, c.reason)
			}
			if c.cause == "" {
				continue
			}
			if m := p.until(ws.TypeShellRestarted); m.Cause != c.cause || m.Restored != c.restored {
				t.Errorf("%q: %+v, want %s, %s", c.run.Code, m, c.cause, c.restored)
			}
		}
	})
}

// TestFullQueueAndLongCode: what there is no room for is refused with a code of its own.
func TestFullQueueAndLongCode(t *testing.T) {
	both(t, func(t *testing.T, opts *ws.DialOptions) {
		d := open(t, sessions.Config{MaxQueue: 1, MaxCode: 64}, ws.Config{})
		p := d.dial(path(d.session(), ""), opts)
		p.ask(ws.Run{Code: "echo on; sleep 60"})
		p.until(ws.TypeStdout)
		p.ask(ws.Run{Code: "true"})
		p.until(ws.TypeRunQueued)
		for code, want := range map[string]string{"true": "QUEUE_FULL", ": 1234567890123456789012345678901234567890123456789012345678901234": "TOO_LARGE"} {
			p.ask(ws.Run{Code: code})
			if m := p.next(); m.Type != ws.TypeError || m.Code != want {
				t.Errorf("%s: %+v, want %s", code, m, want)
			}
		}
	})
}

// TestEngineEnds: a session that ends for another reason than being deleted says which.
func TestEngineEnds(t *testing.T) {
	both(t, func(t *testing.T, opts *ws.DialOptions) {
		d := open(t, sessions.Config{}, ws.Config{})
		p := d.dial(path(d.session(), ""), opts)
		if err := d.m.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if m := p.until(ws.TypeSessionClosed); m.Reason != "shutdown" {
			t.Errorf("closed: %+v", m)
		}
		if code := p.closed(); code != ws.CloseSessionClosed {
			t.Errorf("closed with %d", code)
		}
	})
}
