package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// stepLimit is how long one step may take. It is far more than any needs: what takes longer
// hangs.
const stepLimit = 2 * time.Minute

// A worker does one step after the other, most of them in a session that it keeps for some
// steps.
type worker struct {
	soak    *soak
	id      int
	rng     *rand.Rand
	rest    *client
	session *session
	made    int // sessions
}

func newWorker(s *soak, id int) *worker {
	return &worker{soak: s, id: id, rng: rand.New(rand.NewPCG(s.cfg.seed, uint64(id))), rest: newClient(s.server.url, s.server.token)}
}

// fork is a generator of its own.
func (w *worker) fork() *rand.Rand { return rand.New(rand.NewPCG(w.rng.Uint64(), w.rng.Uint64())) }

// A step is one scenario at work, with a generator of its own: what an earlier one drew
// does not change it.
type step struct {
	*worker
	n    int
	name string
	rng  *rand.Rand
	ids  int

	// Whether a session has to be made differs when a step is repeated alone: that must not
	// draw from rng.
	setup *rand.Rand
}

func (w *worker) work(ctx context.Context) {
	defer w.rest.close()
	for n := 1; ctx.Err() == nil && !w.soak.server.gone(); n++ {
		st := &step{worker: w, n: n, rng: w.fork(), setup: w.fork()}
		sc := pick(st.rng)
		st.name = sc.name
		if !st.wanted() {
			if n > 1_000_000 {
				break
			}
			continue
		}
		begun := time.Now()
		w.try(st, sc)
		if w.soak.cfg.verbose {
			fmt.Fprintf(w.soak.stderr, "%5.1fs  worker %d step %d %s took %v\n", time.Since(w.soak.started).Seconds(), w.id, n, sc.name, time.Since(begun).Round(time.Millisecond))
		}
	}
	w.end()
}

// wanted reports whether the flags leave the step in.
func (st *step) wanted() bool {
	only := st.soak.cfg.only
	return only == "" || only == st.name || only == fmt.Sprintf("%d/%d", st.id, st.n)
}

func (w *worker) try(st *step, sc scenario) {
	ctx, cancel := context.WithTimeout(context.Background(), stepLimit)
	defer cancel()
	begun := time.Now()
	err := st.run(ctx, sc)
	if err == nil {
		return
	}
	session := "none"
	if w.session != nil {
		session = w.session.id
		w.session.spent = true
	}
	w.soak.tally.fail("worker %d step %d %s (seed %d, session %s), after %v: %v", w.id, st.n, st.name, w.soak.cfg.seed, session, time.Since(begun).Round(time.Millisecond), err)
}

func (st *step) run(ctx context.Context, sc scenario) error {
	w := st.worker
	if w.session != nil && (w.session.spent || w.session.steps > 40 || st.setup.IntN(15) == 0) {
		s := w.session
		w.session = nil
		if err := st.delete(ctx, s); err != nil {
			return err
		}
	}
	if w.session == nil {
		s, err := st.create(ctx)
		if err != nil {
			return fmt.Errorf("create a session: %w", err)
		}
		w.session = s
	}
	w.session.steps++
	return sc.run(st, ctx, w.session)
}

// end deletes the worker's session.
func (w *worker) end() {
	if w.session == nil || w.soak.server.gone() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), stepLimit)
	defer cancel()
	st := &step{worker: w, name: "end", rng: w.rng, setup: w.rng}
	if err := st.delete(ctx, w.session); err != nil {
		w.soak.tally.fail("worker %d at the end (seed %d, session %s): %v", w.id, w.soak.cfg.seed, w.session.id, err)
	}
}

// A session is one that a worker made, and what its shell must know. Every change of state
// counts n up and notes the directory at that count: whatever state a new shell was given,
// it must be one that the session was in.
type session struct {
	id, mark, dir string
	token         string // the value of a variable that is set once
	steps         int
	spent         bool // to be deleted

	low, high int // what n may be
	kept      int // a new shell has at least this
	cwd       map[int]string
	shells    map[process]bool // seen so far
}

// create makes a session. Its first run ends the shell, so that all it has set is in the
// state that any later shell is given.
func (st *step) create(ctx context.Context) (*session, error) {
	st.made++
	name := fmt.Sprintf("w%d-%d", st.id, st.made)
	s := &session{
		mark:  fmt.Sprintf("SOAK_MARK=%016x", st.setup.Uint64()),
		dir:   filepath.Join(st.soak.root, "work", name),
		token: strconv.FormatUint(st.setup.Uint64(), 36), cwd: map[int]string{}, shells: map[process]bool{},
	}
	s.cwd[0] = s.dir
	mark, value, _ := strings.Cut(s.mark, "=")
	var made struct {
		ID string `json:"session_id"`
	}
	body := map[string]any{"cwd": s.dir, "name": name, "env": map[string]string{mark: value}}
	if err := st.rest.call(ctx, http.MethodPost, "/session", body, &made); err != nil {
		return nil, err
	}
	s.id = made.ID
	st.soak.tally.run("session created")
	code := fmt.Sprintf("n=0; token='%s'; greet() { echo \"hello, $1\"; }; list=(a 'b c'); export SOAK_EXPORTED=yes; exit 7", s.token)
	if err := st.plainly(ctx, s, runRequest{Code: code}, "", exited(7)); err != nil {
		return nil, fmt.Errorf("first run: %w", err)
	}
	return s, st.probe(ctx, s)
}

