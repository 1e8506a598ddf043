package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"tandem/sessions"
	"tandem/ws"
)

// talkative is a run that writes for seconds.
const talkative = "n=$((n+1)); for ((i_ = 0; i_ < 300; i_++)); do echo \"line $i_\"; sleep 0.02; done"

// cutREST goes away in the middle of a run that nobody else holds: it is canceled.
func (st *step) cutREST(ctx context.Context, s *session) error {
	c := newClient(st.soak.server.url, st.soak.server.token)
	defer c.close()
	o, err := c.openRun(ctx, s.id, runRequest{Code: talkative})
	if err != nil {
		return err
	}
	defer o.close()
	for range 3 + st.rng.IntN(20) {
		if err := o.step(); err != nil {
			return err
		}
	}
	c.wire.cut(st.rng)
	st.soak.tally.fault(st.name)
	end, err := st.rest.finished(ctx, s.id, o.result.runID)
	if err != nil {
		return err
	}
	s.changed("")
	s.lost()
	if err := expectEnd(end, canceled); err != nil {
		return err
	}
	return st.probe(ctx, s)
}

// cutRepeat goes away and comes back with the same run_id, as a client does that is not
// sure to have been heard.
func (st *step) cutRepeat(ctx context.Context, s *session) error {
	p, err := st.payload(s, 2*megabyte)
	if err != nil {
		return err
	}
	p.code = "n=$((n+1)); echo first; sleep 0.2\n" + p.code
	p.stdout = append([]byte("first\n"), p.stdout...)
	req := runRequest{Code: p.code, RunID: st.runID()}
	c := newClient(st.soak.server.url, st.soak.server.token)
	defer c.close()
	for range 1 + st.rng.IntN(3) {
		o, err := c.openRun(ctx, s.id, req)
		if err != nil {
			return err
		}
		for range 1 + st.rng.IntN(4) {
			if err := o.step(); err != nil {
				o.close()
				return err
			}
		}
		c.wire.cut(st.rng)
		o.close()
		st.soak.tally.fault(st.name)
		time.Sleep(time.Duration(st.rng.IntN(300)) * time.Millisecond)
	}
	r, err := st.rest.runSSE(ctx, s.id, req)
	if err != nil {
		return err
	}
	s.changed("")
	if err := st.soak.tally.expect(r, p); err != nil {
		return err
	}
	return st.probe(ctx, s)
}

// big puts more into a file than any buffer on the way holds.
func (st *step) big(s *session) (path string, data []byte, err error) {
	path = filepath.Join(s.dir, st.runID()+".big")
	data = randomBytes(st.rng, 6*megabyte)
	return path, data, os.WriteFile(path, data, 0o600)
}

// neverReadWS attaches a client that never reads: it holds the command back until it is
// cut off, and no longer.
func (st *step) neverReadWS(ctx context.Context, s *session) error {
	path, data, err := st.big(s)
	if err != nil {
		return err
	}
	deaf, err := st.attach(ctx, s)
	defer deaf.close()
	if err != nil {
		return err
	}
	r := st.newReader(s)
	r.window = 0
	defer r.close()
	if err := r.connect(ctx); err != nil {
		return err
	}
	st.soak.tally.fault(st.name)
	id := st.runID()
	begun := time.Now()
	if err := r.c.Run(ctx, ws.Run{ID: id, Code: fmt.Sprintf("cat '%s'; rm '%s'", path, path)}); err != nil {
		return err
	}
	got, err := r.ended(ctx, id)
	if err != nil {
		return fmt.Errorf("beside one that never reads, after %v: %w", time.Since(begun), err)
	}
	if took := time.Since(begun); took > 6*stallTimeout {
		return fmt.Errorf("one that never reads held the command back for %v", took)
	}
	return st.soak.tally.expect(got, payload{stdout: data})
}

