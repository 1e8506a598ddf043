package httpapi_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/httpapi"
	"tandem/sessions"
)

// A readerCount observes how many readers that must see all have come and gone.
type readerCount struct {
	mu         sync.Mutex
	come, gone int
	changed    chan struct{}
}

func newReaderCount() *readerCount { return &readerCount{changed: make(chan struct{}, 1)} }

func (c *readerCount) count(counter *int, viewer bool) {
	if viewer {
		return
	}
	c.mu.Lock()
	*counter++
	c.mu.Unlock()
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *readerCount) ReaderAttached(_ string, viewer bool) { c.count(&c.come, viewer) }
func (c *readerCount) ReaderDetached(_ string, viewer bool) { c.count(&c.gone, viewer) }

func (*readerCount) SessionCreated()                      {}
func (*readerCount) SessionEnded(sessions.CloseReason)    {}
func (*readerCount) RunEnded(sessions.RunReport)          {}
func (*readerCount) StepTaken(sessions.Step)              {}
func (*readerCount) ShellRestarted(sessions.RestartCause) {}
func (*readerCount) OutputRead(sessions.Kind, int)        {}
func (*readerCount) InputTaken(int)                       {}
func (*readerCount) GapTold(uint64)                       {}
func (*readerCount) ReaderStalled()                       {}

// await returns once so many have come and gone, and fails where it becomes more.
func (c *readerCount) await(t *testing.T, come, gone int) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		c.mu.Lock()
		n, m := c.come, c.gone
		c.mu.Unlock()
		if n == come && m == gone {
			return
		}
		if n > come || m > gone {
			t.Fatalf("%d readers came and %d went, not %d and %d", n, m, come, gone)
		}
		select {
		case <-c.changed:
		case <-late:
			t.Fatalf("%d readers came and %d went, not %d and %d", n, m, come, gone)
		}
	}
}

// flood is more than eight times what is kept in these tests, and smallRetention is that.
const (
	flood          = "seq -f %0200.0f 1 45000"
	smallRetention = 1 << 20
)

// TestHeldBackForWhoComesBack: a command that floods while the connection of the run's stream
// is gone waits, and nothing is missing when the client is back.
func TestHeldBackForWhoComesBack(t *testing.T) {
	t.Parallel()
	count := newReaderCount()
	d := open(t, sessions.Config{Retention: smallRetention, Observer: count}, httpapi.Config{})
	path, _ := d.session()
	journal := d.stream("GET", path+"/events", "")
	g := newGate(t)
	first := d.stream("POST", path+"/run", body("code", "echo on; "+g.wait()+"; "+flood, "run_id", "r"))
	on := first.until("stdout")
	first.close()
	count.await(t, 2, 1) // the stream's reader is gone, and its place kept
	g.open()
	for n := 0; n < smallRetention/4; { // as far as it comes
		e, _ := journal.next()
		n += len(e.Text)
	}
	r := d.stream("GET", path+"/run/r/output?after="+on.id, "", "Accept", "text/event-stream").rest()
	if lines := strings.Count(r.stdout.String(), "\n"); lines != 45000 || r.events[2].Type != "stdout" {
		t.Errorf("%d lines, and the third event is %.100s", lines, r.events[2].data)
	}
	count.await(t, 3, 3)
}

// TestHeldBackForAWhile: who does not come back holds a command back no longer than a reader
// that stalls, and the run waits for its reader after that.
func TestHeldBackForAWhile(t *testing.T) {
	t.Parallel()
	const stall = 300 * time.Millisecond
	count := newReaderCount()
	d := open(t, sessions.Config{Retention: smallRetention, StallTimeout: stall, Observer: count}, httpapi.Config{StallTimeout: stall})
	path, _ := d.session()
	on, over := newGate(t), newGate(t)
	s := d.stream("POST", path+"/run", body("code", "echo on; "+on.wait()+"; "+flood+"; "+over.wait(), "run_id", "r"))
	s.until("stdout")
	left := time.Now()
	s.close()
	on.open()
	over.open() // reached only when nobody waits any more
	if waited := time.Since(left); waited < stall {
		t.Errorf("waited %v", waited)
	}
	count.await(t, 2, 2)
	var v jsonRun
	d.do("GET", path+"/run/r?wait=20000", "").decode(t, &v)
	if v.Reason != "exited" {
		t.Errorf("ended as %+v", v)
	}
}