// changed notes that a run has counted n up and left the session in dir; "" is where it
// was. The run may not have come that far.
func (s *session) changed(dir string) {
	if dir == "" {
		dir = s.cwd[s.high]
	}
	s.high++
	s.low, s.cwd[s.high] = s.high, dir
}

// lost notes that the shell may have gone without a farewell.
func (s *session) lost() { s.low = s.kept }

// probe has the session tell its state.
func (st *step) probe(ctx context.Context, s *session) error {
	const code = `printf '%s|%s|%s|%s|%s|%s' "$n" "$token" "$(greet you)" "${list[1]}" "$$" "$PWD"; [[ $(printenv SOAK_EXPORTED) == yes ]]`
	r, err := st.rest.runJSON(ctx, s.id, runRequest{Code: code})
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	st.soak.tally.run("probe of the state")
	parts := strings.SplitN(string(r.stdout), "|", 6)
	if len(parts) != 6 {
		return fmt.Errorf("probe: %v, said %q and %q", r.end, r.stdout, near(r.stderr, 0))
	}
	n, err := strconv.Atoi(parts[0])
	if err != nil || n < s.low || n > s.high {
		return fmt.Errorf("probe: n is %q, want %d to %d (%v)", parts[0], s.low, s.high, err)
	}
	if got := strings.Join(parts[1:4], "|"); got != s.token+"|hello, you|b c" || r.end != exited(0) {
		return fmt.Errorf("probe: state is %q and %v, at n=%d; stderr %q", got, r.end, n, near(r.stderr, 0))
	}
	if parts[5] != s.cwd[n] {
		return fmt.Errorf("probe: directory is %q, want %q, at n=%d", parts[5], s.cwd[n], n)
	}
	s.low, s.high = n, n
	if pid, err := strconv.Atoi(parts[4]); err == nil {
		if p, ok := find(pid); ok {
			s.shells[p] = true
		}
	}
	return nil
}

// plainly runs and expects all of stdout and one of some ends.
func (st *step) plainly(ctx context.Context, s *session, req runRequest, stdout string, allowed ...outcome) error {
	r, err := st.rest.runJSON(ctx, s.id, req)
	if err != nil {
		return err
	}
	if err := expectEnd(r.end, allowed...); err != nil {
		return fmt.Errorf("%w; stdout %q, stderr %q", err, near(r.stdout, 0), near(r.stderr, 0))
	}
	return st.soak.tally.compare("stdout", r.stdout, []byte(stdout))
}

// delete deletes a session: once that is answered nothing of it may be there.
func (st *step) delete(ctx context.Context, s *session) error {
	if err := st.rest.call(ctx, http.MethodDelete, "/session/"+s.id, nil, nil); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	st.soak.tally.run("session deleted")
	return st.gone(ctx, s)
}

// gone fails if there is something left of a session.
func (st *step) gone(ctx context.Context, s *session) error {
	if left := processesOf(s.dir, s.mark); len(left) > 0 {
		return fmt.Errorf("after the session's end there are still %q", left)
	}
	for p := range s.shells {
		if p.alive() {
			return fmt.Errorf("after the session's end its shell %d is still there", p.pid)
		}
	}
	err := st.rest.call(ctx, http.MethodGet, "/session/"+s.id, nil, nil)
	if !isCode(err, "CONTEXT_NOT_FOUND") || !isStatus(err, http.StatusNotFound) {
		return fmt.Errorf("the deleted session is answered with %v", err)
	}
	return os.RemoveAll(s.dir)
}

// runID is a new name for a run.
func (st *step) runID() string {
	st.ids++
	return fmt.Sprintf("w%d.%d-%d", st.id, st.n, st.ids)
}

// newReader is a WebSocket client of some kind, not connected yet.
func (st *step) newReader(s *session) *reader {
	r := &reader{
		url: st.soak.server.url, token: st.soak.server.token, session: s.id, journal: newJournal(),
		rng: rand.New(rand.NewPCG(st.rng.Uint64(), st.rng.Uint64())), json: st.rng.IntN(2) == 0,
	}
	if st.rng.IntN(4) == 0 {
		r.window = uint64(1<<10 + st.rng.IntN(256<<10))
	}
	return r
}

// attach is a connected reader.
func (st *step) attach(ctx context.Context, s *session) (*reader, error) {
	r := st.newReader(s)
	return r, r.connect(ctx)
}
