package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"tandem/ws"
)

// wsViewers has several clients in one session: every one that reads must get every byte,
// however slowly, and one that sleeps must not matter.
func (st *step) wsViewers(ctx context.Context, s *session) error {
	p, err := st.payload(s, 2*megabyte)
	if err != nil {
		return err
	}
	var readers []*reader
	defer func() {
		for _, r := range readers {
			r.close()
		}
	}()
	for i := range 3 + st.rng.IntN(4) {
		r := st.newReader(s)
		if i > 0 {
			st.habits(r)
		}
		readers = append(readers, r)
		if err := r.connect(ctx); err != nil {
			return err
		}
	}
	asleep := st.newReader(s)
	asleep.view, asleep.token = true, st.soak.server.viewToken
	readers = append(readers, asleep)
	if err := asleep.connect(ctx); err != nil {
		return err
	}
	id := st.runID()
	if err := readers[0].c.Run(ctx, ws.Run{ID: id, Code: p.code}); err != nil {
		return err
	}
	st.soak.tally.run(st.name)
	errs := make([]error, len(readers))
	var wg sync.WaitGroup
	for i, r := range readers[:len(readers)-1] {
		wg.Go(func() { errs[i] = st.watch(ctx, r, id, p) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// habits makes a reader slow, or a viewer, or one with a bad connection.
func (st *step) habits(r *reader) {
	if st.rng.IntN(2) == 0 {
		r.view, r.token = true, st.soak.server.viewToken
	}
	switch st.rng.IntN(3) {
	case 0:
		r.pause = time.Duration(1+st.rng.IntN(10)) * time.Millisecond
	case 1:
		r.cutEvery = 3 + st.rng.IntN(20)
	}
}

func (st *step) watch(ctx context.Context, r *reader, id string, p payload) error {
	who := fmt.Sprintf("reader (json %t, view %t, window %d, cut every %d, pause %v)", r.json, r.view, r.window, r.cutEvery, r.pause)
	got, err := r.ended(ctx, id)
	for range r.cuts {
		st.soak.tally.fault("ws connection cut and resumed")
	}
	if err == nil {
		err = st.soak.tally.expect(got, p)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", who, err)
	}
	return nil
}

// events reads the whole journal of the session as far as it is kept, and expects it to be
// without a hole.
func (st *step) events(ctx context.Context, s *session) error {
	text := randomBytes(st.rng, size(st.rng, 100<<10))
	id := st.runID()
	code := "printf '" + quoteFormat(text) + "'"
	if err := st.rest.call(ctx, http.MethodPost, "/session/"+s.id+"/run", runRequest{Code: code, RunID: id, Detach: true}, nil); err != nil {
		return err
	}
	st.soak.tally.run(st.name)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	res, err := st.rest.send(ctx, http.MethodGet, "/session/"+s.id+"/events", "text/event-stream", nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	a := audit{events: newSSEReader(res.Body), run: id}
	for !a.ended {
		if err := a.step(); err != nil {
			return fmt.Errorf("events: %w", err)
		}
	}
	return st.soak.tally.compare("output in events", a.out, text)
}

// An audit reads a journal over REST.
type audit struct {
	events *sseReader
	run    string
	begun  bool
	pos    uint64
	out    []byte // stdout of run
	ended  bool
}

// A journalEvent is one event of it.
type journalEvent struct {
	Type   string  `json:"type"`
	Pos    *uint64 `json:"pos"`
	RunID  string  `json:"run_id"`
	Text   string  `json:"text"`
	Base64 *string `json:"base64"`
	From   uint64  `json:"from"`
	To     uint64  `json:"to"`
}

func (a *audit) step() error {
	e, err := a.events.next()
	if err != nil {
		return err
	}
	var v journalEvent
	if err := json.Unmarshal(e.data, &v); err != nil {
		return fmt.Errorf("%.200q: %w", e.data, err)
	}
	if !a.begun {
		if v.Type != ws.TypeAttached || v.Pos == nil {
			return fmt.Errorf("the first event is %.200s", e.data)
		}
		a.begun, a.pos = true, *v.Pos
		return nil
	}
	if v.Type == ws.TypeGap {
		a.pos = v.To // the writer was faster: that is allowed of one who asked for all there is
		return nil
	}
	return a.placed(e, &v)
}

func (a *audit) placed(e sseEvent, v *journalEvent) error {
	if v.Pos == nil {
		return nil
	}
	if *v.Pos != a.pos {
		return fmt.Errorf("%s at %d, want %d", v.Type, *v.Pos, a.pos)
	}
	data := []byte(v.Text)
	if v.Base64 != nil {
		var err error
		if data, err = base64.StdEncoding.DecodeString(*v.Base64); err != nil {
			return err
		}
	}
	a.pos++
	if v.Type == ws.TypeStdout || v.Type == ws.TypeStderr {
		a.pos += uint64(len(data)) - 1
	}
	if e.id != a.pos {
		return fmt.Errorf("%s at %d has the id %d, want %d", v.Type, *v.Pos, e.id, a.pos)
	}
	if v.RunID != a.run {
		return nil
	}
	switch v.Type {
	case ws.TypeStdout:
		a.out = append(a.out, data...)
	case ws.TypeRunFinished:
		a.ended = true
	}
	return nil
}

// deleteRunning deletes the session under a run, others that wait, and those who watch.
func (st *step) deleteRunning(ctx context.Context, s *session) error {
	s.spent = true
	r, err := st.attach(ctx, s)
	defer r.close()
	if err != nil {
		return err
	}
	id, err := st.begin(ctx, r, hostile(st.rng)+endless[st.rng.IntN(len(endless))])
	if err != nil {
		return err
	}
	waiting := st.runID()
	if err := st.enqueue(ctx, s, r, waiting, "echo not"); err != nil {
		return err
	}
	st.worker.session = nil
	if err := st.delete(ctx, s); err != nil {
		return err
	}
	st.soak.tally.run(st.name)
	for _, run := range []string{id, waiting} {
		got, err := r.ended(ctx, run)
		if err == nil {
			err = expectEnd(got.end, sessionClosed)
		}
		if err != nil {
			return fmt.Errorf("run of a deleted session: %w", err)
		}
	}
	if err := r.until(ctx, "session.closed", func() bool { return r.journal.closed }); err != nil {
		return err
	}
	if _, err := r.c.Next(ctx); !closedWith(err, 4000) {
		return fmt.Errorf("the connection to a deleted session ends with %v, want code 4000", err)
	}
	return nil
}

// hostiles are children that are hard to end, or to live with.
var hostiles = []string{
	"setsid sleep 1000 & ",
	"(setsid sh -c 'sleep 1001 & sleep 1002' >/dev/null 2>&1 &) ; ",
	`bash -c 'trap "" TERM INT HUP; while :; do sleep 1; done' & `,
	"sleep 1003 & kill -STOP $!; ",
	"sleep 1004 & ",
	"(trap '' TERM HUP; exec setsid sleep 1005) & disown; ",
	`env -i "$(type -P setsid)" "$(type -P sleep)" 1006 & `,
	"nohup sleep 1007 >/dev/null 2>&1 & ",
	"bash -c 'kill -STOP $$' & ",
	"(cd /; exec sleep 1008) & ",
	"exec 9>&1; sleep 1009 & exec 9>&-; ",
}

// hostile is code that starts some.
func hostile(rng *rand.Rand) (code string) {
	for range 1 + rng.IntN(4) {
		code += hostiles[rng.IntN(len(hostiles))]
	}
	return code
}

// children starts some of them, which must hold nothing up, and end with the session.
func (st *step) children(ctx context.Context, s *session) error {
	code := "n=$((n+1)); " + hostile(st.rng) + "echo begun"
	if err := st.plainly(ctx, s, runRequest{Code: code}, "begun\n", exited(0)); err != nil {
		return fmt.Errorf("%w: %s", err, code)
	}
	st.soak.tally.run(st.name)
	s.changed("")
	if err := st.probe(ctx, s); err != nil {
		return fmt.Errorf("%w, after %s", err, code)
	}
	// That nothing is found later would be worth little if nothing were found now.
	if len(processesOf(s.dir, s.mark)) == 0 && canFind {
		return fmt.Errorf("none of the children is there: %s", code)
	}
	if st.rng.IntN(2) == 0 {
		st.worker.session = nil
		return st.delete(ctx, s)
	}
	return nil
}
