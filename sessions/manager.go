package sessions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// Defaults of a [Config].
const (
	DefaultMaxSessions  = 4096
	DefaultMaxQueue     = 256
	DefaultMaxClients   = 256
	DefaultRetention    = 8 << 20
	DefaultMemory       = 2 << 30
	MinRetention        = 512 << 10 // half of it must hold what pipes are drained of at once
	DefaultRunHistory   = 1000
	DefaultStallTimeout = 10 * time.Second
)

// A Config says what a Manager is to be. Zero values take the defaults.
type Config struct {
	Dir          string        // where the private directory is made; TMPDIR, or /dev/shm, or the system's
	Bash         string        // the shell; bash of PATH
	Env          []string      // environment of new sessions; the process's without TANDEM_*
	Guardian     []string      // a command that calls Guard with the arguments appended; none
	Logger       *slog.Logger  // nothing is logged
	Observer     Observer      // nobody is told
	MaxSessions  int           // sessions at a time
	MaxQueue     int           // runs waiting in a session
	MaxClients   int           // clients attached to a session
	MaxCode      int           // bytes of a run's code, or of the stdin that comes with it; at most MaxCode
	MaxEnv       int           // bytes of names and values in a session's or a run's environment; at most MaxEnv
	Retention    int           // bytes of journal kept per session, at least MinRetention
	Memory       int           // bytes of journal kept of all sessions, at least Retention
	RunHistory   int           // runs remembered per session
	Warm         int           // sessions whose shells are started ahead of need
	StallTimeout time.Duration // a reader that is behind must take 64 KiB within it
	IdleTimeout  time.Duration // a session nobody uses is ended after it; never
	RunTimeout   time.Duration // ceiling of every run; none

	// Adopt says that the whole program is this manager's and starts no process that it
	// would wait for itself: then orphans of sessions are adopted and reaped, and Close also
	// ends those that shed all that could tell whose they are.
	Adopt bool
}

func (c Config) withDefaults() Config {
	c.MaxSessions = cmp.Or(c.MaxSessions, DefaultMaxSessions)
	c.MaxQueue = cmp.Or(c.MaxQueue, DefaultMaxQueue)
	c.MaxClients = cmp.Or(c.MaxClients, DefaultMaxClients)
	c.MaxCode = cmp.Or(c.MaxCode, MaxCode)
	c.MaxEnv = cmp.Or(c.MaxEnv, MaxEnv)
	c.Retention = cmp.Or(c.Retention, DefaultRetention)
	c.Memory = max(cmp.Or(c.Memory, DefaultMemory), c.Retention)
	c.RunHistory = cmp.Or(c.RunHistory, DefaultRunHistory)
	c.StallTimeout = cmp.Or(c.StallTimeout, DefaultStallTimeout)
	c.Bash = cmp.Or(c.Bash, "bash")
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if c.Observer == nil {
		c.Observer = unobserved{}
	}
	if c.Env == nil {
		c.Env = os.Environ()
	}
	return c
}

// A Manager keeps the sessions. Its methods may be called from any goroutine.
type Manager struct {
	cfg      Config
	log      *slog.Logger
	bash     string // absolute path
	bashComm string // the name its processes have
	dir      string
	driver   *driver
	env      []string
	serverID uint64
	lock     *os.File // of the private directory: see own
	cgroup   *cgroup  // nil: none
	budget   *budget
	census   *census
	children *children
	ended    chan os.Signal             // says that some child has; nil: orphans are not adopted
	release  func() error               // unguard, once
	fresh    atomic.Pointer[checkpoint] // of a shell in which nothing has run yet; nil: none was asked
	buffers  *sync.Pool                 // of *[readSize]byte
	stop     chan struct{}
	guardian *guardian
	wg       sync.WaitGroup // the reaper and every session's loop

	mu       sync.Mutex
	closing  bool
	sessions map[string]*Session
	lastSeq  uint64
	warm     []*Session      // of which nobody knows yet
	warming  bool            // a goroutine makes more of them
	wanted   chan *Session   // takes the next of them, nil where that fails
	labels   map[uint64]bool // of process labels: those of sessions that have not ended
}