// neverReadREST asks for a big answer, reads nothing of it, and goes away some time.
func (st *step) neverReadREST(ctx context.Context, s *session) error {
	path, _, err := st.big(s)
	if err != nil {
		return err
	}
	c := newClient(st.soak.server.url, st.soak.server.token)
	defer c.close()
	o, err := c.openRun(ctx, s.id, runRequest{Code: fmt.Sprintf("cat '%s'", path)})
	if err != nil {
		return err
	}
	defer o.close()
	if err := o.step(); err != nil {
		return err
	}
	st.soak.tally.fault(st.name)
	time.Sleep(time.Duration(st.rng.Int64N(int64(stallTimeout * 3 / 2))))
	c.wire.cut(st.rng)
	end, err := st.rest.finished(ctx, s.id, o.result.runID)
	if err != nil {
		return err
	}
	s.lost()
	// Where we went first it is canceled; where the server cut us off it goes on.
	if err := expectEnd(end, canceled, exited(0)); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return st.probe(ctx, s)
}

// flood sends a run more input than it reads, faster than it reads.
func (st *step) flood(ctx context.Context, s *session) error {
	r, err := st.attach(ctx, s)
	defer r.close()
	if err != nil {
		return err
	}
	if r.window > 0 {
		return nil // its acks would wait behind its input
	}
	data := randomBytes(st.rng, 5*megabyte)
	want := data[:st.rng.IntN(megabyte)]
	id := st.runID()
	run := ws.Run{ID: id, Code: fmt.Sprintf("sleep 0.%d; head -c %d", st.rng.IntN(6), len(want)), Stdin: sessions.OpenStdin}
	if err := r.c.Run(ctx, run); err != nil {
		return err
	}
	st.soak.tally.fault(st.name)
	go st.feed(ctx, r, st.chunks(data), false)
	got, err := r.ended(ctx, id)
	if err != nil {
		return err
	}
	for _, e := range r.journal.errors {
		if e.Code != "NO_STDIN" {
			return fmt.Errorf("too much stdin is answered with %s: %s", e.Code, e.Message)
		}
	}
	// What came too late is answered; then the connection must be of use as before.
	if err := r.c.Ping(ctx, "alive"); err != nil {
		return err
	}
	for {
		m, err := r.next(ctx)
		if err != nil {
			return err
		}
		if m.Type == ws.TypePong && m.Ref == "alive" {
			break
		}
	}
	return st.soak.tally.expect(got, payload{stdout: want})
}

// wrongToken knocks without a token, with a wrong one, and with one that is only for
// looking.
func (st *step) wrongToken(ctx context.Context, s *session) error {
	st.soak.tally.fault(st.name)
	for _, token := range []string{"", "wrong", st.soak.server.token + "x"} {
		c := newClient(st.soak.server.url, token)
		defer c.close()
		for _, path := range []string{"/session", "/session/" + s.id, "/session/" + s.id + "/run", "/metrics"} {
			if err := c.call(ctx, http.MethodGet, path, nil, nil); !isStatus(err, http.StatusUnauthorized) {
				return fmt.Errorf("GET %s with the token %q is answered with %v", path, token, err)
			}
		}
		r := st.newReader(s)
		r.token = token
		err := r.connect(ctx)
		r.close()
		if e, ok := refusal(err); !ok || e.Status != http.StatusUnauthorized {
			return fmt.Errorf("a WebSocket with the token %q is answered with %v", token, err)
		}
	}
	c := newClient(st.soak.server.url, st.soak.server.viewToken)
	defer c.close()
	for _, path := range []string{"/session", "/session/" + s.id + "/run", "/session/" + s.id + "/interrupt"} {
		if err := c.call(ctx, http.MethodPost, path, map[string]string{"code": "echo not"}, nil); !isStatus(err, http.StatusForbidden) {
			return fmt.Errorf("POST %s with a token for viewing is answered with %v", path, err)
		}
	}
	return nil
}
