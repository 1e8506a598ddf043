package ws_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/sessions"
	"tandem/ws"
)

// A cutter passes connections on to a server, and cuts them.
type cutter struct {
	t      testing.TB
	ln     net.Listener
	target string
	wg     sync.WaitGroup

	mu    sync.Mutex
	limit func() int // how many bytes a connection may carry to the client; nil: no limit
	conns map[net.Conn]bool
}

func newCutter(d *door) *cutter {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.t.Fatal(err)
	}
	c := &cutter{t: d.t, ln: ln, target: strings.TrimPrefix(d.url, "http://"), conns: map[net.Conn]bool{}}
	c.wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			c.wg.Go(func() { c.pass(nc) })
		}
	})
	d.t.Cleanup(func() {
		ln.Close()
		c.cut()
		c.wg.Wait()
	})
	return c
}

func (c *cutter) url() string { return "http://" + c.ln.Addr().String() }

func (c *cutter) pass(nc net.Conn) {
	up, err := net.Dial("tcp", c.target)
	if err != nil {
		nc.Close()
		return
	}
	c.mu.Lock()
	limit := c.limit
	c.conns[nc], c.conns[up] = true, true
	c.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() {
		if limit == nil {
			_, _ = io.Copy(nc, up)
		} else {
			_, _ = io.CopyN(nc, up, int64(limit()))
		}
		c.drop(nc, up)
	})
	both.Go(func() {
		_, _ = io.Copy(up, nc)
		c.drop(nc, up)
	})
	both.Wait()
}

func (c *cutter) drop(conns ...net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, nc := range conns {
		if tcp, ok := nc.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a cut, not a goodbye
		}
		nc.Close()
		delete(c.conns, nc)
	}
}

// cut cuts every connection there is.
func (c *cutter) cut() {
	c.mu.Lock()
	var all []net.Conn
	for nc := range c.conns {
		all = append(all, nc)
	}
	c.mu.Unlock()
	c.drop(all...)
}