// maxLabels is how many sessions process labels can tell apart: see proctree_linux.go.
const maxLabels = 1 << 20

// New makes a Manager, its private directory and its guardian. Close must be called.
func New(cfg Config) (*Manager, error) {
	cfg = cfg.withDefaults()
	if cfg.Retention < MinRetention {
		return nil, fmt.Errorf("a retention of %d bytes is less than %d", cfg.Retention, MinRetention)
	}
	bash, err := exec.LookPath(cfg.Bash)
	if err != nil {
		return nil, fmt.Errorf("find bash: %w", err)
	}
	if bash, err = filepath.Abs(bash); err != nil {
		return nil, fmt.Errorf("find bash: %w", err)
	}
	dir, err := privateDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	m := &Manager{
		cfg: cfg, log: cfg.Logger, bash: bash, bashComm: commOf(bash), dir: dir, driver: newDriver(filepath.Join(dir, "lib")), serverID: rand.Uint64(),
		budget:   &budget{limit: int64(cfg.Memory)},
		census:   &census{},
		children: &children{own: map[int]int{}},
		buffers:  &sync.Pool{New: func() any { return new([readSize]byte) }},
		stop:     make(chan struct{}),
		sessions: map[string]*Session{},
		labels:   map[uint64]bool{},
	}
	m.env = slices.DeleteFunc(slices.Clone(cfg.Env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return strings.HasPrefix(name, "TANDEM_") || name == "PWD" || name == "OLDPWD" || name == "HISTFILE" || name == "_"
	})
	m.release = sync.OnceValue(m.unguard)
	if err := m.guard(); err != nil {
		return nil, errors.Join(err, m.release())
	}
	m.sweep()
	m.wg.Add(1)
	go m.reap()
	m.warmUp()
	return m, nil
}

// guard sets up what ends what the server leaves, whichever way it ends.
func (m *Manager) guard() (err error) {
	if m.cgroup, err = newCgroup(m.serverID); err != nil {
		m.log.Debug("no cgroups: processes are told by their labels alone", "error", err)
	}
	if m.lock, err = own(m.dir, m.serverID, m.cgroup); err != nil {
		return err
	}
	if argv := m.cfg.Guardian; len(argv) > 0 {
		if m.guardian, err = startGuardian(argv, leftover{dir: m.dir, serverID: m.serverID, cgroup: m.cgroup}, m.children, m.log); err != nil {
			return err
		}
	}
	if m.cfg.Adopt {
		if m.ended, err = m.children.adoptOrphans(); err != nil {
			return fmt.Errorf("adopt orphans: %w", err)
		}
	}
	return nil
}

// unguard removes the private directory and takes back what guard has set up.
func (m *Manager) unguard() error {
	if m.ended != nil {
		if !m.children.endOrphans(killLimit) {
			m.log.Error("orphans could not be killed")
		}
		stopAdopting(m.ended)
	}
	m.cgroup.remove()
	err := os.RemoveAll(m.dir)
	if m.lock != nil {
		err = errors.Join(err, m.lock.Close())
	}
	if m.guardian != nil {
		err = errors.Join(err, m.guardian.dismiss())
	}
	return err
}

// commOf is the name the kernel gives to processes that run the file.
func commOf(path string) string {
	name := filepath.Base(path)
	return name[:min(len(name), 15)]
}

// privateDir makes the directory that all files of the sessions are in. Memory is
// preferred: what is in there is small, short-lived and on every run's path.
func privateDir(parent string) (string, error) {
	if parent == "" {
		parent = os.Getenv("TMPDIR")
	}
	if parent == "" {
		if dir, err := os.MkdirTemp("/dev/shm", dirPrefix); err == nil {
			return dir, nil
		}
	}
	dir, err := os.MkdirTemp(parent, dirPrefix)
	if err != nil {
		return "", fmt.Errorf("make private directory: %w", err)
	}
	return filepath.Abs(dir)
}

