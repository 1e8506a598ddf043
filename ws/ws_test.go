package ws_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"tandem/sessions"
	"tandem/ws"
)

var bg = context.Background()

func both(t *testing.T, f func(t *testing.T, opts *ws.DialOptions)) {
	t.Parallel()
	t.Run("binary", func(t *testing.T) { t.Parallel(); f(t, &ws.DialOptions{}) })
	t.Run("json", func(t *testing.T) { t.Parallel(); f(t, &ws.DialOptions{JSON: true}) })
}

func TestRun(t *testing.T) {
	both(t, func(t *testing.T, opts *ws.DialOptions) {
		d := open(t, sessions.Config{}, ws.Config{})
		s := d.session()
		p := d.dial(path(s, ""), opts)
		a := p.Attached
		if a.SessionID != s.ID() || a.State != "idle" || a.Cwd == "" || a.Role != "control" || a.StdinWindow != 2<<20 || a.Server != "tandem/test" || a.Run != nil {
			t.Errorf("attached: %+v", a)
		}
		p.ask(ws.Run{Ref: "r", ID: "mine", Code: "cd /; printf 'hé\\n'; printf '\\xff\\x00' >&2; exit 3"})
		start := p.next()
		if start.Type != "run.started" || start.Ref != "r" || start.RunID != "mine" || start.Number != 1 || start.By != "ws" || start.StartedAt == 0 || !strings.HasPrefix(start.Code, "cd /;") {
			t.Errorf("started: %+v", start)
		}
		end := p.until(ws.TypeRunFinished)
		if end.Ref != "r" || end.RunID != "mine" || end.Reason != "exited" || end.ExitCode == nil || *end.ExitCode != 3 || end.Cwd != "/" {
			t.Errorf("finished: %+v", end)
		}
		if out, err := string(p.out["stdout"]), string(p.out["stderr"]); out != "hé\n" || err != "\xff\x00" {
			t.Errorf("output %q %q", out, err)
		}
		// exit has taken the shell away, and the session goes on.
		if m := p.until(ws.TypeShellRestarted); m.Cause != "exit" || m.Restored != "exit" {
			t.Errorf("restarted: %+v", m)
		}
		if _, out := p.run("pwd"); out != "/\n" {
			t.Errorf("pwd %q", out)
		}
	})
}

// A run in progress is told to whoever attaches, and one client's interrupt ends another's
// run.
func TestTwoClients(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	s := d.session()
	a := d.dial(path(s, ""))
	a.ask(ws.Run{Ref: "a", Code: "echo live; read x", Stdin: sessions.OpenStdin})
	a.until(ws.TypeStdout)
	b := d.dial(path(s, "?after=0"), &ws.DialOptions{JSON: true})
	if r := b.Attached.Run; b.Attached.State != "running" || r == nil || r.Code != "echo live; read x" || r.By != "ws" || r.Number != 1 {
		t.Fatalf("attached: %+v %+v", b.Attached, r)
	}
	if m := b.until(ws.TypeStdout); m.RunID != b.Attached.Run.RunID {
		t.Errorf("output of run %q", m.RunID)
	}
	b.must(b.Interrupt(bg, "i", b.Attached.Run.RunID, false))
	b.until(ws.TypeOK)
	mb, ma := b.until(ws.TypeRunFinished), a.until(ws.TypeRunFinished)
	if ma.Reason != "interrupted" || ma.Ref != "a" || mb.Ref != "" || ma.Pos != mb.Pos {
		t.Errorf("finished: %+v and %+v", ma, mb)
	}
	b.must(b.Interrupt(bg, "again", "", false))
	if m := b.next(); m.Type != ws.TypeError || m.Ref != "again" || m.Code != "RUN_NOT_RUNNING" {
		t.Errorf("second interrupt: %+v", m)
	}
}

func TestSignalAndCancel(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	p := d.dial(path(d.session(), ""))
	p.ask(ws.Run{ID: "one", Code: "bash -c 'echo on; exec sleep 60'; echo $?"})
	p.until(ws.TypeStdout)
	p.ask(ws.Run{ID: "two", Code: "true"})
	if m := p.until(ws.TypeRunQueued); m.RunID != "two" || m.Ahead != 1 {
		t.Errorf("queued: %+v", m)
	}
	p.must(p.Cancel(bg, "c", "two"))
	if m := p.until(ws.TypeRunFinished); m.RunID != "two" || m.Reason != "canceled" || m.ExitCode != nil {
		t.Errorf("canceled: %+v", m)
	}
	p.must(p.Signal(bg, "s", "", "SIGTERM"))
	if p.until(ws.TypeRunFinished); !strings.HasSuffix(string(p.out["stdout"]), "143\n") {
		t.Errorf("output %q", p.out["stdout"])
	}
	p.must(p.Signal(bg, "s", "", "SIGNOPE"))
	p.must(p.Cancel(bg, "c", "two"))
	p.must(p.Cancel(bg, "c", "three"))
	for _, want := range []string{"INVALID_REQUEST_BODY", "RUN_NOT_RUNNING", "RUN_NOT_FOUND"} {
		m := p.next()
		for m.Type == ws.TypeOK {
			m = p.next()
		}
		if m.Code != want {
			t.Errorf("%+v, want %s", m, want)
		}
	}
}

// A stream is a session's journal, position by position.
type stream struct {
	data  []byte            // the byte at each position, 0 for an event
	kinds []byte            // and the stream, 'e' for an event
	runs  []string          // and the run
	said  map[uint64]string // events
}

// follow reads a connection up to position end into a stream that starts at its first.
func follow(p *peer, end uint64, ids map[uint64]string) *stream {
	p.t.Helper()
	st := &stream{said: map[uint64]string{}}
	for p.pos < end {
		m := p.next()
		switch {
		case m.IsOutput():
			id := m.RunID
			if id == "" {
				id = ids[m.Number]
			}
			for _, b := range m.Data {
				st.data, st.kinds, st.runs = append(st.data, b), append(st.kinds, m.Type[3]), append(st.runs, id)
			}
		case m.Placed:
			if m.Type == ws.TypeRunStarted {
				ids[m.Number] = m.RunID
			}
			st.data, st.kinds, st.runs = append(st.data, 0), append(st.kinds, 'e'), append(st.runs, m.RunID)
			st.said[m.Pos] = m.Type + m.RunID + m.Reason + m.Cause
		}
	}
	return st
}

