package sessions_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tandem/sessions"
	"tandem/sessions/sessionstest"
)

// TestRandom lets several sessions live through hundreds of runs that end in every way
// there is, with interrupts, cancels and timeouts at random moments, and readers that come
// and go; then it replays the journal of each against what must have happened.
//
// TANDEM_TEST_SEED repeats the runs of an earlier test. What bash and the scheduler made of
// them is not repeatable.
func TestRandom(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv("TANDEM_TEST_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("TANDEM_TEST_SEED=%d", seed)
	count, runs := 4, 60
	if testing.Short() {
		count, runs = 2, 20
	}
	private, dirs := t.TempDir(), t.TempDir()
	m := sessionstest.New(t, sessions.Config{Dir: private, Retention: 32 << 20, Logger: warnings(t)})
	mark := fmt.Sprint("random-", seed)
	t.Run("sessions", func(t *testing.T) {
		for i := range count {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				s, err := m.Create(sessions.Options{Cwd: filepath.Join(dirs, strconv.Itoa(i)), Env: map[string]string{"MARK": mark}})
				if err != nil {
					t.Fatal(err)
				}
				l := &life{t: t, m: m, s: s, rnd: rand.New(rand.NewPCG(seed, uint64(i))), plans: map[uint64]*plan{}}
				l.live(runs)
			})
		}
	})
	if left := sessionstest.Marked(mark); len(left) > 0 {
		t.Errorf("processes left behind: %q", left)
	}
	if left := processesIn(dirs); len(left) > 0 { // a shell that was restarted has no mark
		t.Errorf("processes left behind: %q", left)
	}
	if left, _ := filepath.Glob(filepath.Join(private, "*", "[0-9]*")); len(left) > 0 {
		t.Errorf("files left behind: %q", left)
	}
}

// warnings say, among others, why a shell is given up.
func warnings(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// processesIn returns the processes that have their directory in dir.
func processesIn(dir string) (found []string) {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && strings.HasPrefix(to, dir) {
			found = append(found, filepath.Dir(l)+" in "+to)
		}
	}
	return found
}

// A plan is a run, what it does when it is left alone, and what was done to it.
type plan struct {
	kind   string
	req    sessions.RunRequest
	body   string // stdout after the line every run begins with
	late   string // stdout after its end
	reason sessions.Reason
	exit   int
	signal string
	hangs  bool // it must be ended
	deaf   bool // and by force

	run *sessions.Run

	// What was asked for while it was not known to have ended.
	interrupted, canceled, closed bool
}

func (p *plan) disturbed() bool { return p.interrupted || p.canceled || p.closed || p.req.Timeout > 0 }

// begin is what every run does first: it counts, and tells the count. So each run tells
// whether the state that the runs before it left was kept.
func begin(k int) string { return fmt.Sprintf("set +e; n=$((n+1)); echo \"%d $n\"\n", k) }

// A life is one session, the runs it was given, and its readers.
type life struct {
	t       *testing.T
	m       *sessions.Manager
	s       *sessions.Session
	rnd     *rand.Rand
	plans   map[uint64]*plan // by number; the runs of sessionstest.Checkpoint are missing
	saved   []uint64         // positions below which all was in a checkpoint
	readers []*follower
}

func (l *life) live(runs int) {
	var wg sync.WaitGroup
	for i := range 4 {
		f := &follower{t: l.t, s: l.s, rnd: rand.New(rand.NewPCG(l.rnd.Uint64(), 0)), drops: i > 0, viewer: i == 3}
		l.readers = append(l.readers, f)
		wg.Go(f.follow)
	}
	sessionstest.Run(l.t, l.s, "n=0")
	l.checkpoint()
	for k := 0; k < runs; {
		burst := min(1+l.rnd.IntN(5), runs-k)
		plans := make([]*plan, burst)
		for i := range plans {
			plans[i] = l.submit(l.newPlan(k))
			k++
		}
		l.disturb(plans)
		for _, p := range plans {
			l.wait(p)
		}
		if l.rnd.IntN(6) == 0 {
			l.checkpoint()
		}
	}
	l.awaitLate()
	l.end(runs)
	wg.Wait()
	l.check()
}

func (l *life) submit(p *plan) *plan {
	p.run = sessionstest.Submit(l.t, l.s, p.req)
	l.plans[p.run.Number()] = p
	return p
}

func (l *life) checkpoint() {
	sessionstest.Checkpoint(l.t, l.s)
	r, snap, err := l.s.Attach(sessions.AttachOptions{})
	if err != nil {
		l.t.Error(err)
		return
	}
	r.Close()
	l.saved = append(l.saved, snap.Pos)
}