// Create starts a session. It fails with [ErrInvalid], [ErrTooLarge], [ErrTooMany] or
// [ErrClosed], or with [ErrRuntime] where the machine has no room for it.
func (m *Manager) Create(o Options) (*Session, error) {
	if err := checkEnv(o.Env, m.cfg.MaxEnv); err != nil {
		return nil, err
	}
	if err := checkName(o.Name); err != nil {
		return nil, err
	}
	env := environ(m.env, o.Env)
	cwd, err := startDir(o.Cwd, env)
	if err != nil {
		return nil, err
	}
	s, err := m.takeWarm(o, cwd)
	if s == nil && err == nil {
		s, err = m.startSession(o.Name, cwd, env)
	}
	if err != nil {
		return nil, err
	}
	m.cfg.Observer.SessionCreated()
	go func() {
		defer m.wg.Done()
		s.loop()
		m.freeLabel(s)
	}()
	s.log.Info("session created", "cwd", cwd)
	m.warmUp()
	return s, nil
}

// startSession makes a session with a shell in it, and a place for it.
func (m *Manager) startSession(name, cwd string, env []string) (*Session, error) {
	if err := m.hasRoom(); err != nil {
		return nil, err
	}
	s, err := m.newSession(cwd, env)
	if err != nil {
		return nil, err
	}
	if err := m.admit(s, name); err != nil {
		m.discard(s)
		return nil, err
	}
	if err := s.freshShell(false); err != nil {
		m.forget(s)
		s.admitted = false
		m.discard(s)
		m.wg.Done()
		m.log.Error("start session", "error", err)
		return nil, failf(ErrRuntime, "the session could not be started: %s", plainError(err))
	}
	return s, nil
}

// discard ends a session that has never been one for anybody.
func (m *Manager) discard(s *Session) {
	s.close(CloseShutdown)
	s.shutDown()
	close(s.done)
	m.freeLabel(s)
}

// startDir makes the directory of a new session where it is missing.
func startDir(cwd string, env []string) (string, error) {
	if strings.ContainsRune(cwd, 0) {
		return "", failf(ErrInvalid, "cwd contains a NUL character, which no path can hold")
	}
	if cwd == "" {
		return os.Getwd()
	}
	dir, err := expandCwd(cwd, env)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", failf(ErrInvalid, "cwd %q cannot be made: %s", cut(cwd), plainError(err))
	}
	return dir, nil
}

// newSession makes a session that nobody knows of yet, without a shell. It fails with
// [ErrClosed].
func (m *Manager) newSession(cwd string, env []string) (*Session, error) {
	seq, err := m.takeLabel()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	s := &Session{
		m: m, id: uuid.NewString(), seq: seq, env: env, cwd: cwd, created: now, active: now,
		dir:     filepath.Join(m.dir, fmt.Sprint(seq)),
		journal: newJournal(m.cfg.Retention, m.budget),
		wake:    make(chan struct{}, 1), ending: make(chan struct{}), closing: make(chan struct{}),
		runless: make(chan struct{}), done: make(chan struct{}),
		byID: map[string]*Run{}, dirty: true, fresh: slices.Equal(env, m.env), completing: make(chan struct{}, 1),
		meddled: slices.ContainsFunc(env, meddlesAs), tells: slices.ContainsFunc(env, tellsAs),
	}
	s.turn.Lock() // it is its maker's, and then loop's
	s.code.path = filepath.Join(s.dir, codeName)
	s.cgroup = m.cgroup.child(s.seq)
	s.journal.gapInfo, s.journal.observer = s.gapInfo, m.cfg.Observer
	s.log = m.log.With("session", s.id)
	return s, nil
}

// admit gives a session a place, unless the manager is closing: both in one step, so that
// Close waits for every session there will ever be. It fails with [ErrClosed] or [ErrTooMany].
func (m *Manager) admit(s *Session, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.hasRoomLocked(); err != nil {
		return err
	}
	s.name, s.admitted = name, true
	s.created = time.Now()
	s.active = s.created
	m.sessions[s.id] = s
	m.wg.Add(1)
	return nil
}

func (m *Manager) hasRoom() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hasRoomLocked()
}

func (m *Manager) hasRoomLocked() error {
	if m.closing {
		return failf(ErrClosed, "the server is stopping and takes no more sessions")
	}
	if len(m.sessions) >= m.cfg.MaxSessions {
		return failf(ErrTooMany, "%d sessions are there, which is the limit: delete one", len(m.sessions))
	}
	if room := m.budget.room(); len(m.sessions) >= room {
		return failf(ErrTooMany, "the memory for output is enough for %d sessions, and so many are there: delete one", room)
	}
	return nil
}