// Wherever a client was cut off, it gets exactly the rest.
func TestResumeIsExact(t *testing.T) {
	both(t, func(t *testing.T, opts *ws.DialOptions) {
		d := open(t, sessions.Config{}, ws.Config{})
		s := d.session()
		p := d.dial(path(s, "?after=0"))
		for i, code := range []string{
			"echo one; echo two >&2; (sleep 0.05; echo late) &",
			"for i in {1..40}; do echo \"häß $i €𝄞\"; printf 'e%d\\xff\\xe2\\x82' $i >&2; done",
			"head -c 100000 /dev/urandom; sleep 0.1",
			"seq 1 5000; exit 3",
			"printf 'no newline €'",
		} {
			p.ask(ws.Run{ID: fmt.Sprintf("run%d", i+1), Code: code})
		}
		ids := map[uint64]string{}
		p.ask(ws.Run{ID: "end", Code: "true"})
		_, probe := probeEnd(d, s)
		want := follow(p, probe, ids)
		rng := rand.New(rand.NewPCG(1, 2))
		for range 40 {
			from := rng.Uint64N(probe)
			q := d.dial(path(s, fmt.Sprintf("?after=%d&window=1000000", from)), opts)
			if q.Attached.Pos != from || q.Attached.Oldest != 0 {
				t.Fatalf("attached at %d, asked for %d", q.Attached.Pos, from)
			}
			got := follow(q, probe, ids)
			q.CloseNow()
			if !bytes.Equal(got.data, want.data[from:]) || !bytes.Equal(got.kinds, want.kinds[from:]) {
				t.Fatalf("from %d: other bytes", from)
			}
			for i, id := range got.runs {
				if id != want.runs[int(from)+i] {
					t.Fatalf("position %d: run %q, want %q", int(from)+i, id, want.runs[int(from)+i])
				}
			}
			for pos, said := range want.said {
				if pos >= from && got.said[pos] != said {
					t.Fatalf("position %d: %q, want %q", pos, got.said[pos], said)
				}
			}
		}
	})
}

// probeEnd waits for the run "end" and returns the position after it.
func probeEnd(d *door, s *sessions.Session) (*sessions.Run, uint64) {
	d.t.Helper()
	var run *sessions.Run
	eventually(d.t, "the run is known", func() (ok bool) {
		var err error
		run, err = s.Run("end")
		return err == nil
	})
	select {
	case <-run.Done():
	case <-time.After(limit):
		d.t.Fatal("the run does not end")
	}
	return run, run.Info().Last + 1
}

// A client that loses its connection again and again during a run misses nothing.
func TestResumeWhileItRuns(t *testing.T) {
	both(t, func(t *testing.T, opts *ws.DialOptions) {
		d := open(t, sessions.Config{}, ws.Config{})
		s := d.session()
		a := d.dial(path(s, ""))
		a.ask(ws.Run{ID: "end", Code: "for i in {1..30}; do seq 1 2000; sleep 0.005; done"})
		rng := rand.New(rand.NewPCG(3, 4))
		var out []byte
		pos, done := uint64(0), false
		for !done {
			p := d.dial(path(s, fmt.Sprintf("?after=%d", pos)), opts)
			for n := rng.IntN(6); n >= 0 && !done; n-- {
				m := p.next()
				out = append(out, m.Data...)
				done = m.Type == ws.TypeRunFinished
			}
			pos = p.Position()
			p.CloseNow()
		}
		var want strings.Builder
		for i := 1; i <= 2000; i++ {
			fmt.Fprintln(&want, i)
		}
		if string(out) != strings.Repeat(want.String(), 30) {
			t.Errorf("%d bytes, want %d", len(out), 30*want.Len())
		}
	})
}

func TestTailAndGap(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{Retention: sessions.MinRetention}, ws.Config{})
	s := d.session()
	// Nobody is attached: nothing holds the command back.
	run, _, err := s.Submit(sessions.RunRequest{ID: "end", Code: "head -c 1000000 /dev/zero", By: "rest"})
	if err != nil {
		t.Fatal(err)
	}
	<-run.Done()
	_, end := probeEnd(d, s)
	p := d.dial(path(s, "?tail=1000"))
	if p.Attached.Pos != end-1000 {
		t.Errorf("tail begins at %d, end is %d", p.Attached.Pos, end)
	}
	if m := p.until(ws.TypeRunFinished); m.RunID != "end" || len(p.out["stdout"]) != 999 {
		t.Errorf("%+v after %d bytes", m, len(p.out["stdout"]))
	}
	p = d.dial(path(s, "?after=5"), &ws.DialOptions{JSON: true})
	m := p.next()
	if p.Attached.Pos != 5 || m.Type != ws.TypeGap || m.From != 5 || m.To != p.Attached.Oldest || m.State != "running" || m.Run == nil || m.Run.RunID != "end" {
		t.Errorf("gap: %+v, attached: %+v", m, p.Attached)
	}
	p.until(ws.TypeRunFinished)
}

func TestWindow(t *testing.T) {
	both(t, func(t *testing.T, opts *ws.DialOptions) {
		d := open(t, sessions.Config{}, ws.Config{})
		s := d.session()
		const window = 10000
		p := d.dial(path(s, fmt.Sprintf("?window=%d", window)), opts)
		p.ask(ws.Run{ID: "end", Code: "head -c 300000 /dev/zero | tr '\\0' é"})
		for p.pos-p.Attached.Pos < window {
			p.next()
		}
		if p.pos-p.Attached.Pos > window {
			t.Fatalf("%d positions without an ack", p.pos-p.Attached.Pos)
		}
		// The answer is no position, so it comes, and shows that nothing else does.
		p.must(p.Ping(bg, "p"))
		if m := p.next(); m.Type != ws.TypePong || m.Ref != "p" {
			t.Fatalf("with the window used up: %+v", m)
		}
		p.must(p.Ack(bg, p.pos+1))
		if m := p.next(); m.Type != ws.TypeError || m.Code != "INVALID_REQUEST_BODY" {
			t.Fatalf("ack of what was not sent: %+v", m)
		}
		acked := p.Attached.Pos
		for done := false; !done; {
			if p.pos-acked == window {
				acked += 1 + (p.pos-acked)/2
				p.must(p.Ack(bg, acked))
			}
			m := p.next()
			if p.pos-acked > window {
				t.Fatalf("%d positions unacknowledged", p.pos-acked)
			}
			done = m.Type == ws.TypeRunFinished
		}
		if n := len(p.out["stdout"]); n != 300000 {
			t.Errorf("%d bytes", n)
		}
	})
}

