package sessions

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

//go:embed shell.bash
var shellBash string

// ownOutput is how much of what appears on a shell's own stdout and stderr is kept for the
// moment of its death.
const ownOutput = 1 << 20

// exitScript is the one file of shell.bash that each session has its own of.
const exitScript = "exit"

// A driver is what shell.bash holds: the files that all sessions share, and the text of the
// one that they do not.
type driver struct {
	dir   string
	files map[string]string
	exit  string
	mu    sync.Mutex // held while the files are written
}

func newDriver(dir string) *driver {
	d := &driver{dir: dir, files: scriptFiles(shellBash)}
	d.exit = d.files[exitScript]
	delete(d.files, exitScript)
	return d
}

// exitFile is what the shell of a session runs when it exits.
func (d *driver) exitFile(session string) []byte {
	return []byte(strings.NewReplacer("@LIB@", quote(d.dir), "@DIR@", quote(session)).Replace(d.exit))
}

// write lays the shared files out where they are not there, or no longer.
func (d *driver) write() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if there, err := os.ReadDir(d.dir); err == nil && len(there) == len(d.files) {
		return nil
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("make directory of the driver: %w", err)
	}
	for name, body := range d.files {
		if err := os.WriteFile(filepath.Join(d.dir, name), []byte(body), 0o600); err != nil {
			return fmt.Errorf("write driver: %w", err)
		}
	}
	return nil
}

// scriptFiles cuts a script at its "#:" lines and leaves the comments out.
func scriptFiles(script string) map[string]string {
	files := map[string]string{}
	for _, part := range strings.Split(script, "\n#: ")[1:] {
		name, body, _ := strings.Cut(part, "\n")
		var file strings.Builder
		for line := range strings.Lines(body) {
			if !strings.HasPrefix(line, "#") && line != "\n" {
				file.WriteString(line)
			}
		}
		files[name] = file.String()
	}
	return files
}

// A shell is one bash process of a session: interactive, without a terminal, its commands
// on a pipe, its reports on a FIFO that is opened anew for each, its own stdout and stderr
// thrown away but for the last words.
//
// All methods are for the session's goroutine alone. What the shell says arrives in
// reports after notify; its death closes exited.
type shell struct {
	dir       string
	lib       string  // where the driver's files are
	processes procSet // the session's
	pid       int
	in        *os.File // commands
	ctl       *pipe
	own       [2]*pipe // its own stdout and stderr
	notify    chan struct{}
	exited    chan struct{}

	// Set before exited is closed.
	status syscall.WaitStatus
	comm   string

	mu      sync.Mutex
	parser  reportParser
	reports []report
	rogue   bool        // a child has taken itself for the shell
	last    *report     // X: the shell is about to exit
	state   *checkpoint // and this is its state
	words   [2][]byte   // from own, since the last forget
}