// awaitLate waits for the background jobs of the runs that nothing was done to.
func (l *life) awaitLate() {
	for _, p := range l.plans {
		if p.late != "" && !p.disturbed() {
			sessionstest.AwaitOutput(l.t, p.run, p.late)
		}
	}
}

// end deletes the session with one run on and others waiting.
func (l *life) end(k int) {
	for i := range 3 {
		p := l.submit(l.sleeper(k+i, 0))
		p.closed = true
	}
	if err := l.m.Delete(l.s.ID()); err != nil {
		l.t.Errorf("delete: %v", err)
	}
}

// newPlan makes up run k.
func (l *life) newPlan(k int) *plan {
	if k%40 == 17 { // it takes two seconds
		return l.deaf(k)
	}
	code := l.rnd.IntN(100)
	p := &plan{reason: sessions.ReasonExited, exit: code}
	var body string
	switch l.rnd.IntN(14) {
	case 0, 1:
		p.kind, p.body = "quick", "out\n\n"
		body = fmt.Sprintf("echo out; echo; echo err >&2; (exit %d)", code)
	case 2:
		p.kind, p.body = "exit", "bye\n"
		body = fmt.Sprintf("echo bye; f() { local n=x; exit %d; }; f", code)
	case 3:
		p.kind, p.body, p.exit = "set -e", "before\n", 1
		body = "set -e; echo before; false; echo not"
	case 4:
		p.kind, p.reason, p.exit, p.signal, p.body = "kill -9", sessions.ReasonShellExited, 137, "SIGKILL", "last\n"
		body = "echo last; kill -9 $$; echo not"
	case 5:
		p.kind, p.body = "exec", "new\n"
		body = fmt.Sprintf("exec sh -c 'echo new; exit %d'", code)
	case 6, 7:
		p.kind, p.exit, p.late = "background", 0, fmt.Sprintf("late %d\n", k)
		body = fmt.Sprintf("{ sleep 0.0%d; echo late %d; } & :", l.rnd.IntN(10), k)
	case 8:
		size := l.rnd.IntN(200_000)
		p.kind, p.exit, p.body = "output", 0, strings.Repeat("x", size)
		body = fmt.Sprintf(`head -c %d /dev/zero | tr '\0' x; echo "${PIPESTATUS[*]}" >&2`, size)
	case 9:
		p.kind, p.exit, p.req.Stdin, p.req.StdinText = "stdin", 0, sessions.TextStdin, l.bytes(50_000)
		p.body = string(p.req.StdinText)
		body = "cat"
	case 10:
		return &plan{kind: "refused", reason: sessions.ReasonRefused, exit: -1, req: sessions.RunRequest{Code: "echo not", Cwd: "/nonexistent"}}
	case 11:
		p := l.sleeper(k, time.Duration(20+l.rnd.IntN(80))*time.Millisecond)
		p.kind = "timeout"
		return p
	default:
		return l.sleeper(k, 0)
	}
	p.req.Code = begin(k) + body
	return p
}

// sleeper is a run that never ends by itself.
func (l *life) sleeper(k int, timeout time.Duration) *plan {
	body := [...]string{"sleep 60", "while :; do sleep 0.005; done", "x=$(sleep 60)", "read -r x < <(sleep 60)", "sleep 60 | cat", "sleep 60 & wait"}[l.rnd.IntN(6)]
	return &plan{kind: "sleeper", hangs: true, req: sessions.RunRequest{Code: begin(k) + body, Timeout: timeout}}
}

// deaf is one that INT and TERM do not end.
func (l *life) deaf(k int) *plan {
	code := begin(k) + `(trap '' INT TERM; sleep 60; sleep 60)`
	return &plan{kind: "deaf", hangs: true, deaf: true, req: sessions.RunRequest{Code: code}}
}

func (l *life) bytes(most int) []byte {
	b := make([]byte, l.rnd.IntN(most))
	for i := range b {
		b[i] = byte(l.rnd.Uint32())
	}
	return b
}

// disturb does to some of the runs what a client could, some at once, some once they have
// started, and ends those that would not end.
func (l *life) disturb(plans []*plan) {
	for _, p := range plans {
		if l.rnd.IntN(8) == 0 {
			l.cancel(p)
		}
	}
	for _, p := range plans {
		switch {
		case p.canceled || p.req.Timeout > 0:
		case p.hangs && l.rnd.IntN(4) == 0:
			l.awaitStart(p)
			l.cancel(p)
		case p.hangs:
			l.awaitStart(p)
			l.interrupt(p)
		case l.rnd.IntN(6) == 0:
			l.awaitStart(p)
			l.interrupt(p)
		case l.rnd.IntN(12) == 0:
			l.interrupt(p) // likely not running: refused then, and nothing has happened
		}
	}
}