// A gap is more than a window, and must not use it up.
func TestWindowAfterGap(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{Retention: sessions.MinRetention}, ws.Config{})
	s := d.session()
	run, _, err := s.Submit(sessions.RunRequest{ID: "end", Code: "head -c 1000000 /dev/zero", By: "rest"})
	if err != nil {
		t.Fatal(err)
	}
	<-run.Done()
	p := d.dial(path(s, "?after=0&window=1000"))
	gap := p.next()
	for got := 0; got < 1000; {
		got += len(p.next().Data)
	}
	p.must(p.Ack(bg, gap.To+500))
	for got := 0; got < 500; {
		got += len(p.next().Data)
	}
	p.must(p.Ping(bg, ""))
	if m := p.next(); m.Type != ws.TypePong {
		t.Errorf("beyond the window: %+v", m)
	}
}

func TestViewer(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	s := d.session()
	p := d.dial(path(s, ""))
	v := d.dial(path(s, "?role=view"))
	if v.Attached.Role != "view" {
		t.Errorf("attached: %+v", v.Attached)
	}
	v.ask(ws.Run{Ref: "x", Code: "echo hacked"})
	v.must(v.Interrupt(bg, "x", "", true))
	v.must(v.CloseStdin(bg, "x", ""))
	v.must(v.Cancel(bg, "x", ""))
	for range 4 {
		if m := v.next(); m.Type != ws.TypeError || m.Code != "FORBIDDEN" || m.Ref != "x" {
			t.Errorf("answer: %+v", m)
		}
	}
	v.must(v.Stdin(bg, []byte("x")))
	if m := v.next(); m.Code != "FORBIDDEN" {
		t.Errorf("answer: %+v", m)
	}
	v.must(v.Ack(bg, 0))
	v.must(v.Ping(bg, "p"))
	if m := v.next(); m.Type != ws.TypePong {
		t.Errorf("answer: %+v", m)
	}
	p.run("echo seen")
	v.until(ws.TypeRunFinished)
	if out := string(v.out["stdout"]); out != "seen\n" {
		t.Errorf("viewer saw %q", out)
	}
}

func TestStdinInOneBreath(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	s := d.session()
	p := d.dial(path(s, ""))
	p.ask(ws.Run{ID: "a", Code: "cat; echo EOF", Stdin: sessions.OpenStdin})
	p.must(p.Stdin(bg, []byte("bytes \x00\xff\n")))
	p.must(p.StdinText(bg, "", "text é\n"))
	p.must(p.CloseStdin(bg, "c", ""))
	// One that waits takes what comes after it was asked for; one named is named.
	p.ask(ws.Run{ID: "b", Code: "cat; echo EOF", Stdin: sessions.OpenStdin})
	p.ask(ws.Run{ID: "c", Code: "cat; echo EOF", Stdin: sessions.OpenStdin})
	p.must(p.Stdin(bg, []byte("for c\n")))
	p.must(p.StdinText(bg, "b", "for b\n"))
	p.must(p.CloseStdin(bg, "c", "c"))
	p.must(p.CloseStdin(bg, "c", "b"))
	acked := map[string]uint64{}
	oks := 0
	for ends := 0; ends < 3; {
		switch m := p.next(); m.Type {
		case ws.TypeStdinAck:
			if m.Bytes <= acked[m.RunID] {
				t.Errorf("ack of %d after %d", m.Bytes, acked[m.RunID])
			}
			acked[m.RunID] = m.Bytes
		case ws.TypeOK:
			oks++
		case ws.TypeError:
			t.Errorf("%+v", m)
		case ws.TypeRunFinished:
			ends++
			if want := map[string]uint64{"a": 17, "b": 6, "c": 6}[m.RunID]; acked[m.RunID] != want {
				t.Errorf("run %s: %d bytes acknowledged at its end, want %d", m.RunID, acked[m.RunID], want)
			}
		}
	}
	if out := string(p.out["stdout"]); out != "bytes \x00\xff\ntext é\nEOF\nfor b\nEOF\nfor c\nEOF\n" {
		t.Errorf("output %q", out)
	}
	for range 3 - oks {
		p.until(ws.TypeOK)
	}
}

func TestStdinOfOthers(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	s := d.session()
	p := d.dial(path(s, ""))
	noStdin := func(p *peer) {
		t.Helper()
		p.must(p.Stdin(bg, []byte("x")))
		if m := p.until(ws.TypeError); m.Code != "NO_STDIN" {
			t.Errorf("answer: %+v", m)
		}
	}
	noStdin(p)
	p.ask(ws.Run{Code: "echo go; read x; echo $x; sleep 60", Stdin: sessions.OpenStdin})
	p.until(ws.TypeStdout)
	q := d.dial(path(s, ""))
	q.must(q.StdinText(bg, "", "from the other\n"))
	for acked := false; !acked || len(q.out["stdout"]) < 15; {
		m := q.next()
		if m.Type == ws.TypeStdinAck {
			acked = m.Bytes == 15
		}
	}
	q.must(q.StdinText(bg, "nobody", "x"))
	if m := q.next(); m.Code != "RUN_NOT_FOUND" {
		t.Errorf("answer: %+v", m)
	}
	p.must(p.CloseStdin(bg, "", ""))
	p.until(ws.TypeOK)
	noStdin(p) // its own run's is closed
	noStdin(q) // and with it the only one there is
	p.must(p.Interrupt(bg, "", "", true))
	p.until(ws.TypeRunFinished)
	p.ask(ws.Run{Code: "echo go; sleep 60"})
	p.until(ws.TypeStdout)
	noStdin(p)
	p.ask(ws.Run{Code: "cat; echo never-opened", Stdin: sessions.TextStdin, Text: "given"})
	p.must(p.Interrupt(bg, "", "", true))
	p.until(ws.TypeRunFinished)
	p.until(ws.TypeRunFinished)
	if out := string(p.out["stdout"]); !strings.HasSuffix(out, "givennever-opened\n") {
		t.Errorf("output %q", out)
	}
}