// spawnShell starts a bash in the session's private directory. It returns once the process
// is there; the shell takes commands from then on.
func (s *Session) spawnShell(dir string, env []string) (*shell, error) {
	sh := &shell{dir: s.dir, lib: s.m.driver.dir, processes: s.processes(), notify: make(chan struct{}, 1), exited: make(chan struct{})}
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
		if sh.own[i], err = newPipe(r, noWriter, "own", s.m.buffers, nil, sh.ownSink(i)); err != nil {
			sh.close()
			return nil, fmt.Errorf("read shell's own pipe: %w", err)
		}
	}
	if sh.ctl, err = openFIFO(filepath.Join(s.dir, "c"), s.m.buffers, nil, sh.feed); err != nil {
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
func openFIFO(path string, buffers *sync.Pool, room func() <-chan struct{}, sink func([]byte) bool) (*pipe, error) {
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
	return newPipe(fd, w, path, buffers, room, sink)
}

func openWriter(path string) (fd int, err error) {
	return openRetry(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC)
}

func (sh *shell) ownSink(i int) func([]byte) bool {
	return func(b []byte) bool {
		sh.mu.Lock()
		defer sh.mu.Unlock()
		if len(sh.words[i])+len(b) <= ownOutput {
			sh.words[i] = append(sh.words[i], b...)
		}
		return false
	}
}

// forget drops the shell's own output so far: what comes from now on may be the last words
// of the run that is about to begin.
func (sh *shell) forget() {
	sh.own[0].drain()
	sh.own[1].drain()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.words = [2][]byte{}
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
	sh.parser.feed(b, func(r report) {
		switch {
		case r.pid != 0 && r.pid != sh.pid:
			sh.rogue = true
			sh.endRogue(r.pid)
		case r.kind() == 'X':
			sh.last = &r
		case r.kind() == 'K' && sh.last != nil:
			sh.state = r.state
		default:
			sh.reports = append(sh.reports, r)
		}
		select {
		case sh.notify <- struct{}{}:
		default:
		}
	})
	return false
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

// call is the command line that runs one of the driver's files, run one that runs a file in
// the session's directory.
func (sh *shell) call(file string, args ...string) string {
	return source(filepath.Join(sh.lib, file), args...)
}

func (sh *shell) run(file string) string { return source(filepath.Join(sh.dir, file)) }

func source(path string, args ...string) string {
	line := `\builtin . ` + quote(path)
	for _, a := range args {
		line += " " + a
	}
	return line + "\n"
}

// lines are those that run the file "go" of a run and have its end reported.
//
// The first ends with the report E, which printf makes, or where that has been disabled, the
// file report. An interrupt, an unset variable under set -u and the like make the shell leave
// the rest of the line out; then $? is not 0, and the second line reports T. The status is the
// last word of what comes after the code, and so in $_: rescue looks there where a function
// stands in for builtin.
//
// Where enable is disabled itself, and eval or . too, nothing can be run any more: such a shell
// is given up.
//
// tamed says that the first line is to take off what tame would: for options and a TMOUT that
// must be gone before the shell reads the next line. The second runs well under all of them.
func (sh *shell) lines(number uint64, tamed bool) string {
	n := strconv.FormatUint(number, 10)
	ctl := " " + sh.control()
	report := ` || \builtin . ` + quote(filepath.Join(sh.lib, "report"))
	off := " && ((1))\n"
	if tamed {
		off = ` && \builtin eval ` + quote(tame+`; \builtin :`) + ` "$_"` + "\n"
	}
	return `\builtin enable . : eval printf test || \builtin eval '\builtin . /dev/null' || \builtin exec false; \builtin . ` + quote(filepath.Join(sh.dir, "go")) + " && ((1)); " +
		`\builtin printf '\1%s\0%s\0%s\0%s\0%s\0%s\0%s\0' E` + n +
		` "$SHELLOPTS" "${TMOUT-}" "w${PS1:+p}${PROMPT_COMMAND:+c}" "${DIRSTACK-}" "${BASHPID-}" "$?"` + ctl +
		report + " E" + n + ` "$_" "$SHELLOPTS" "$_"` + ctl + off +
		`\builtin test 0 = "$?" -a "$? $_"` + report + " T" + n + ` "${_%% *}" "$SHELLOPTS" "$_"` + ctl + "\n"
}

// tame takes off what most of the driver's lines must not run under, once a report has shown
// some of it: options of the user's, or a TMOUT. They are back in the next run.
const tame = `\builtin set +evxET +o history; \builtin eval "${TMOUT:+TMOUT=0}"`

// report is the command line that makes the shell report; status is a word of shell. A last
// word beyond what report takes is for rescue.
func (sh *shell) report(kind string, number uint64, status, last string) string {
	return sh.call("report", kind+strconv.FormatUint(number, 10), status, `"$SHELLOPTS"`, last, sh.control())
}

// control redirects to the control FIFO. It is opened for reading too, and so without waiting
// for a reader: a shell whose server is gone is to go on to its own end.
func (sh *shell) control() string { return "1<>" + quote(filepath.Join(sh.dir, "c")) }

// rescue gives a shell its builtins back in which a function stands in for one that the
// driver is made of, or that has them disabled, and has it report. In POSIX mode, which an
// assignment switches on, a function cannot stand in for unset. The status that the lines of
// the run had is the last word in $_.
func (sh *shell) rescue(number uint64) string {
	return "POSIXLY_CORRECT=$_\n" +
		"\\unset -f builtin . : enable eval printf set unset\n" +
		"\\enable builtin . : enable eval printf set unset\n" +
		strings.TrimSpace(sh.report("T", number, `"${POSIXLY_CORRECT##* }"`, "")) + "; \\unset POSIXLY_CORRECT\n"
}

// unread is how many bytes of command lines the shell has not read yet. It reads them in
// blocks of 1,024, and so may have read lines that it has not come to.
func (sh *shell) unread() (n int) {
	rc, err := sh.in.SyscallConn()
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

// A handover is what a run needs from the shell beside its code.
type handover struct {
	stdin, stdout, stderr string // paths
	env                   map[string]string
	status                int      // what $? is at the start
	opts                  []string // of driverOptions, those the user has on
	tmout                 string
	prompt                bool // there may be prompts of the user's
	rearm                 bool // the user has taken our EXIT trap off
}

// markPrompt marks in the shell's own output where a user's prompts end and a run begins.
const markPrompt = `\builtin eval "${PS1:+\\builtin printf '\\0' >&2}"; \builtin eval "${PROMPT_COMMAND:+\\builtin printf '\\0'}"; `

// script is the file "go" of a run, which begins in its first line, so that line numbers
// are right. Top level of it is the driver's: set -e is off there, so a run that merely ends
// non-zero cannot end the shell, and "&&" keeps a set -e that the code turns on from ending
// it when the code has returned. (It would switch set -e off within the code too were the
// command eval and not builtin.)
func (sh *shell) script(code string, h handover) []byte {
	var b strings.Builder
	b.Grow(len(code) + 512)
	if h.rearm {
		b.WriteString(strings.TrimSpace(sh.armExit()) + "; ")
	}
	if h.prompt {
		b.WriteString(markPrompt)
	}
	if names := sortedNames(h.env); len(names) > 0 {
		fmt.Fprintf(&b, "\\builtin declare -p %s >%s 2>/dev/null || \\builtin :; ", strings.Join(names, " "), quote(filepath.Join(sh.dir, "env")))
	}
	if h.status == 0 {
		b.WriteString(`\builtin : bash; `)
	} else {
		b.WriteString(sh.setStatus(h.status) + " || ")
	}
	b.WriteString(`\builtin eval `)
	b.WriteString(quote(sh.prefix(h) + code))
	b.WriteString(" 0<" + quote(h.stdin) + " 1>" + quote(h.stdout) + " 2>" + quote(h.stderr) + " && ((1))\n")
	return []byte(b.String())
}

// setStatus is a command that makes $? what it is to be, and $_ what it is otherwise.
func (sh *shell) setStatus(status int) string {
	return fmt.Sprintf(`\builtin . %s %d bash`, quote(filepath.Join(sh.lib, "status")), status)
}

// prefix gives the user's options back and sets the run's own environment, unseen even
// under set -x. $? and $_ are the same after it: a failure to the left of && does not end
// the shell under set -e, and what eval does is followed by its last word.
func (sh *shell) prefix(h handover) string {
	var cmds strings.Builder
	for _, name := range sortedNames(h.env) {
		cmds.WriteString(`\builtin export ` + name + "=" + quote(h.env[name]) + "\n")
	}
	if h.tmout != "" {
		cmds.WriteString("TMOUT=" + quote(h.tmout) + "\n")
	}
	for _, o := range h.opts {
		if o != "functrace" { // it is on already
			cmds.WriteString(`\builtin set -o ` + o + "\n")
		}
	}
	if cmds.Len() == 0 {
		return ""
	}
	last, failing := `\builtin :`, ""
	if h.status != 0 {
		last, failing = sh.setStatus(h.status)+` && \builtin :`, ` && \builtin :`
	}
	return `\builtin eval ` + quote(cmds.String()+last) + " bash 2>/dev/null" + failing + "\n"
}

// unenv is the script that undoes the run's own environment.
func (sh *shell) unenv(env map[string]string) string {
	return `\builtin unset -v ` + strings.Join(sortedNames(env), " ") + "\n\\builtin . " + quote(filepath.Join(sh.dir, "env")) + "\n"
}

// restoreScripts are the files that bring a checkpoint back, in order, to a shell that is in
// dir, where the one that it was taken of need not have been.
func restoreScripts(c *checkpoint, as restoreMode, dir string) []string {
	const own = `\builtin unset -v PATH TERM OLDPWD SHLVL HOSTNAME` + "\n"
	stack := `\builtin set -- ` + string(c.dirs) + "\n" +
		`while (( $# )); do \builtin pushd -n -- "${!#}" >/dev/null; \builtin set -- "${@:1:$#-1}"; done` + "\n"
	after := "\n\\enable builtin . : cd declare enable eval printf set trap unset\n\\builtin set +evxtET +o history\n" +
		`\builtin eval ${PWD+` + quote("PWD="+quote(dir)) + "}\n"
	traps := string(c.traps)
	if as == restoreTame {
		traps = ""
		after += "\\builtin unset -v PROMPT_COMMAND\n"
	}
	return []string{own + stack + string(c.vars) + after + string(c.params) + "\n", string(c.functions), string(c.aliases), traps}
}

func (sh *shell) dead() bool {
	select {
	case <-sh.exited:
		return true
	default:
		return false
	}
}

// armExit sets the trap by which a shell that exits tells its state.
func (sh *shell) armExit() string {
	return `\builtin trap ` + quote(`{ \builtin . `+quote(filepath.Join(sh.dir, "exit"))+`; } >/dev/null 2>&1`) + " EXIT\n"
}
