package sessions

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownOutput is how much of what appears on a shell's own stdout and stderr is kept for the
// moment of its death.
const ownOutput = 1 << 20

// A shell is one bash process of a session: interactive, without a terminal, its commands
// on a pipe (another after each run that was interrupted: see moveShell), its reports on a
// FIFO that is opened anew for each, or on its own stdout where nothing of the user's can write
// to that; what else is there, and on its own stderr, is thrown away but for the last words.
//
// All methods are for who has the session's turn. What the shell says arrives in
// reports after notify; its death closes exited.
type shell struct {
	dir       string
	lib       string  // where the driver's files are
	goes      string  // the command that runs the script of a run
	control   string  // redirects to the control FIFO
	processes procSet // the session's
	pid       int
	in        *os.File // commands
	ctl       *pipe
	own       [2]*pipe    // its own stdout and stderr
	news      atomic.Bool // there are reports that nobody was told of
	notify    chan struct{}
	exited    chan struct{}

	// Set before exited is closed.
	status syscall.WaitStatus
	comm   string

	mu        sync.Mutex
	parser    reportParser
	reports   []report
	rogue     bool         // a child has taken itself for the shell
	last      *report      // X: the shell is about to exit
	state     *checkpoint  // and this is its state
	words     [2][]byte    // from own, since the last forget
	listening bool         // own[0] may have a report, which
	ownParser reportParser // finds there
}

// spawnShell starts a bash in the session's private directory. It returns once the process
// is there; the shell takes commands from then on.
func (s *Session) spawnShell(dir string, env []string) (*shell, error) {
	sh := &shell{dir: s.dir, lib: s.m.driver.dir, goes: goes(s.dir), control: control(s.dir),
		processes: s.processes(), ownParser: reportParser{most: maxOwnReport}, notify: make(chan struct{}, 1), exited: make(chan struct{})}
	heard := func(prompt bool) { s.heardFrom(sh, prompt) }
	cmdR, cmdW, err := newPipePair()
	if err != nil {
		return nil, fmt.Errorf("make command pipe: %w", err)
	}
	defer unix.Close(cmdR)
	sh.in = os.NewFile(uintptr(cmdW), "commands")
	files := []uintptr{uintptr(cmdR)}
	for i := range sh.own {
		r, w, err := newPipePair()
		if err != nil {
			sh.close()
			return nil, fmt.Errorf("make shell's own pipe: %w", err)
		}
		defer unix.Close(w)
		_ = unix.SetNonblock(w, false)
		_ = unix.SetNonblock(r, true)
		files = append(files, uintptr(w))
		if sh.own[i], err = newPipe(r, noFile, "own", s.m.buffers, outlet{sink: sh.ownSink(i), deliver: heard}); err != nil {
			sh.close()
			return nil, fmt.Errorf("read shell's own pipe: %w", err)
		}
	}
	if sh.ctl, err = openFIFO(filepath.Join(s.dir, "c"), s.m.buffers, outlet{sink: sh.feed, deliver: heard}); err != nil {
		sh.close()
		return nil, err
	}
	pid, err := s.startBash([]string{"bash", "--noprofile", "--norc", "--noediting", "-i"}, &syscall.ProcAttr{
		Dir:   dir,
		Env:   append(env[:len(env):len(env)], "PWD="+dir, "HISTFILE="),
		Files: files,
	})
	if err != nil {
		sh.close()
		return nil, fmt.Errorf("start %s in %s: %w", s.m.bash, dir, err)
	}
	sh.mu.Lock()
	sh.pid = pid
	sh.mu.Unlock()
	if err := newLabel(s.m.serverID, s.seq, 0).attach(sh.pid); err != nil {
		s.log.Warn("label shell", "error", err)
	}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		sh.status, sh.comm = s.m.children.wait(sh.pid)
		close(sh.exited)
	}()
	return sh, nil
}

// startBash starts a bash in a session of its own, and in the cgroup where there is one.
func (s *Session) startBash(argv []string, attr *syscall.ProcAttr) (pid int, err error) {
	attr.Sys = &syscall.SysProcAttr{Setsid: true}
	done := s.cgroup.place(attr.Sys)
	defer done()
	pid, err = s.m.children.fork(s.m.bash, argv, attr)
	if err != nil && s.cgroup != nil {
		s.log.Debug("start in cgroup", "error", err)
		s.unplaced.Store(true)
		unplace(attr.Sys)
		pid, err = s.m.children.fork(s.m.bash, argv, attr)
	}
	return pid, err
}

// newPipePair makes a pipe whose writing end is non-blocking, both closed on exec.
func newPipePair() (r, w int, err error) {
	var fds [2]int
	if err := pipeCloexec(&fds); err != nil {
		return 0, 0, err
	}
	if err := unix.SetNonblock(fds[1], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return 0, 0, err
	}
	return fds[0], fds[1], nil
}

// openFIFO makes a FIFO, in place of whatever is there, and starts reading it.
//
// Its writing end is kept open too. A FIFO that gets its first writer, or loses its last,
// wakes whoever reads it, and that would be several times in each run.
func openFIFO(path string, buffers *sync.Pool, to outlet) (*pipe, error) {
	if err := os.RemoveAll(path); err != nil {
		return nil, fmt.Errorf("clear the way: %w", err)
	}
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return nil, fmt.Errorf("make fifo: %w", err)
	}
	fd, err := openRetry(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open fifo: %w", err)
	}
	w, err := openWriter(path)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open fifo: %w", err)
	}
	return newPipe(fd, w, path, buffers, to)
}

func openWriter(path string) (fd int, err error) {
	return openRetry(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC)
}