// awaitStart waits for the start of a run and at times for a moment more.
func (l *life) awaitStart(p *plan) {
	select {
	case <-p.run.Started():
	case <-time.After(sessionstest.Patience):
		l.t.Errorf("run %q does not start", p.req.Code)
	}
	time.Sleep(time.Duration(l.rnd.IntN(5)) * time.Millisecond) // any moment will do
}

// wait waits for the end of a run. Bash can lose an interrupt that comes while it forks, on a
// terminal as well: then one presses again.
func (l *life) wait(p *plan) {
	for p.hangs && p.interrupted {
		select {
		case <-p.run.Done():
			return
		case <-time.After(3 * time.Second):
			l.t.Logf("interrupting %q again", p.req.Code)
			l.interrupt(p)
		}
	}
	sessionstest.Wait(l.t, p.run)
}

func (l *life) cancel(p *plan) {
	switch err := l.s.Cancel(p.run.ID()); {
	case err == nil:
		p.canceled = true
	case !errors.Is(err, sessions.ErrRunNotRunning):
		l.t.Errorf("cancel: %v", err)
	}
}

func (l *life) interrupt(p *plan) {
	force := p.deaf || l.rnd.IntN(3) == 0
	switch err := l.s.Interrupt(p.run.ID(), force); {
	case err == nil:
		p.interrupted = true
	case !errors.Is(err, sessions.ErrRunNotRunning):
		l.t.Errorf("interrupt: %v", err)
	}
}

// A follower is a reader of a session from its beginning to its end, which may drop and
// come back where it was.
type follower struct {
	t      *testing.T
	s      *sessions.Session
	rnd    *rand.Rand
	drops  bool
	viewer bool
	pos    uint64
	got    []sessions.Entry
}

func (f *follower) follow() {
	for f.attached() {
	}
}

// attached reads until the session has ended (false) or the reader drops.
func (f *follower) attached() (again bool) {
	r, snap, err := f.s.Attach(sessions.AttachOptions{After: &f.pos, Viewer: f.viewer})
	if err != nil {
		f.t.Errorf("attach at %d: %v", f.pos, err)
		return false
	}
	defer r.Close()
	if snap.Pos != f.pos {
		f.t.Errorf("attached at %d, not %d", snap.Pos, f.pos)
	}
	for {
		limit := 1 << 20
		if f.drops {
			limit = 1 + f.rnd.IntN(20_000)
		}
		entries, err := r.Next(nil, limit)
		if errors.Is(err, sessions.ErrClosed) {
			return false
		}
		if err != nil {
			f.t.Errorf("next: %v", err)
			return false
		}
		for _, e := range entries {
			if e.Pos != f.pos {
				f.t.Errorf("entry of kind %d at %d, want %d", e.Kind, e.Pos, f.pos)
			}
			f.pos = e.End()
			f.add(e)
		}
		r.Took(f.pos)
		if f.drops && f.rnd.IntN(20) == 0 {
			return true
		}
		if len(entries) == 0 {
			<-r.Ready()
		}
	}
}

// add joins what only was cut for this reader, so that what two of them got can be
// compared.
func (f *follower) add(e sessions.Entry) {
	if n := len(f.got); n > 0 && e.Kind.Output() {
		if last := &f.got[n-1]; last.Kind == e.Kind && last.Run == e.Run {
			last.Data = append(last.Data[:len(last.Data):len(last.Data)], e.Data...)
			return
		}
	}
	f.got = append(f.got, e)
}

func same(a, b sessions.Entry) bool {
	return a.Pos == b.Pos && a.Kind == b.Kind && a.Run == b.Run && string(a.Data) == string(b.Data) && a.End() == b.End()
}

// check replays the journal.
func (l *life) check() {
	stayed := l.readers[0].got
	for i, f := range l.readers[1:] {
		for j := range max(len(stayed), len(f.got)) {
			if j >= len(stayed) || j >= len(f.got) || !same(stayed[j], f.got[j]) {
				l.t.Errorf("reader %d got something else than the one that stayed, entry %d of %d and %d", i+1, j, len(f.got), len(stayed))
				break
			}
		}
	}
	c := replay{l: l, ended: map[uint64]bool{}, out: map[uint64]string{}, late: map[uint64]string{}}
	for _, e := range stayed {
		c.entry(e)
	}
	if last := stayed[len(stayed)-1]; last.Kind != sessions.SessionClosed || last.Closed != sessions.CloseDeleted {
		l.t.Errorf("the journal ends with kind %d", last.Kind)
	}
	for n, p := range l.plans {
		if !c.ended[n] {
			l.t.Errorf("no end of run %d, %s", n, p.kind)
		}
		c.checkOutput(n, p)
	}
}

