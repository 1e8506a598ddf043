package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tandem/sessions"
	"tandem/ws"
)

// wsOutput reads the output of a run live, over connections that are cut.
func (st *step) wsOutput(ctx context.Context, s *session) error {
	p, err := st.payload(s, 3*megabyte)
	if err != nil {
		return err
	}
	r, err := st.attach(ctx, s)
	defer r.close()
	if err != nil {
		return err
	}
	id := st.runID()
	if err := r.c.Run(ctx, ws.Run{ID: id, Ref: "r", Code: p.code}); err != nil {
		return err
	}
	if err := r.until(ctx, "the start", func() bool { return r.journal.run(id).started }); err != nil {
		return err
	}
	if st.rng.IntN(2) == 0 {
		r.cutEvery = 2 + st.rng.IntN(30)
	}
	if st.rng.IntN(5) == 0 {
		r.pause = time.Duration(1+st.rng.IntN(4)) * time.Millisecond
	}
	got, err := r.ended(ctx, id)
	st.soak.tally.run(st.name)
	for range r.cuts {
		st.soak.tally.fault("ws connection cut and resumed")
	}
	if err != nil {
		return err
	}
	return st.soak.tally.expect(got, p)
}

// wsStdin sends a run its input and gets it back.
func (st *step) wsStdin(ctx context.Context, s *session) error {
	r, err := st.attach(ctx, s)
	defer r.close()
	if err != nil {
		return err
	}
	id := st.runID()
	var want []byte
	if st.rng.IntN(4) == 0 {
		text := randomText(st.rng, size(st.rng, 300<<10))
		want = []byte(text)
		err = r.c.Run(ctx, ws.Run{ID: id, Code: "cat", Stdin: sessions.TextStdin, Text: text})
	} else {
		want = randomBytes(st.rng, size(st.rng, 3*megabyte))
		err = r.c.Run(ctx, ws.Run{ID: id, Code: "cat", Stdin: sessions.OpenStdin})
		// Who overruns the window for input is read no further, nor are its acks: only one
		// whom the server does not hold the command back for may do that.
		within := r.window > 0 || st.rng.IntN(2) == 0
		go st.feed(ctx, r, st.chunks(want), within)
	}
	if err != nil {
		return err
	}
	got, err := r.ended(ctx, id)
	st.soak.tally.run(st.name)
	if err != nil {
		return err
	}
	for _, e := range r.journal.errors {
		return fmt.Errorf("stdin is answered with %s: %s", e.Code, e.Message)
	}
	return st.soak.tally.expect(got, payload{stdout: want})
}

// chunks cuts b at random.
func (st *step) chunks(b []byte) (chunks [][]byte) {
	for len(b) > 0 {
		n := 1 + st.rng.IntN(min(len(b), 128<<10))
		chunks = append(chunks, b[:n])
		b = b[n:]
	}
	return chunks
}

// feed sends input and its end, within what the server lets on its way or without looking
// at that. Should the connection fail, the reader of it knows.
func (st *step) feed(ctx context.Context, r *reader, chunks [][]byte, within bool) {
	c, window := r.c, uint64(r.c.Attached.StdinWindow)
	sent := uint64(0)
	for _, b := range chunks {
		sent += uint64(len(b))
		for within && sent > r.journal.taken.Load()+window && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		if c.Stdin(ctx, b) != nil {
			return
		}
	}
	_ = c.CloseStdin(ctx, "", "")
}

// wsBackground lets a job go on writing when its run has ended, while others run. What it
// writes stays with its run.
func (st *step) wsBackground(ctx context.Context, s *session) error {
	r, err := st.attach(ctx, s)
	defer r.close()
	if err != nil {
		return err
	}
	late := randomBytes(st.rng, 1+st.rng.IntN(2000))
	job := st.runID()
	code := fmt.Sprintf("{ sleep 0.%d; printf '%s'; sleep 0.1; printf '%s'; } & :", st.rng.IntN(5), quoteFormat(late), quoteFormat(late))
	if err := r.c.Run(ctx, ws.Run{ID: job, Code: code}); err != nil {
		return err
	}
	for range 1 + st.rng.IntN(4) {
		p, err := st.payload(s, 100<<10)
		if err != nil {
			return err
		}
		id := st.runID()
		if err := r.c.Run(ctx, ws.Run{ID: id, Code: p.code}); err != nil {
			return err
		}
		got, err := r.ended(ctx, id)
		if err != nil {
			return err
		}
		st.soak.tally.run(st.name)
		if err := st.soak.tally.expect(got, p); err != nil {
			return err
		}
	}
	l, want := r.journal.run(job), append(late[:len(late):len(late)], late...)
	if err := r.until(ctx, "late output", func() bool { return l.ended && len(l.stdout) >= len(want) }); err != nil {
		return err
	}
	return st.soak.tally.expect(&l.result, payload{stdout: want})
}