func (m *Manager) forget(s *Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sessions, s.id)
}

// takeLabel gives out the number of a session. It fails with [ErrClosed].
func (m *Manager) takeLabel() (seq uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closing {
		return 0, failf(ErrClosed, "the server is stopping and takes no more sessions")
	}
	m.lastSeq++
	for m.labels[m.lastSeq%maxLabels] {
		m.lastSeq++
	}
	m.labels[m.lastSeq%maxLabels] = true
	return m.lastSeq, nil
}

func (m *Manager) freeLabel(s *Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.labels, s.seq%maxLabels)
}

// Get returns a session, or fails with [ErrSessionNotFound].
func (m *Manager) Get(id string) (*Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.sessions[id]; s != nil {
		return s, nil
	}
	return nil, failf(ErrSessionNotFound, "there is no session %q", cut(id))
}

// List returns the sessions, oldest first.
func (m *Manager) List() []*Session {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]*Session, 0, len(m.sessions))
	for _, s := range m.sessions {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *Session) int { return cmp.Compare(a.seq, b.seq) })
	return out
}

// Delete ends a session and returns when nothing of it is left. It fails with
// [ErrSessionNotFound].
func (m *Manager) Delete(id string) error {
	s, err := m.Get(id)
	if err != nil {
		return err
	}
	m.CloseSession(s, CloseDeleted)
	return nil
}

// CloseSession ends a session for the given reason and returns when no process, file or
// goroutine of it is left. It may be called more than once; the first reason counts.
func (m *Manager) CloseSession(s *Session, reason CloseReason) {
	m.forget(s)
	s.close(reason)
	<-s.done
}

// Drain makes the manager take no more sessions and runs, ends the runs there are as
// ReasonSessionClosed and every process, and leaves the sessions to be read from until
// Close. It returns when that is done or ctx ends.
func (m *Manager) Drain(ctx context.Context) error {
	m.mu.Lock()
	m.closing = true
	m.mu.Unlock()
	all := m.List()
	for _, s := range all {
		s.end()
	}
	for _, s := range all {
		select {
		case <-s.runless:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Close drains, ends every session and removes all that was made. It returns when nothing
// is left, or when ctx ends, with an error; the guardian then ends what is left once the
// process is gone.
func (m *Manager) Close(ctx context.Context) error {
	drained := m.Drain(ctx)
	for _, s := range m.List() {
		m.forget(s)
		s.close(CloseShutdown)
	}
	m.mu.Lock()
	select {
	case <-m.stop:
	default:
		close(m.stop)
	}
	m.mu.Unlock()
	done := make(chan struct{})
	go func() {
		m.wg.Wait()
		m.cool()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("end sessions: %w", errors.Join(drained, context.Cause(ctx)))
	}
	return m.release()
}

// buryDelay is how long adopted orphans that have ended wait for others. What tells that one
// has tells it of every shell too.
const buryDelay = 20 * time.Millisecond

// reap ends sessions that nobody uses, cuts readers off that have stopped reading, keeps
// journals within their budget and buries adopted orphans.
func (m *Manager) reap() {
	defer m.wg.Done()
	every := min(time.Second, m.cfg.StallTimeout/8)
	tick := time.NewTicker(max(every, 10*time.Millisecond))
	defer tick.Stop()
	var bury <-chan time.Time
	for {
		select {
		case <-m.stop:
			return
		case <-m.ended:
			if bury == nil {
				bury = time.After(buryDelay)
			}
		case <-bury:
			bury = nil
			m.children.bury()
		case now := <-tick.C:
			short := m.budget.used.Load() > m.budget.limit
			for _, s := range m.List() {
				s.journal.cutStalled(now, m.cfg.StallTimeout)
				if short {
					s.journal.trim()
				}
				if m.cfg.IdleTimeout > 0 && s.closeIfIdle(now, m.cfg.IdleTimeout) {
					m.forget(s)
				}
			}
		}
	}
}