// A replay is what is known while the journal is gone through: n, the variable that every
// run counts in, is within [low, high]; the last checkpoint has at least kept.
type replay struct {
	l               *life
	on              uint64 // the run that is on, 0 for none
	last            uint64 // the last that started
	low, high, kept int
	ended           map[uint64]bool
	recent          []string // what happened, for messages
	out, late       map[uint64]string
}

func (c *replay) entry(e sessions.Entry) {
	for len(c.l.saved) > 0 && e.Pos >= c.l.saved[0] {
		c.l.saved = c.l.saved[1:]
		c.kept = c.low
	}
	t := c.l.t
	c.note(e)
	switch {
	case e.Kind == sessions.Stdout && c.ended[e.Run]:
		c.late[e.Run] += string(e.Data)
	case e.Kind == sessions.Stdout:
		if e.Run != c.on {
			t.Errorf("output of run %d while %d is on: %q", e.Run, c.on, e.Data)
		}
		c.out[e.Run] += string(e.Data)
	case e.Kind == sessions.RunStarted:
		if n := e.Info.Number; c.on != 0 || n <= c.last {
			t.Errorf("run %d starts while %d is on, after %d", n, c.on, c.last)
		}
		c.on, c.last = e.Info.Number, e.Info.Number
	case e.Kind == sessions.RunFinished:
		c.finished(*e.Info)
	case e.Kind == sessions.ShellRestarted && e.Restart.Cause == sessions.CauseLost:
		t.Errorf("shell given up at %v, after %q", e.Time, c.recent)
		c.low = c.kept
	case e.Kind == sessions.ShellRestarted && e.Restart.Restored == sessions.RestoredExit:
		c.kept = c.low
	case e.Kind == sessions.ShellRestarted:
		c.low = c.kept
	case e.Kind == sessions.Gap:
		t.Errorf("a gap at %d", e.Pos)
	}
}

func (c *replay) note(e sessions.Entry) {
	switch e.Kind {
	case sessions.RunFinished:
		kind := "checkpoint"
		if p := c.l.plans[e.Info.Number]; p != nil {
			kind = p.kind
		}
		c.recent = append(c.recent, fmt.Sprintf("%d %s: %s %d, %d to %d", e.Info.Number, kind, e.Info.Reason, exitCode(*e.Info), c.low, c.high))
	case sessions.ShellRestarted:
		c.recent = append(c.recent, fmt.Sprintf("restart after %s from %s", e.Restart.Cause, e.Restart.Restored))
	}
	c.recent = c.recent[max(0, len(c.recent)-8):]
}

func (c *replay) finished(i sessions.RunInfo) {
	t, n := c.l.t, i.Number
	if c.ended[n] {
		t.Errorf("run %d ends twice", n)
	}
	c.ended[n] = true
	if !i.StartedAt.IsZero() {
		if n != c.on {
			t.Errorf("run %d ends while %d is on", n, c.on)
		}
		c.on = 0
	}
	p := c.l.plans[n]
	if p == nil {
		return
	}
	if !p.admits(i) {
		t.Errorf("run %d, %s %q (interrupted %t, canceled %t), ended as %s %d %s, after %q", n, p.kind, p.req.Code,
			p.interrupted, p.canceled, i.Reason, exitCode(i), i.Signal, c.recent)
	}
	c.count(p, i)
}

// count follows n through a run.
func (c *replay) count(p *plan, i sessions.RunInfo) {
	if i.StartedAt.IsZero() {
		return
	}
	var k, n int
	switch got, _ := fmt.Sscanf(c.out[i.Number], "%d %d\n", &k, &n); {
	case got == 2 && (n <= c.low || n > c.high+1):
		c.l.t.Errorf("run %d, %s, counts %d: before it was within %d and %d, after %q", i.Number, p.kind, n, c.low, c.high, c.recent)
		fallthrough
	case got == 2:
		c.low, c.high = n, n
	default:
		c.high++ // it may have come that far
	}
}

// exitCode is a run's exit code, -1 where there is none.
func exitCode(i sessions.RunInfo) int { return sessionstest.Result{RunInfo: i}.Code() }