// endless are runs that only an interrupt ends.
var endless = []string{
	"sleep 60", "while :; do :; done", "while :; do sleep 0.01; done", "x=$(sleep 60)", "sleep 60 & wait",
	"read -r x < <(sleep 60)", "for ((;;)); do printf ''; done", "cat /dev/zero >/dev/null",
}

// begin starts an endless run and waits until it is at work.
func (st *step) begin(ctx context.Context, r *reader, body string) (id string, err error) {
	id = st.runID()
	if err := r.c.Run(ctx, ws.Run{ID: id, Code: "n=$((n+1)); echo begun; " + body}); err != nil {
		return id, err
	}
	if err := r.printed(ctx, id, "begun"); err != nil {
		return id, err
	}
	time.Sleep(time.Duration(st.rng.IntN(40)) * time.Millisecond) // any moment will do
	return id, nil
}

// wsInterrupt interrupts over one of the doors and expects everything to be kept.
func (st *step) wsInterrupt(ctx context.Context, s *session) error {
	r, err := st.attach(ctx, s)
	defer r.close()
	if err != nil {
		return err
	}
	id, err := st.begin(ctx, r, endless[st.rng.IntN(len(endless))])
	if err != nil {
		return err
	}
	begun := time.Now()
	press := st.press(ctx, s, r.c, id)
	got, err := r.ended(ctx, id)
	presses, pressed := press.stop()
	st.soak.tally.run(st.name)
	if err != nil {
		return fmt.Errorf("after %d interrupts: %w", presses, err)
	}
	if pressed != nil {
		return pressed
	}
	s.changed("")
	// What the SDKs send is an interrupt with force: on a busy machine its next rungs may
	// have been reached.
	if presses > gentle || press.door == doorCommand && time.Since(begun) > 900*time.Millisecond {
		st.soak.tally.run("ended by force in the end")
		s.lost() // the shell may have gone with it
		if err := expectEnd(got.end, outcome{"interrupted", anyCode}, shellKilled, exited(143), exited(137)); err != nil {
			return err
		}
	} else if err := expectEnd(got.end, interrupted); err != nil {
		return fmt.Errorf("%w, after %d interrupts", err, presses)
	}
	if err := st.soak.tally.compare("stdout", got.stdout, []byte("begun\n")); err != nil {
		return err
	}
	return st.probe(ctx, s)
}

// gentle is how many interrupts come before one with force. Bash can lose one that comes
// while it forks, on a terminal as well: then one presses again.
const gentle = 5

// A presser interrupts a run again and again until it is told to stop.
type presser struct {
	cancel  context.CancelFunc
	done    chan struct{}
	door    int
	presses int
	err     error
}

// The doors an interrupt can be sent through.
const (
	doorCommand = iota // as the SDKs do
	doorWS
	doorREST
	doors
)