// A client that sends more stdin than a run takes waits, and only its own messages do.
func TestStdinOverrun(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{PingInterval: 1500 * time.Millisecond})
	s := d.session()
	a := d.dial(path(s, ""))
	a.ask(ws.Run{Code: "echo go; sleep 6; echo still; sleep 60", Stdin: sessions.OpenStdin})
	a.until(ws.TypeStdout)
	const total = 8 << 20
	sent := make(chan error, 1)
	go func() {
		var err error
		for n := 0; n < total && err == nil; n += 1 << 20 {
			err = a.Stdin(bg, make([]byte, 1<<20))
		}
		sent <- errors.Join(err, a.CloseStdin(bg, "c", ""), a.Ping(bg, "p"))
	}()
	// The pipe is full and nothing more is taken. The client cannot be heard meanwhile,
	// for many ping intervals, and is not taken for dead.
	a.until(ws.TypeStdinAck)
	a.until(ws.TypeStdout)
	b := d.dial(path(s, ""))
	b.must(b.Ping(bg, "p"))
	b.until(ws.TypePong)
	b.must(b.Interrupt(bg, "i", "", true))
	b.until(ws.TypeOK)
	// What was left fails, without an end of the connection.
	for ended, ponged := false, false; !ended || !ponged; {
		switch m := a.next(); m.Type {
		case ws.TypeRunFinished:
			ended = true
		case ws.TypePong:
			ponged = true
		case ws.TypeError:
			if m.Code != "NO_STDIN" {
				t.Errorf("answer: %+v", m)
			}
		}
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func TestStdinIsWhole(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	p := d.dial(path(d.session(), ""))
	p.ask(ws.Run{Code: "wc -c", Stdin: sessions.OpenStdin})
	const total = 6 << 20
	sent := make(chan error, 1)
	go func() {
		var err error
		for n := 0; n < total && err == nil; n += 1 << 16 {
			err = p.Stdin(bg, make([]byte, 1<<16))
		}
		sent <- errors.Join(err, p.CloseStdin(bg, "c", ""))
	}()
	var last uint64
	for m := p.next(); m.Type != ws.TypeRunFinished; m = p.next() {
		if m.Type == ws.TypeStdinAck {
			last = m.Bytes
		}
	}
	if out := strings.TrimSpace(string(p.out["stdout"])); out != fmt.Sprint(total) || last != total {
		t.Errorf("the run took %s, acknowledged %d, sent %d", out, last, total)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// run.queued comes before the run's run.started, whatever the timing.
func TestQueuedComesFirst(t *testing.T) {
	both(t, func(t *testing.T, opts *ws.DialOptions) {
		d := open(t, sessions.Config{}, ws.Config{})
		p := d.dial(path(d.session(), ""), opts)
		const n = 150
		go func() {
			for i := range n {
				if p.Run(bg, ws.Run{Ref: fmt.Sprint(i), Code: "true"}) != nil {
					return
				}
			}
		}()
		stage := map[string]string{}
		next := 0
		for done := 0; done < n; {
			m := p.next()
			switch was := stage[m.Ref]; m.Type {
			case ws.TypeRunQueued:
				if was != "" || m.Ahead < 1 {
					t.Fatalf("queued after %q: %+v", was, m)
				}
			case ws.TypeRunStarted:
				if was != "" && was != ws.TypeRunQueued || m.Ref != fmt.Sprint(next) {
					t.Fatalf("started after %q: %+v", was, m)
				}
				next++
			case ws.TypeRunFinished:
				if was != ws.TypeRunStarted {
					t.Fatalf("finished after %q: %+v", was, m)
				}
				done++
			default:
				t.Fatalf("%+v", m)
			}
			stage[m.Ref] = m.Type
		}
	})
}

func TestSameRunAgain(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	s := d.session()
	p := d.dial(path(s, ""))
	p.ask(ws.Run{Ref: "1", ID: "x", Code: "echo once; read y; echo $y", Stdin: sessions.OpenStdin})
	p.until(ws.TypeStdout)
	// It is on: a second connection asks for it, and owns its stdin too.
	q := d.dial(path(s, ""))
	q.ask(ws.Run{Ref: "2", ID: "x", Code: "echo once; read y; echo $y", Stdin: sessions.OpenStdin})
	if m := q.next(); m.Type != ws.TypeRunStarted || m.Ref != "2" || m.Placed {
		t.Errorf("again: %+v", m)
	}
	q.ask(ws.Run{Ref: "3", ID: "x", Code: "echo other"})
	if m := q.next(); m.Type != ws.TypeError || m.Code != "RUN_EXISTS" || m.Ref != "3" {
		t.Errorf("other code: %+v", m)
	}
	// It waits: asked for again it is queued again.
	q.ask(ws.Run{Ref: "w", ID: "z", Code: "true"})
	q.until(ws.TypeRunQueued)
	q.ask(ws.Run{Ref: "w2", ID: "z", Code: "true"})
	if m := q.next(); m.Type != ws.TypeRunQueued || m.Ref != "w2" || m.Ahead != 1 {
		t.Errorf("queued again: %+v", m)
	}
	q.must(q.StdinText(bg, "", "in\n"))
	if m := q.until(ws.TypeRunFinished); m.Ref != "2" {
		t.Errorf("finished: %+v", m)
	}
	// Each request has its answer: the first one the events, the later one copies of them.
	for _, typ := range []string{ws.TypeRunStarted, ws.TypeRunFinished} {
		if first, second := q.until(typ), q.next(); first.Ref != "w" || !first.Placed || second.Type != typ || second.RunID != "z" || second.Ref != "w2" || second.Placed {
			t.Errorf("%s: %+v and %+v", typ, first, second)
		}
	}
	if m := p.until(ws.TypeRunFinished); m.Ref != "1" || string(p.out["stdout"]) != "once\nin\n" {
		t.Errorf("finished: %+v %q", m, p.out["stdout"])
	}
	// It is over: told once more.
	q.ask(ws.Run{Ref: "4", ID: "x", Code: "echo once; read y; echo $y"})
	started, ended := q.next(), q.next()
	if started.Type != ws.TypeRunStarted || started.Ref != "4" || ended.Type != ws.TypeRunFinished || ended.Ref != "4" || ended.Placed || *ended.ExitCode != 0 {
		t.Errorf("again: %+v %+v", started, ended)
	}
}

// A run that is asked for again on one connection: nobody's ref is lost, and what one
// connection may ask for is bounded.
func TestEachRequestHasItsRef(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	p := d.dial(path(d.session(), ""))
	again := ws.Run{Ref: "0", ID: "x", Code: "read y", Stdin: sessions.OpenStdin}
	p.ask(again)
	p.until(ws.TypeRunStarted)
	for i := range 66 {
		again.Ref = fmt.Sprint(i + 1)
		p.ask(again)
		m := p.next()
		if m.Type != ws.TypeRunStarted || m.Placed || m.Ref != again.Ref {
			if i < 64 || m.Type != ws.TypeError || m.Code != "TOO_MANY" || m.Ref != again.Ref {
				t.Fatalf("asked again: %+v", m)
			}
		}
	}
	p.must(p.StdinText(bg, "", "in\n"))
	for i := range 65 {
		if m := p.until(ws.TypeRunFinished); m.Ref != fmt.Sprint(i) || m.Placed != (i == 0) {
			t.Fatalf("finished: %+v", m)
		}
	}
	p.must(p.Ping(bg, "that is all"))
	if m := p.next(); m.Type != ws.TypePong {
		t.Errorf("and then: %+v", m)
	}
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	s := d.session()
	w := d.wire(path(s, ""))
	if m, _ := w.get(); w.Subprotocol() != "" || m["type"] != "attached" {
		t.Fatalf("first message: %v", m)
	}
	for _, c := range []struct {
		kind       websocket.MessageType
		data, code string
	}{
		{websocket.MessageText, "", "INVALID_REQUEST_BODY"},
		{websocket.MessageText, "hello", "INVALID_REQUEST_BODY"},
		{websocket.MessageText, `[{"type":"ping"}]`, "INVALID_REQUEST_BODY"},
		{websocket.MessageText, `{"type":"fly"}`, "UNKNOWN_TYPE"},
		{websocket.MessageText, `{"type":"resize","cols":1,"rows":1}`, "UNKNOWN_TYPE"},
		{websocket.MessageText, `{"type":"run","code":""}`, "INVALID_REQUEST_BODY"},
		{websocket.MessageText, `{"type":"run","code":"a","run_id":"a b"}`, "INVALID_REQUEST_BODY"},
		{websocket.MessageText, `{"type":"run","code":"a","timeout_ms":-1}`, "INVALID_REQUEST_BODY"},
		{websocket.MessageBinary, "", "INVALID_REQUEST_BODY"},
		{websocket.MessageBinary, "\x01abc", "INVALID_REQUEST_BODY"},
	} {
		w.send(c.kind, c.data)
		if m, _ := w.get(); m["type"] != "error" || m["code"] != c.code || m["message"] == "" {
			t.Errorf("%.60q: %v", c.data, m)
		}
	}
	w.send(websocket.MessageText, `{"type":"ping"}`)
	m, _ := w.get()
	if _, has := m["ref"]; m["type"] != "pong" || has {
		t.Errorf("pong: %v", m)
	}
	w.send(websocket.MessageText, "{\"type\":\"p\xff\"}")
	if _, code := w.get(); code != 1007 {
		t.Errorf("closed with %d", code)
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()
	if raceDetector {
		t.Skip("50 MB through a connection take the race detector too long, and there is no race in them")
	}
	d := open(t, sessions.Config{}, ws.Config{})
	w := d.wire(path(d.session(), ""))
	w.get()
	w.send(websocket.MessageText, `{"type":"run","ref":"r","code":"`+strings.Repeat("x", sessions.MaxCode+1)+`"}`)
	if m, _ := w.get(); m["code"] != "TOO_LARGE" || m["ref"] != "r" {
		t.Errorf("too much code: %v", m)
	}
	go func() {
		ctx, cancel := context.WithTimeout(bg, limit)
		defer cancel()
		_ = w.Write(ctx, websocket.MessageText, make([]byte, 34<<20))
	}()
	if _, code := w.get(); code != 1009 {
		t.Errorf("closed with %d", code)
	}
}

func TestSubprotocols(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	s := d.session()
	for _, c := range []struct {
		asked []string
		want  string
	}{
		{nil, ""},
		{[]string{"tandem.v1"}, "tandem.v1"},
		{[]string{"bearer.x", "tandem.v1.json"}, "tandem.v1.json"},
		{[]string{"tandem.v1.json", "tandem.v1"}, "tandem.v1.json"},
		{[]string{"tandem.v9", "bearer.x"}, ""},
	} {
		w := d.wire(path(s, ""), c.asked...)
		if m, _ := w.get(); w.Subprotocol() != c.want || m["type"] != "attached" {
			t.Errorf("asked for %v: %q, %v", c.asked, w.Subprotocol(), m)
		}
		w.CloseNow()
	}
}

// The place that is kept for a client whose connection broke is none of those that clients have.
func TestBrokenConnectionIsNoClient(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{MaxClients: 1, StallTimeout: time.Hour}, ws.Config{StallTimeout: time.Hour})
	s := d.session()
	nc := d.raw(path(s, ""))
	if _, err := bufio.NewReader(nc).ReadString('\n'); err != nil || s.Info().Clients != 1 {
		t.Fatalf("%v, %d clients", err, s.Info().Clients)
	}
	nc.Close()
	eventually(t, "nobody is taken for a client", func() bool { return s.Info().Clients == 0 })
	d.dial(path(s, ""))
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{MaxClients: 2, MaxSessions: 2}, ws.Config{})
	s := d.session()
	for _, c := range []struct {
		path, code string
		status     int
	}{
		{"/session/00000000-0000-4000-8000-000000000000/ws", "CONTEXT_NOT_FOUND", 404},
		{"/session/not-a-uuid/ws", "CONTEXT_NOT_FOUND", 404},
		{path(s, "?after=banana"), "INVALID_REQUEST_BODY", 400},
		{path(s, "?after="), "INVALID_REQUEST_BODY", 400},
		{path(s, "?after=%zz"), "INVALID_REQUEST_BODY", 400},
		{path(s, "?after=-1"), "INVALID_REQUEST_BODY", 400},
		{path(s, "?after=99999999999"), "INVALID_REQUEST_BODY", 400},
		{path(s, "?after=99999999999999999999999"), "INVALID_REQUEST_BODY", 400},
		{path(s, "?after=0&tail=0"), "INVALID_REQUEST_BODY", 400},
		{path(s, "?tail=x"), "INVALID_REQUEST_BODY", 400},
		{path(s, "?role=king"), "INVALID_REQUEST_BODY", 400},
		{path(s, "?window=0"), "INVALID_REQUEST_BODY", 400},
		{path(s, "?window=big"), "INVALID_REQUEST_BODY", 400},
		{"/ws?ephemeral=maybe", "INVALID_REQUEST_BODY", 400},
		{"/ws?ephemeral=1&role=view", "INVALID_REQUEST_BODY", 400},
		{"/ws?cwd=/etc/passwd", "INVALID_REQUEST_BODY", 400},
		{"/ws?after=7", "INVALID_REQUEST_BODY", 400},
	} {
		_, err := d.tryDial(c.path)
		var e *ws.RefusedError
		if !errors.As(err, &e) || e.Status != c.status || e.Code != c.code || e.Message == "" {
			t.Errorf("%s: %v", c.path, err)
		}
	}
	if all := d.m.List(); len(all) != 1 {
		t.Errorf("%d sessions are left of refused requests", len(all)-1)
	}
	d.dial(path(s, ""))
	d.dial(path(s, ""))
	d.dial("/ws?cwd=" + t.TempDir() + "&name=n")
	for _, path := range []string{path(s, ""), "/ws"} {
		_, err := d.tryDial(path)
		var e *ws.RefusedError
		if !errors.As(err, &e) || e.Status != 429 || e.Code != "TOO_MANY" {
			t.Errorf("one too many at %s: %v", path, err)
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, path := range []string{path(s, ""), "/ws"} {
		res, err := client.Get(d.url + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 426 || res.Header.Get("Upgrade") != "websocket" || !strings.Contains(string(body), `"message"`) {
			t.Errorf("plain GET %s: %d %v %s", path, res.StatusCode, res.Header, body)
		}
	}
}

// An upgrade that is not as it must be is refused as everything is.
func TestHandshakeRefusals(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, c := range []struct {
		method, version string
		keys            []string
		status          int
	}{
		{"GET", "13", nil, 400},
		{"GET", "13", []string{""}, 400},
		{"GET", "13", []string{"!"}, 400},
		{"GET", "13", []string{"AAAA"}, 400},
		{"GET", "13", []string{"AAAAAAAAAAAAAAAAAAAAAA==", "AAAAAAAAAAAAAAAAAAAAAA=="}, 400},
		{"GET", "8", []string{"AAAAAAAAAAAAAAAAAAAAAA=="}, 400},
		{"HEAD", "13", []string{"AAAAAAAAAAAAAAAAAAAAAA=="}, 426},
	} {
		req, err := http.NewRequestWithContext(bg, c.method, d.url+path(d.session(), ""), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{
			"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
			"Sec-Websocket-Version": {c.version}, "Sec-Websocket-Key": c.keys,
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != c.status || res.Header.Get("Content-Type") != "application/json" || c.method == "GET" && !strings.Contains(string(body), `"code":"INVALID_REQUEST_BODY"`) {
			t.Errorf("%+v: %d %v %s", c, res.StatusCode, res.Header, body)
		}
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	dir := t.TempDir() + "/made"
	p := d.dial("/ws?name=box&cwd=" + dir)
	s, err := d.m.Get(p.Attached.SessionID)
	if err != nil || s.Info().Name != "box" || p.Attached.Cwd != dir {
		t.Fatalf("%v %+v", err, p.Attached)
	}
	if _, out := p.run("pwd"); out != dir+"\n" {
		t.Errorf("pwd %q", out)
	}
	// The session is no ephemeral one, and a run goes on when its connection ends.
	p.ask(ws.Run{ID: "end", Code: "echo on; read x; echo $x", Stdin: sessions.OpenStdin})
	p.until(ws.TypeStdout)
	p.Close()
	q := d.dial(path(s, ""))
	q.must(q.StdinText(bg, "", "still here\n"))
	if q.until(ws.TypeRunFinished); string(q.out["stdout"]) != "still here\n" {
		t.Errorf("output %q", q.out["stdout"])
	}
}

func TestEphemeral(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{EphemeralGrace: 100 * time.Millisecond})
	start := func() (*peer, *sessions.Session) {
		p := d.dial("/ws?ephemeral=1")
		s, err := d.m.Get(p.Attached.SessionID)
		if err != nil {
			t.Fatal(err)
		}
		return p, s
	}
	ends := func(s *sessions.Session) {
		t.Helper()
		eventually(t, "the session ends", func() bool { return gone(s) })
	}
	// lasts watches the session for three times the grace.
	lasts := func(s *sessions.Session) {
		t.Helper()
		select {
		case <-s.Done():
			t.Error("the session ended")
		case <-time.After(300 * time.Millisecond):
		}
	}

	p, s := start()
	began := time.Now()
	p.ask(ws.Run{Code: "sleep 60"})
	p.until(ws.TypeRunStarted)
	p.Close()
	ends(s)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("a goodbye took %v", took)
	}

	p, s = start()
	p.CloseNow()
	ends(s)

	// Somebody comes back, and is the owner then.
	p, s = start()
	p.CloseNow()
	q := d.dial(path(s, ""))
	eventually(t, "the break is noticed", func() bool { return s.Info().Clients == 1 })
	lasts(s)
	q.Close()
	ends(s)

	// The client was back before the break was noticed; a viewer is nobody.
	p, s = start()
	q, v := d.dial(path(s, "")), d.dial(path(s, "?role=view"))
	p.CloseNow()
	lasts(s)
	v.Close()
	q.CloseNow()
	ends(s)

	// A guest's goodbye is not the owner's.
	p, s = start()
	q = d.dial(path(s, ""))
	q.Close()
	lasts(s)
	p.Close()
	ends(s)
}

func TestSessionClosed(t *testing.T) {
	both(t, func(t *testing.T, opts *ws.DialOptions) {
		d := open(t, sessions.Config{}, ws.Config{})
		s := d.session()
		p := d.dial(path(s, ""), opts)
		p.ask(ws.Run{Ref: "r", Code: "echo on; sleep 60"})
		p.until(ws.TypeStdout)
		if err := d.m.Delete(s.ID()); err != nil {
			t.Fatal(err)
		}
		if m := p.until(ws.TypeRunFinished); m.Reason != "session_closed" || m.Ref != "r" || m.ExitCode != nil {
			t.Errorf("finished: %+v", m)
		}
		if m := p.until(ws.TypeSessionClosed); m.Reason != "deleted" || !m.Placed {
			t.Errorf("closed: %+v", m)
		}
		if code := p.closed(); code != 4000 {
			t.Errorf("closed with %d", code)
		}
	})
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	s := d.session()
	a, b := d.dial(path(s, "")), d.dial("/ws?ephemeral=1")
	c := d.dial(path(s, "")) // does not answer the goodbye in time
	a.ask(ws.Run{Code: "echo on; sleep 60"})
	a.until(ws.TypeStdout)
	closed := make(chan error, 1)
	go func() { closed <- d.h.Close(bg) }()
	for _, p := range []*peer{a, b} {
		if code := p.closed(); code != websocket.StatusServiceRestart {
			t.Errorf("closed with %d", code)
		}
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	c.closed()
	_, err := d.tryDial(path(s, ""))
	var e *ws.RefusedError
	if !errors.As(err, &e) || e.Status != 503 {
		t.Errorf("dial after close: %v", err)
	}
	if s.Current() == nil {
		t.Error("the door has ended the run")
	}
}

// What the engine has written down before the door closes is told before that.
func TestEndsAreToldBeforeShutdown(t *testing.T) {
	t.Parallel()
	for range 4 {
		d := open(t, sessions.Config{}, ws.Config{})
		s := d.session()
		var all []*peer
		for range 8 {
			all = append(all, d.dial(path(s, "")))
		}
		all[0].ask(ws.Run{Code: "echo on; sleep 60"})
		for _, p := range all {
			p.until(ws.TypeStdout)
		}
		told := make(chan error)
		for _, p := range all {
			go func() {
				ended := false
				for {
					m, ok := p.read()
					if !ok {
						break
					}
					ended = ended || m.Type == ws.TypeRunFinished
				}
				if !ended {
					told <- fmt.Errorf("closed with %v before the run's end was told", p.bad)
					return
				}
				told <- nil
			}()
		}
		if err := d.m.Drain(bg); err != nil {
			t.Error(err)
		}
		if err := d.h.Close(bg); err != nil {
			t.Error(err)
		}
		for range all {
			if err := <-told; err != nil {
				t.Error(err)
			}
		}
	}
}

// A client that reads nothing is cut off; the command and everybody else go on, and
// when the client looks it is told.
func TestStalledReader(t *testing.T) {
	both(t, func(t *testing.T, opts *ws.DialOptions) {
		d := open(t, sessions.Config{StallTimeout: time.Second, Retention: 1 << 20}, ws.Config{})
		s := d.session()
		stalled := d.dial(path(s, ""), opts)
		p := d.dial(path(s, ""))
		p.ask(ws.Run{Code: "head -c 16000000 /dev/zero"})
		if p.until(ws.TypeRunFinished); len(p.out["stdout"]) != 16000000 {
			t.Errorf("%d bytes", len(p.out["stdout"]))
		}
		if code := stalled.closed(); code != ws.CloseStalled {
			t.Errorf("closed with %d: %v", code, stalled.bad)
		}
		// It resumes where it was.
		again := d.dial(path(s, fmt.Sprintf("?after=%d", stalled.Position())))
		if m := again.next(); m.Type != ws.TypeGap || m.From != stalled.Position() {
			t.Errorf("resumed: %+v", m)
		}
		again.until(ws.TypeRunFinished)
	})
}

// A client that is slow, but takes several times what the stall limit wants of it, is not
// cut off because the kernel reports it in lumps.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{StallTimeout: time.Second}, ws.Config{})
	s := d.session()
	nc := d.raw(path(s, ""))
	if _, _, err := s.Submit(sessions.RunRequest{Code: "head -c 50000000 /dev/zero", By: "rest"}); err != nil {
		t.Fatal(err)
	}
	const rate = 500_000 // bytes a second
	began := time.Now()
	for got := 0; time.Since(began) < 4*time.Second; {
		n, err := nc.Read(make([]byte, 4096))
		if err != nil || s.Info().Clients == 0 {
			t.Fatalf("cut off after %v and %d bytes: %v", time.Since(began), got, err)
		}
		got += n
		time.Sleep(time.Duration(got)*time.Second/rate - time.Since(began))
	}
}

// A window that is never acknowledged is a stall too.
func TestStalledWindow(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{StallTimeout: 100 * time.Millisecond}, ws.Config{})
	p := d.dial(path(d.session(), "?window=1000"))
	p.ask(ws.Run{Code: "seq 1 1000"})
	if code := p.closed(); code != ws.CloseStalled || p.pos != p.Attached.Pos+1000 {
		t.Errorf("closed with %d after %d", code, p.pos)
	}
}

// A viewer that does not read holds nothing back.
func TestStalledViewer(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{StallTimeout: time.Minute, Retention: sessions.MinRetention}, ws.Config{})
	s := d.session()
	v := d.dial(path(s, "?role=view"))
	p := d.dial(path(s, ""))
	p.run("head -c 30000000 /dev/zero")
	gaps := 0
	for v.pos < p.pos {
		if v.next().Type == ws.TypeGap {
			gaps++
		}
	}
	if gaps == 0 {
		t.Error("the viewer has seen it all")
	}
}

// A client that sends and never reads is read no further itself.
func TestFlood(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{StallTimeout: 100 * time.Millisecond}, ws.Config{})
	s := d.session()
	flood := d.wire(path(s, ""))
	blocked := make(chan struct{})
	go func() {
		defer close(blocked)
		message := []byte(`{"type":"ping","ref":"` + strings.Repeat("x", 1<<15) + `"}`)
		for {
			ctx, cancel := context.WithTimeout(bg, 300*time.Millisecond)
			err := flood.Write(ctx, websocket.MessageText, message)
			cancel()
			if err != nil {
				return
			}
		}
	}()
	select {
	case <-blocked:
	case <-time.After(limit):
		t.Error("a client that does not read is read from without end")
		flood.CloseNow()
		<-blocked
	}
	p := d.dial(path(s, ""))
	if _, out := p.run("echo fine"); out != "fine\n" {
		t.Errorf("output %q", out)
	}
	eventually(t, "the flooder is gone", func() bool { return s.Info().Clients == 1 })
}

// A peer that is gone without a word is noticed, and holds nothing.
func TestDeadPeer(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{PingInterval: 500 * time.Millisecond})
	s := d.session()
	d.raw(path(s, "")) // answers nothing
	// This one reads, and so answers pings. What it runs must not fill the other's socket,
	// for then a write to that waits for the stall limit first.
	p := d.dial(path(s, ""))
	eventually(t, "the dead peer is let go", func() bool { p.run("sleep 0.1"); return s.Info().Clients == 1 })
}

// Pings of the client's library are answered, while it waits for nothing else too.
func TestPingFrames(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	w := d.wire(path(d.session(), ""))
	w.get()
	done := w.CloseRead(bg)
	for range 3 {
		ctx, cancel := context.WithTimeout(bg, limit)
		if err := w.Ping(ctx); err != nil {
			t.Error(err)
		}
		cancel()
	}
	w.CloseNow()
	<-done.Done()
}

// Whoever is no longer to be let in is told so, and cut off at once.
func TestRevoked(t *testing.T) {
	t.Parallel()
	let, revoke := context.WithCancel(context.Background())
	defer revoke()
	d := open(t, sessions.Config{}, ws.Config{Revoked: func(*http.Request) context.Context { return let }})
	s := d.session()
	p := d.dial(path(s, ""))
	p.run("echo hi")
	revoke()
	if code := p.closed(); code != websocket.StatusPolicyViolation {
		t.Errorf("closed with %d", code)
	}
	if code := d.dial(path(s, "")).closed(); code != websocket.StatusPolicyViolation {
		t.Errorf("one that comes after it: closed with %d", code)
	}
}

func TestMaxMessage(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{MaxMessage: 1 << 10})
	w := d.wire(path(d.session(), ""))
	w.send(websocket.MessageText, `{"type":"ping","ref":"`+strings.Repeat("x", 900)+`"}`)
	for {
		m, code := w.get()
		if m == nil {
			t.Fatalf("closed with %d", code)
		}
		if m["type"] == "pong" {
			break
		}
	}
	w.send(websocket.MessageText, `{"type":"ping","ref":"`+strings.Repeat("x", 1100)+`"}`)
	for {
		if m, code := w.get(); m == nil {
			if code != websocket.StatusMessageTooBig {
				t.Errorf("closed with %d", code)
			}
			return
		}
	}
}

// A frame that is too large is not waited for, however much of it there is to come.
func TestTooLargeFrameThatNeverEnds(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{MaxMessage: 1 << 10})
	s := d.session()
	nc := d.raw(path(s, ""))
	if _, err := nc.Write(append([]byte{0x81, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 1<<20)...)); err != nil {
		t.Fatal(err)
	}
	_ = nc.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(io.Discard, nc); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection stays: %v", err)
	}
}