// TestNobodyIsWaitedFor: a place is kept only for who can come back to go on, and only as
// long as there is something to go on with.
func TestNobodyIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		fields []any
		accept string
		places int
	}{
		{"unnamed", nil, "text/event-stream", 0},
		{"one object", []any{"run_id", "r"}, "application/json", 0},
		{"until the end of the run", []any{"run_id", "r"}, "text/event-stream", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			count := newReaderCount()
			d := open(t, sessions.Config{Observer: count}, httpapi.Config{})
			path, _ := d.session()
			journal := d.stream("GET", path+"/events", "")
			conn := dial(t, d, "POST", path+"/run", body(append(c.fields, "code", "echo on; sleep 60")...), "Accept: "+c.accept, "X-Request-Id: gone")
			journal.untilText("on\n")
			conn.Close()
			count.await(t, 1+c.places, 1)
			left := time.Now()
			var list struct{ Runs []jsonRun }
			d.do("GET", path+"/run", "").decode(t, &list)
			d.do("DELETE", path+"/run/"+list.Runs[0].RunID, "") // or has been, where it is unnamed
			d.log.await(t, `"request_id":"gone"`)
			count.await(t, 1+c.places, 1+c.places)
			if waited := time.Since(left); waited > 5*time.Second {
				t.Errorf("waited %v", waited)
			}
		})
	}
}

// TestBackBeforeItWasMissed: where a client goes on with another stream before the server has
// seen the first one break, nobody is waited for; another client at the same run is not taken
// for it.
func TestBackBeforeItWasMissed(t *testing.T) {
	t.Parallel()
	for name, places := range map[string]int{"goes on": 0, "another client": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			count := newReaderCount()
			d := open(t, sessions.Config{Observer: count}, httpapi.Config{})
			path, _ := d.session()
			g := newGate(t)
			req := body("code", "echo on; "+g.wait(), "run_id", "r")
			first := d.stream("POST", path+"/run", req)
			on := first.until("stdout")
			var headers []string
			if places == 0 {
				headers = []string{"Last-Event-ID", on.id}
			}
			second := d.stream("POST", path+"/run", req, headers...)
			second.until("ping")
			first.close()
			count.await(t, 2+places, 1)
			g.open()
			second.rest()
			count.await(t, 2+places, 2+places)
		})
	}
}

// TestViewTokenHoldsNothingBack: who may only look sees a gap, and a command never waits.
func TestViewTokenHoldsNothingBack(t *testing.T) {
	t.Parallel()
	count := newReaderCount()
	tokens := httpapi.NewTokens(httpapi.Token{Secret: "boss"}, httpapi.Token{Secret: "guest", View: true})
	d := open(t, sessions.Config{Observer: count}, httpapi.Config{Tokens: tokens})
	boss, guest := []string{"Authorization", "Bearer boss"}, []string{"Authorization", "Bearer guest", "Accept", "text/event-stream"}
	var made struct {
		ID string `json:"session_id"`
	}
	d.do("POST", "/session", "", boss...).decode(t, &made)
	path := "/session/" + made.ID
	d.do("POST", path+"/run", body("code", "sleep 60", "run_id", "r", "detach", true), boss...)
	d.stream("GET", path+"/run/r/output", "", guest...).until("ping")
	count.await(t, 0, 0)
	d.stream("GET", path+"/run/r/output", "", append(boss, "Accept", "text/event-stream")...).until("ping")
	count.await(t, 1, 0)
}