func (st *step) press(ctx context.Context, s *session, c *ws.Client, id string) *presser {
	ctx, cancel := context.WithCancel(ctx)
	p := &presser{cancel: cancel, done: make(chan struct{}), door: st.rng.IntN(doors)}
	go func() {
		defer close(p.done)
		for p.err == nil && ctx.Err() == nil {
			p.presses++
			err := st.interrupt(ctx, s, c, id, p.door, p.presses > gentle)
			if err != nil && ctx.Err() == nil && !isCode(err, "RUN_NOT_RUNNING") {
				p.err = fmt.Errorf("interrupt: %w", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(2 * time.Second):
			}
		}
	}()
	return p
}

func (p *presser) stop() (presses int, err error) {
	p.cancel()
	<-p.done
	return p.presses, p.err
}

func (st *step) interrupt(ctx context.Context, s *session, c *ws.Client, id string, door int, force bool) error {
	switch {
	case door == doorCommand:
		return st.rest.call(ctx, http.MethodDelete, "/command?id="+s.id, nil, nil)
	case door == doorWS:
		// A context that ends during the write would end the connection.
		return c.Interrupt(context.WithoutCancel(ctx), "i", id, force)
	}
	return st.rest.call(ctx, http.MethodPost, "/session/"+s.id+"/interrupt", map[string]any{"run_id": id, "force": force}, nil)
}

// wsForce ends a command that ignores the polite signals.
func (st *step) wsForce(ctx context.Context, s *session) error {
	r, err := st.attach(ctx, s)
	defer r.close()
	if err != nil {
		return err
	}
	id, err := st.begin(ctx, r, `bash -c 'trap "" INT TERM HUP; while :; do sleep 0.1; done'`)
	if err != nil {
		return err
	}
	if err := r.c.Interrupt(ctx, "f", id, true); err != nil {
		return err
	}
	got, err := r.ended(ctx, id)
	st.soak.tally.run(st.name)
	if err != nil {
		return err
	}
	s.changed("")
	s.lost() // the shell is the last rung of the ladder
	if err := expectEnd(got.end, outcome{"interrupted", anyCode}, exited(137), shellKilled); err != nil {
		return err
	}
	return st.probe(ctx, s)
}

// wsQueue has runs wait behind one, and takes one of them out.
func (st *step) wsQueue(ctx context.Context, s *session) error {
	r, err := st.attach(ctx, s)
	defer r.close()
	if err != nil {
		return err
	}
	gate := filepath.Join(s.dir, st.runID()+".gate")
	first, err := st.begin(ctx, r, fmt.Sprintf("while [[ ! -e '%s' ]]; do sleep 0.02; done", gate))
	if err != nil {
		return err
	}
	var ids []string
	for i := range 3 + st.rng.IntN(3) {
		id := st.runID()
		ids = append(ids, id)
		if err := st.enqueue(ctx, s, r, id, "echo "+strconv.Itoa(i)); err != nil {
			return err
		}
	}
	out := st.rng.IntN(len(ids))
	if err := st.rest.call(ctx, http.MethodDelete, "/session/"+s.id+"/run/"+ids[out], nil, nil); err != nil {
		return fmt.Errorf("cancel a run that waits: %w", err)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		return err
	}
	want := []string{first}
	for i, id := range ids {
		got, err := r.ended(ctx, id)
		if err != nil {
			return err
		}
		st.soak.tally.run(st.name)
		if i == out {
			err = expectEnd(got.end, canceled)
		} else {
			want = append(want, id)
			err = st.soak.tally.expect(got, payload{stdout: []byte(strconv.Itoa(i) + "\n")})
		}
		if err != nil {
			return fmt.Errorf("run %d of the queue: %w", i, err)
		}
	}
	s.changed("")
	if got := strings.Join(r.journal.started, " "); got != strings.Join(want, " ") {
		return fmt.Errorf("runs started in the order %q, want %q", got, want)
	}
	return st.probe(ctx, s)
}

// enqueue asks for a run over one of the doors, and waits until it is in the queue.
func (st *step) enqueue(ctx context.Context, s *session, r *reader, id, code string) error {
	if st.rng.IntN(2) == 0 {
		return st.rest.call(ctx, http.MethodPost, "/session/"+s.id+"/run", runRequest{Code: code, RunID: id, Detach: true}, nil)
	}
	queued := r.journal.queued
	if err := r.c.Run(ctx, ws.Run{ID: id, Code: code}); err != nil {
		return err
	}
	return r.until(ctx, "run.queued", func() bool { return r.journal.queued > queued })
}

// wsCancel cancels a run that is on.
func (st *step) wsCancel(ctx context.Context, s *session) error {
	r, err := st.attach(ctx, s)
	defer r.close()
	if err != nil {
		return err
	}
	id, err := st.begin(ctx, r, endless[st.rng.IntN(len(endless))])
	if err != nil {
		return err
	}
	if st.rng.IntN(2) == 0 {
		err = r.c.Cancel(ctx, "c", id)
	} else {
		err = st.rest.call(ctx, http.MethodDelete, "/session/"+s.id+"/run/"+id, nil, nil)
	}
	if err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	got, err := r.ended(ctx, id)
	st.soak.tally.run(st.name)
	if err != nil {
		return err
	}
	s.changed("")
	s.lost() // it is a forced interrupt: the last rung of the ladder is the shell
	if err := expectEnd(got.end, canceled); err != nil {
		return err
	}
	return st.probe(ctx, s)
}

// wsEphemeral makes a session that ends with its connection.
func (st *step) wsEphemeral(ctx context.Context, _ *session) error {
	e := &session{dir: filepath.Join(st.soak.root, "work", st.runID()+"e"), mark: "SOAK_MARK=none", shells: map[process]bool{}}
	r := st.newReader(e)
	defer r.close()
	if err := r.dial(ctx, "/ws?"+url.Values{"ephemeral": {"1"}, "cwd": {e.dir}}.Encode()); err != nil {
		return err
	}
	e.id = r.c.Attached.SessionID
	id := st.runID()
	if err := r.c.Run(ctx, ws.Run{ID: id, Code: "sleep 1000 & setsid sleep 1000 & echo begun; sleep 1000"}); err != nil {
		return err
	}
	if err := r.printed(ctx, id, "begun"); err != nil {
		return err
	}
	st.soak.tally.run(st.name)
	if err := r.goodbye(); err != nil {
		return fmt.Errorf("goodbye: %w", err)
	}
	// "At once" is not before the close was answered: it is waited for.
	for {
		err := st.rest.call(ctx, http.MethodGet, "/session/"+e.id, nil, nil)
		if isStatus(err, http.StatusNotFound) {
			break
		}
		if err != nil {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
	return st.eventuallyGone(ctx, e)
}

// eventuallyGone is gone for a session whose end nobody could wait for.
func (st *step) eventuallyGone(ctx context.Context, s *session) error {
	for end := time.Now().Add(settleLimit); ; time.Sleep(10 * time.Millisecond) {
		err := st.gone(ctx, s)
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}