// cutAfter has every connection from now on cut after so many bytes.
func (c *cutter) cutAfter(limit func() int) {
	c.mu.Lock()
	c.limit = limit
	c.mu.Unlock()
	c.cut()
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// client has a transport of its own, so that no connection outlives a test.
func client(t testing.TB, opts ws.SessionOptions) *ws.SessionOptions {
	transport := witness(t)
	t.Cleanup(transport.CloseIdleConnections)
	opts.HTTPClient = &http.Client{Transport: transport}
	return &opts
}

func openSession(t testing.TB, server, id string, opts ws.SessionOptions) *ws.Session {
	t.Helper()
	s, err := ws.Open(within(t), server, id, client(t, opts))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func command(t testing.TB, s *ws.Session, r ws.Run) *ws.Command {
	t.Helper()
	c, err := s.Run(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wait(t testing.TB, c *ws.Command) ws.Result {
	t.Helper()
	res, err := c.Wait(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestSessionRun(t *testing.T) {
	both(t, func(t *testing.T, opts *ws.DialOptions) {
		d := open(t, sessions.Config{}, ws.Config{})
		s := openSession(t, d.url, d.session().ID(), ws.SessionOptions{DialOptions: ws.DialOptions{JSON: opts.JSON}})
		res := wait(t, command(t, s, ws.Run{Code: `printf 'a\xff\0'; printf b >&2; x=1; cd /; exit 3`}))
		if string(res.Stdout) != "a\xff\x00" || string(res.Stderr) != "b" || res.Reason != "exited" || *res.ExitCode != 3 || res.Cwd != "/" || res.Lost != 0 {
			t.Errorf("%+v", res)
		}
		// Several at once, each with its own output, in the session that has stayed.
		var all []*ws.Command
		for i := range 5 {
			all = append(all, command(t, s, ws.Run{Code: fmt.Sprintf("echo %d $x", i)}))
		}
		for i, c := range all {
			if res := wait(t, c); string(res.Stdout) != fmt.Sprintf("%d 1\n", i) {
				t.Errorf("run %d: %+v", i, res)
			}
		}
		if _, err := all[0].Next(within(t)); !errors.Is(err, io.EOF) {
			t.Errorf("after its end: %v", err)
		}
	})
}

func TestSessionRefusals(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	s := openSession(t, d.url, d.session().ID(), ws.SessionOptions{})
	refusal := func(err error, code string) {
		t.Helper()
		if e, ok := errors.AsType[*ws.RefusedError](err); !ok || e.Code != code {
			t.Errorf("got %v, want %s", err, code)
		}
	}
	_, err := ws.Open(within(t), d.url, "nobody", client(t, ws.SessionOptions{}))
	refusal(err, "CONTEXT_NOT_FOUND")
	_, err = ws.Open(within(t), d.url, "", nil)
	refusal(err, "CONTEXT_NOT_FOUND")
	_, err = command(t, s, ws.Run{Code: " "}).Wait(within(t))
	refusal(err, "INVALID_REQUEST_BODY")
	refusal(s.Interrupt(within(t), "", false), "RUN_NOT_RUNNING")
	if res := wait(t, command(t, s, ws.Run{Code: "true", Cwd: "/nowhere"})); res.Reason != "refused" || res.ExitCode != nil || !strings.Contains(res.Message, "/nowhere") {
		t.Errorf("%+v", res)
	}
	on := command(t, s, ws.Run{ID: "on", Code: "read x", Stdin: sessions.OpenStdin})
	if _, err := s.Run(t.Context(), ws.Run{ID: "on", Code: "read x"}); err == nil {
		t.Error("the id of a run that is on was taken")
	}
	_, err = s.Complete(within(t), "ec", -1)
	refusal(err, "BUSY")
	refusal(s.Input(within(t), "nobody", "x"), "RUN_NOT_FOUND")
	refusal(on.Signal(within(t), "NOSUCH"), "INVALID_REQUEST_BODY")
	if err := on.Cancel(within(t)); err != nil {
		t.Error(err)
	}
	if res := wait(t, on); res.Reason != "canceled" {
		t.Errorf("%+v", res)
	}
	if c, err := s.Complete(within(t), "ech", -1); err != nil || c.Line != "echo " {
		t.Errorf("%+v %v", c, err)
	}
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	if _, err := ws.Open(within(t), "http://"+nobody.Addr().String(), "x", client(t, ws.SessionOptions{})); !errors.Is(err, ws.ErrLost) {
		t.Errorf("nobody there: %v", err)
	}
	if _, err := ws.Open(within(t), "localhost:1", "x", nil); err == nil || errors.Is(err, ws.ErrLost) {
		t.Errorf("no address: %v", err)
	}
}

// Output and input arrive complete, once and in order, while the connection is cut again and
// again.
func TestSessionSurvivesCuts(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	net := newCutter(d)
	net.cutAfter(func() int { return 10_000 + rand.N(200_000) })
	lost := 0
	s := openSession(t, net.url(), d.session().ID(), ws.SessionOptions{Lost: func(error) { lost++ }})
	in := make([]byte, 1<<20)
	for i := range in {
		in[i] = byte(rand.N(256))
	}
	c := command(t, s, ws.Run{Code: "cat; echo end", Stdin: sessions.OpenStdin})
	var writer sync.WaitGroup
	writer.Go(func() {
		if _, err := c.Stdin().Write(in); err != nil {
			t.Errorf("write: %v", err)
		}
		if err := c.Stdin().Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	res := wait(t, c)
	writer.Wait()
	if !bytes.Equal(res.Stdout, append(in, "end\n"...)) || res.Lost != 0 {
		t.Errorf("%d bytes came back of %d, lost %d", len(res.Stdout), len(in), res.Lost)
	}
	s.Close()
	if lost < 5 {
		t.Errorf("the connection was cut %d times only", lost)
	}
}

// A command that is far faster than the client gets its connection back is held back for it.
func TestSessionLosesNothing(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{Retention: 4 << 20}, ws.Config{})
	net := newCutter(d)
	net.cutAfter(func() int { return 1000 + rand.N(2_500_000) })
	s := openSession(t, net.url(), d.session().ID(), ws.SessionOptions{})
	res := wait(t, command(t, s, ws.Run{Code: "seq 1 1200000"}))
	var want bytes.Buffer
	for i := range 1_200_000 {
		fmt.Fprintln(&want, i+1)
	}
	if res.Lost != 0 || !bytes.Equal(res.Stdout, want.Bytes()) {
		t.Errorf("%d bytes of %d, lost %d", len(res.Stdout), want.Len(), res.Lost)
	}
}

// But not for longer than for a client that is only slow.
func TestSessionIsNotWaitedForLong(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{Retention: sessions.MinRetention, StallTimeout: 200 * time.Millisecond}, ws.Config{})
	engine := d.session()
	p := d.dial(path(engine, "?window=1000"))
	p.ask(ws.Run{ID: "on", Code: "echo go; head -c 5000000 /dev/zero"})
	p.until(ws.TypeStdout)
	p.CloseNow()
	eventually(t, "the run goes on without its client", func() bool {
		run, err := engine.Run("on")
		return err == nil && run.Info().State == sessions.RunDone
	})
	eventually(t, "nobody is taken for a client", func() bool { return engine.Info().Clients == 0 })
}

// Each run is made once, whether its request was lost or the news of its start.
func TestSessionRunsOnce(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	net := newCutter(d)
	s := openSession(t, net.url(), d.session().ID(), ws.SessionOptions{})
	wait(t, command(t, s, ws.Run{Code: "n=0"}))
	net.cutAfter(func() int { return 600 + rand.N(1200) })
	for i := range 40 {
		if i%4 == 0 {
			net.cut()
		}
		if res := wait(t, command(t, s, ws.Run{Code: "echo $((++n))"})); string(res.Stdout) != fmt.Sprintln(i+1) {
			t.Fatalf("run %d: %+v", i, res)
		}
	}
}

// The id of a run that has ended is that run.
func TestSessionSameRun(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	engine := d.session()
	s := openSession(t, d.url, engine.ID(), ws.SessionOptions{})
	wait(t, command(t, s, ws.Run{ID: "mine", Code: "echo once; exit 4"}))
	for _, client := range []*ws.Session{s, openSession(t, d.url, engine.ID(), ws.SessionOptions{})} {
		if res := wait(t, command(t, client, ws.Run{ID: "mine", Code: "echo once; exit 4"})); *res.ExitCode != 4 || len(res.Stdout) != 0 {
			t.Errorf("%+v", res)
		}
	}
	if _, err := command(t, s, ws.Run{ID: "mine", Code: "echo twice"}).Wait(within(t)); err == nil || !strings.Contains(err.Error(), "RUN_EXISTS") {
		t.Errorf("other code under the same id: %v", err)
	}
}

// Interrupts work for who reads in the same goroutine, in the middle of a flood.
func TestSessionInterrupt(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	s := openSession(t, d.url, d.session().ID(), ws.SessionOptions{})
	c := command(t, s, ws.Run{Code: "trap 'echo bye >&2' EXIT; yes"})
	ctx := within(t)
	for n := 0; n < 8<<20; {
		o, err := c.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		n += len(o.Data)
	}
	if err := c.Interrupt(ctx, false); err != nil {
		t.Fatal(err)
	}
	if res := wait(t, c); res.Reason != "interrupted" || *res.ExitCode != 130 {
		t.Errorf("%s %d", res.Reason, *res.ExitCode)
	}
}

// Who does not read a command holds the others up, and who says so does not.
func TestCommandClose(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	s := openSession(t, d.url, d.session().ID(), ws.SessionOptions{})
	c := command(t, s, ws.Run{Code: "head -c 20000000 /dev/zero"})
	next := command(t, s, ws.Run{Code: "echo next"})
	if _, err := c.Next(within(t)); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if res := wait(t, next); string(res.Stdout) != "next\n" {
		t.Errorf("%+v", res)
	}
	if res := wait(t, c); len(res.Stdout) != 0 || *res.ExitCode != 0 {
		t.Errorf("%+v", res)
	}
}

func TestSessionInput(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	s := openSession(t, d.url, d.session().ID(), ws.SessionOptions{})
	c := command(t, s, ws.Run{Code: "read -r a; exec 0<&-; echo $a", Stdin: sessions.OpenStdin})
	if _, err := io.WriteString(c.Stdin(), "a\n"); err != nil {
		t.Fatal(err)
	}
	wait(t, c)
	if _, err := c.Stdin().Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("after its end: %v", err)
	}
	none := command(t, s, ws.Run{Code: "cat"})
	if _, err := none.Stdin().Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("without input: %v", err)
	}
	wait(t, none)
}

// What retention has dropped while there was no connection is told, and the result is known.
func TestSessionGap(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{Retention: sessions.MinRetention, StallTimeout: 200 * time.Millisecond}, ws.Config{})
	net := newCutter(d)
	s := openSession(t, net.url(), d.session().ID(), ws.SessionOptions{})
	c := command(t, s, ws.Run{Code: "echo go; read x; head -c 3000000 /dev/zero; exit 5", Stdin: sessions.OpenStdin})
	if o, err := c.Next(within(t)); err != nil || string(o.Data) != "go\n" {
		t.Fatalf("%+v %v", o, err)
	}
	net.cutAfter(func() int { return 0 }) // nothing comes through
	run, err := d.m.Get(s.ID())
	if err != nil {
		t.Fatal(err)
	}
	on := run.Current()
	if err := on.WriteStdin(t.Context(), []byte("\n")); err != nil {
		t.Fatal(err)
	}
	<-on.Done()
	net.cutAfter(nil)
	res := wait(t, c)
	if *res.ExitCode != 5 || res.Lost == 0 || len(res.Stdout)+int(res.Lost) < 3_000_000 {
		t.Errorf("exit code %d, %d bytes, lost %d", *res.ExitCode, len(res.Stdout), res.Lost)
	}
}

// Whoever works in a session can be given input, and interrupted, by another client.
func TestSessionOfOthers(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	engine := d.session()
	s, other := openSession(t, d.url, engine.ID(), ws.SessionOptions{}), openSession(t, d.url, engine.ID(), ws.SessionOptions{})
	c := command(t, s, ws.Run{Code: "cat; read x", Stdin: sessions.OpenStdin})
	if err := c.Started(within(t)); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{other.Input(within(t), c.ID(), "a\n"), other.CloseInput(within(t), c.ID())} {
		if err != nil {
			t.Error(err)
		}
	}
	if res := wait(t, c); string(res.Stdout) != "a\n" {
		t.Errorf("%+v", res)
	}
	c = command(t, s, ws.Run{Code: "sleep 600"})
	if err := c.Started(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := other.Interrupt(within(t), c.ID(), false); err != nil {
		t.Error(err)
	}
	if res := wait(t, c); res.Reason != "interrupted" {
		t.Errorf("%+v", res)
	}
}

// The end of the session, of the server's patience with a token, and of the client's own are
// told to whoever waits.
func TestSessionEnds(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	engine := d.session()
	s := openSession(t, d.url, engine.ID(), ws.SessionOptions{})
	c := command(t, s, ws.Run{Code: "sleep 600"})
	<-engineStarted(t, engine)
	if err := d.m.Delete(engine.ID()); err != nil {
		t.Fatal(err)
	}
	if res := wait(t, c); res.Reason != "session_closed" || res.ExitCode != nil {
		t.Errorf("%+v", res)
	}
	<-s.Done()
	if !errors.Is(s.Err(), ws.ErrSessionClosed) {
		t.Errorf("ended with %v", s.Err())
	}
	if _, err := s.Run(t.Context(), ws.Run{Code: "true"}); !errors.Is(err, ws.ErrSessionClosed) {
		t.Errorf("run after the end: %v", err)
	}
	if err := s.Ping(within(t)); !errors.Is(err, ws.ErrSessionClosed) {
		t.Errorf("ping after the end: %v", err)
	}

	net := newCutter(d)
	s = openSession(t, net.url(), d.session().ID(), ws.SessionOptions{Patience: 50 * time.Millisecond})
	c = command(t, s, ws.Run{Code: "sleep 600"})
	net.ln.Close()
	net.cut()
	if _, err := c.Wait(within(t)); !errors.Is(err, ws.ErrLost) {
		t.Errorf("lost: %v", err)
	}
	<-s.Done()
	if !errors.Is(s.Err(), ws.ErrLost) {
		t.Errorf("ended with %v", s.Err())
	}

	s = openSession(t, d.url, d.session().ID(), ws.SessionOptions{})
	c = command(t, s, ws.Run{Code: "sleep 600"})
	s.Close()
	if _, err := c.Wait(within(t)); err == nil || s.Err() != nil {
		t.Errorf("closed: %v, %v", err, s.Err())
	}
}

func engineStarted(t *testing.T, s *sessions.Session) <-chan struct{} {
	t.Helper()
	eventually(t, "a run is on", func() bool { return s.Current() != nil })
	return s.Current().Started()
}

func TestCreateEphemeral(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	dir := t.TempDir()
	s, err := ws.Create(within(t), d.url, &ws.CreateOptions{SessionOptions: *client(t, ws.SessionOptions{}), Cwd: dir, Name: "mine", Ephemeral: true})
	if err != nil {
		t.Fatal(err)
	}
	engine, err := d.m.Get(s.ID())
	if err != nil || engine.Info().Name != "mine" {
		t.Fatalf("%v", err)
	}
	if res := wait(t, command(t, s, ws.Run{Code: "pwd"})); string(res.Stdout) != dir+"\n" {
		t.Errorf("%q", res.Stdout)
	}
	s.Close()
	<-engine.Done()
}

// Follow sees everything once, what was and what comes, across cuts.
func TestFollow(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, ws.Config{})
	net := newCutter(d)
	engine := d.session()
	s := openSession(t, d.url, engine.ID(), ws.SessionOptions{})
	wait(t, command(t, s, ws.Run{Code: "echo before"}))
	net.cutAfter(func() int { return 3000 + rand.N(150_000) })
	var out bytes.Buffer
	var follower sync.WaitGroup
	var after uint64
	met, all := make(chan struct{}), make(chan struct{})
	follower.Go(func() {
		err := ws.Follow(within(t), net.url(), engine.ID(), client(t, ws.SessionOptions{After: &after, View: true}), func(m ws.Message) error {
			if m.Type == ws.TypeStdout {
				if out.Len() == 0 {
					close(met)
				}
				if out.Write(m.Data); bytes.HasSuffix(out.Bytes(), []byte("\n20000\n")) {
					close(all)
				}
			}
			return nil
		})
		if err != nil {
			t.Errorf("follow: %v", err)
		}
	})
	<-met
	wait(t, command(t, s, ws.Run{Code: "seq 20000"}))
	s.Close()
	<-all
	if err := d.m.Delete(engine.ID()); err != nil {
		t.Fatal(err)
	}
	follower.Wait()
	want := "before\n"
	for i := range 20000 {
		want += fmt.Sprintln(i + 1)
	}
	if out.String() != want {
		t.Errorf("%d bytes seen of %d", out.Len(), len(want))
	}
	stop := errors.New("enough")
	if err := ws.Follow(within(t), d.url, d.session().ID(), client(t, ws.SessionOptions{}), func(ws.Message) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("stopped: %v", err)
	}
}