// openBoth opens both ends of a FIFO, which is made where it is not there, as one.
func openBoth(path string) (fd int, err error) {
	if err := unix.Mkfifo(path, 0o600); err != nil && err != unix.EEXIST {
		return noFile, fmt.Errorf("make fifo: %w", err)
	}
	if fd, err = openRetry(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return noFile, fmt.Errorf("open fifo: %w", err)
	}
	return fd, nil
}

func (sh *shell) ownSink(i int) func([]byte) bool {
	return func(b []byte) bool {
		sh.mu.Lock()
		defer sh.mu.Unlock()
		if i == 0 && sh.listening {
			sh.hearLocked(&sh.ownParser, b)
		}
		if len(sh.words[i])+len(b) <= ownOutput {
			sh.words[i] = append(sh.words[i], b...)
		}
		return false
	}
}

// listen makes the shell's own stdout a place for reports, until the next forget.
func (sh *shell) listen() {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.listening = true
}

// forget drops the shell's own output so far: what comes from now on may be the last words
// of the run that is about to begin. A shell of which the driver wants what it cannot do has
// complained of that.
func (sh *shell) forget() (complained bool) {
	sh.own[0].drain()
	sh.own[1].drain()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	complained = len(sh.words[1]) > 0
	for i, w := range sh.words {
		sh.words[i] = w[:0]
		if cap(w) > smallReport {
			sh.words[i] = nil
		}
	}
	sh.listening = false
	sh.ownParser.reset()
	return complained
}

// lastWords returns the shell's own output since forget, or since the script's mark if there
// is one. The shell must have ended.
func (sh *shell) lastWords() (stdout, stderr []byte) {
	sh.own[0].drain()
	sh.own[1].drain()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return afterMark(sh.words[0]), afterMark(sh.words[1])
}

func afterMark(b []byte) []byte { return b[bytes.IndexByte(b, 0)+1:] }

// feed is the control pipe's sink.
func (sh *shell) feed(b []byte) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.hearLocked(&sh.parser, b)
	return false
}

// hearLocked acts on the reports in b.
func (sh *shell) hearLocked(p *reportParser, b []byte) {
	p.feed(b, func(r report) {
		switch {
		case r.pid != 0 && r.pid != sh.pid:
			sh.rogue = true
			sh.endRogue(r.pid)
		case r.kind() == 'X':
			last := r // or every report would be made on the heap
			sh.last = &last
		case r.kind() == 'K' && sh.last != nil:
			sh.state = r.state
		default:
			sh.reports = append(sh.reports, r)
		}
		sh.news.Store(true)
	})
}

// calm reports whether nothing but the shell itself has reported.
func (sh *shell) calm() bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return !sh.rogue
}

// endRogue ends a child of the shell that reports in its place. An interrupt that reaches
// one between fork and the reset of its signals makes it jump to the top level, and read
// the commands that are meant for the shell.
func (sh *shell) endRogue(pid int) {
	if sh.processes.has(labelOf(pid)) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// tookRogue reports whether there was such a child since the last call.
func (sh *shell) tookRogue() bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	was := sh.rogue
	sh.rogue = false
	return was
}

// take returns the reports that have come.
func (sh *shell) take() []report {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	r := sh.reports
	sh.reports = nil
	return r
}

// told is take for who waits for the end of a run. E may be on another pipe than T, which the
// shell says after it, and which may have been read first.
func (sh *shell) told() []report {
	reports := sh.take()
	if slices.ContainsFunc(reports, func(r report) bool { return r.kind() == 'T' }) {
		sh.own[0].drain()
		reports = append(reports, sh.take()...)
		slices.SortStableFunc(reports, func(a, b report) int { return cmp.Compare(a.kind(), b.kind()) })
	}
	return reports
}

// heard looks for a report among those that have come, and drops all before it and, where it is
// not there, all of them.
func (sh *shell) heard(match func(report) bool) (report, bool) {
	for _, r := range sh.take() {
		if match(r) {
			return r, true
		}
	}
	return report{}, false
}

// leaving reports whether the shell has said that it is about to exit. An interrupt would
// only keep it from telling its state, or put a piece of that among the output of the run.
func (sh *shell) leaving() bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.last != nil
}

// farewell is what the shell said at its exit, nil where it said nothing.
func (sh *shell) farewell() (*report, *checkpoint) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.last, sh.state
}

// say writes command lines. They are short, so that the pipe always has room for them. A
// shell that is gone shows in exited; ok is false where it was gone already.
func (sh *shell) say(lines string) (ok bool) {
	_, err := sh.in.WriteString(lines)
	return err == nil
}

// unread is how many bytes of command lines the shell has not read yet. It reads them in
// blocks of 1,024, and so may have read lines that it has not come to.
func (sh *shell) unread() int { return unread(sh.in) }

func unread(in *os.File) (n int) {
	rc, err := in.SyscallConn()
	if err != nil {
		return 0
	}
	_ = rc.Control(func(fd uintptr) { n = pipeHolds(int(fd)) })
	return n
}

func (sh *shell) killGroup() { _ = unix.Kill(-sh.pid, unix.SIGKILL) }

func (sh *shell) kill() {
	if !sh.dead() {
		_ = unix.Kill(sh.pid, unix.SIGKILL)
	}
}

// close gives back what belongs to the shell but for the process, which must be waited for
// by way of exited where there is one.
func (sh *shell) close() {
	sh.in.Close()
	for _, p := range []*pipe{sh.ctl, sh.own[0], sh.own[1]} {
		if p != nil {
			p.close()
		}
	}
}

func (sh *shell) dead() bool {
	select {
	case <-sh.exited:
		return true
	default:
		return false
	}
}