// A panic in the handler leaves no connection and no client behind.
func TestPanicEndsTheConnection(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{Revoked: func(*http.Request) context.Context { panic(http.ErrAbortHandler) }})
	s := d.session()
	nc := d.raw(path(s, ""))
	_ = nc.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(io.Discard, nc); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the connection stays: %v", err)
	}
	eventually(t, "the client is no longer counted", func() bool { return s.Info().Clients == 0 })
}

func TestMessagesAreCounted(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{ws.ProtocolBinary, ws.ProtocolJSON} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			var received, sent atomic.Int64
			d := open(t, sessions.Config{}, ws.Config{Received: func() { received.Add(1) }, Sent: func(n int) { sent.Add(int64(n)) }})
			w := d.wire(path(d.session(), ""), protocol)
			got := int64(0)
			until := func(text string) {
				t.Helper()
				for message := []byte{}; !bytes.Contains(message, []byte(text)); got++ {
					ctx, cancel := context.WithTimeout(t.Context(), limit)
					_, next, err := w.Read(ctx)
					cancel()
					if err != nil {
						t.Fatalf("waiting for %s: %v", text, err)
					}
					message = next
				}
			}
			w.send(websocket.MessageText, `{"type":"run","code":"cat","stdin":true,"run_id":"r"}`)
			w.send(websocket.MessageBinary, "\x00hello")
			w.send(websocket.MessageText, `{"type":"stdin.close","run_id":"r"}`)
			until("run.finished")
			w.send(websocket.MessageText, `{"type":"ping"}`)
			until("pong")
			eventually(t, "the last message is counted", func() bool { return sent.Load() >= got })
			if received.Load() != 4 || sent.Load() != got {
				t.Errorf("%d received, %d sent, want 4, %d", received.Load(), sent.Load(), got)
			}
		})
	}
}