// admits reports whether the run may end like this, after what was done to it.
func (p *plan) admits(i sessions.RunInfo) bool {
	code := exitCode(i)
	switch i.Reason {
	case sessions.ReasonExited:
		// Killed beneath the shell, which goes on to the end of the code.
		if p.deaf && p.interrupted {
			return code == 137
		}
		// Had cat not begun when the interrupt came, it ended well.
		if p.hangs && p.interrupted && strings.HasSuffix(p.req.Code, "| cat") {
			return code == 0
		}
		return p.reason == i.Reason && code == p.exit && !p.hangs
	case sessions.ReasonInterrupted:
		return p.interrupted && (code == 130 || p.deaf && code == 137 || !p.hangs)
	case sessions.ReasonTimedOut:
		return p.req.Timeout > 0 && code == 124
	case sessions.ReasonCanceled:
		return p.canceled && code == -1
	case sessions.ReasonSessionClosed:
		return p.closed && code == -1
	case p.reason:
		return code == p.exit && i.Signal == p.signal && !p.hangs
	}
	return false
}

// checkOutput compares a run's stdout with what its code prints: all of it, or a part where
// it was stopped.
func (c *replay) checkOutput(n uint64, p *plan) {
	first, rest, found := strings.Cut(c.out[n], "\n")
	want := p.body + p.late // which can come early on a busy machine
	switch got := rest + c.late[n]; {
	case p.late == "" && c.late[n] != "":
		c.l.t.Errorf("run %d, %s, printed %s after its end", n, p.kind, brief(c.late[n]))
	case p.disturbed() && (!found || strings.HasPrefix(want, got)):
	case p.kind == "refused" && c.out[n] == "":
	case !found || got != want:
		c.l.t.Errorf("run %d, %s, printed %s and %s, want %s", n, p.kind, first, brief(got), brief(want))
	}
}

// An interrupt that lands in a child of the shell between its fork and the moment it puts
// its signals back must not make a second shell of it, one that runs what ours does at its
// exit, or takes commands in its place.
func TestInterruptsWhileForking(t *testing.T) {
	t.Parallel()
	times := 60
	if testing.Short() {
		times = 10
	}
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{}))
	rnd := rand.New(rand.NewPCG(1, 2))
	shell := sessionstest.Run(t, s, "echo $$ $BASHPID").Stdout
	for range times {
		r := sessionstest.Submit(t, s, sessions.RunRequest{Code: "while :; do x=$(:); ( : ); : | :; : & done"})
		<-r.Started()
		time.Sleep(time.Duration(rnd.IntN(3000)) * time.Microsecond) // any moment will do
		for done := false; !done; {
			if err := s.Interrupt(r.ID(), false); err != nil {
				break
			}
			select {
			case <-r.Done():
				done = true
			case <-time.After(300 * time.Millisecond): // lost while it forked
			}
		}
		if got := sessionstest.Wait(t, r); got.Reason != sessions.ReasonInterrupted {
			t.Errorf("ended as %s %d %q %q", got.Reason, got.Code(), got.Stdout, got.Stderr)
		}
		if got := sessionstest.Run(t, s, "echo $$ $BASHPID").Stdout; got != shell {
			t.Fatalf("the shell was %q and is %q now", shell, got)
		}
	}
	sessionstest.Checkpoint(t, s)
	if got := sessionstest.Run(t, s, "echo $$ $BASHPID").Stdout; got != shell {
		t.Errorf("the shell was %q and is %q now", shell, got)
	}
	if got := sessionstest.Restarts(t, s); len(got) > 0 {
		t.Errorf("shell restarted: %q", got)
	}
}

// Bash can lose an interrupt that comes while it forks, also where there is nothing in the
// foreground then that could have taken it; or keep it for the next wait.
func TestInterruptOfWait(t *testing.T) {
	t.Parallel()
	times := 200
	if testing.Short() {
		times = 20
	}
	s := sessionstest.Session(t, sessionstest.New(t, sessions.Config{Logger: warnings(t)}))
	rnd := rand.New(rand.NewPCG(3, 4))
	for range times {
		r := sessionstest.Submit(t, s, sessions.RunRequest{Code: "sleep 60 & wait"})
		<-r.Started()
		time.Sleep(time.Duration(rnd.IntN(2000)) * time.Microsecond) // any moment will do
		if err := s.Interrupt(r.ID(), false); err != nil {
			t.Errorf("interrupt: %v", err)
		}
		if got := sessionstest.Wait(t, r); got.Reason != sessions.ReasonInterrupted {
			t.Errorf("ended as %s %d", got.Reason, got.Code())
		}
	}
	if got := sessionstest.Restarts(t, s); len(got) > 0 {
		t.Errorf("shell restarted: %q", got)
	}
}
