package sessions

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Limits of completions.
const (
	MaxLine       = 64 << 10  // bytes of a line to complete
	MaxCandidates = 1000      // candidates in an answer
	maxCandidates = 256 << 10 // bytes of them

	// completionLimit is how long one may take: completion functions may ask the network,
	// and readline takes seconds over a line of tens of thousands of characters.
	completionLimit = 3 * time.Second

	// completionRun takes the place of a run's number in the labels of what completions
	// start: the largest there is room for, which no run has. See runLabel.
	completionRun = 1<<21 - 1

	// completionFD is where a helper's answers go: out of the way of what bash and scripts
	// use for themselves.
	completionFD = 99
)

// Completions are what bash's Tab has to offer. Positions count characters (code points).
type Completions struct {
	Line  string // after one Tab
	Point int    // the cursor's place in Line

	// What an item would take the place of in the line asked about.
	Start, End int

	// Items are the candidates, quoted as bash quotes them and never nil. Names may hold
	// bytes that are not UTF-8.
	Items     []string
	Truncated bool // there are more
}

//go:embed complete.bash
var completeBash string

// Complete returns what Tab would do to line with the cursor at point, in characters. It
// asks a helper shell that has the state of the session's own, which notices nothing; runs
// do not wait for it. One completion of a session is on at a time, and others wait. It ends
// with ctx and with the session, and whatever it has started ends with it.
//
// It fails with [ErrInvalid], [ErrTooLarge], [ErrBusy] while a run is on or queued,
// [ErrClosed], or with [ErrRuntime], also when a completion takes longer than 3 s.
func (s *Session) Complete(ctx context.Context, line string, point int) (*Completions, error) {
	if err := checkLine(line, point); err != nil {
		return nil, err
	}
	if !s.hold() {
		return nil, errEnding()
	}
	defer s.wg.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-s.ending:
			cancel(errEnding())
		case <-ctx.Done():
		}
	})
	defer watch.Wait()
	defer cancel(nil)
	return s.complete(ctx, line, point)
}

// complete is Complete once the session is sure to wait for it.
func (s *Session) complete(ctx context.Context, line string, point int) (*Completions, error) {
	select {
	case s.completing <- struct{}{}:
		defer func() { <-s.completing }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	ctx, stop := context.WithTimeoutCause(ctx, completionLimit, failf(ErrRuntime, "completion took longer than %d s", completionLimit/time.Second))
	defer stop()
	idle, err := s.askState(ctx)
	if err != nil {
		return nil, err
	}
	h := &helper{s: s, idle: idle, line: line, point: point}
	tab, all, err := h.ask(ctx)
	switch {
	case err == nil:
		return newCompletions(line, point, tab, all), nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	s.log.Error("complete", "error", err)
	return nil, failf(ErrRuntime, "the line could not be completed: %s", plainError(err))
}

func checkLine(line string, point int) error {
	switch {
	case len(line) > MaxLine:
		return failf(ErrTooLarge, "line has %d bytes: at most %d are completed", len(line), MaxLine)
	case strings.ContainsRune(line, 0):
		return failf(ErrInvalid, "line contains a NUL character, which no command line can hold")
	case !utf8.ValidString(line):
		return failf(ErrInvalid, "line is not UTF-8")
	}
	if n := utf8.RuneCountInString(line); point < 0 || point > n {
		return failf(ErrInvalid, "point %d is not in the line: give one from 0 to %d, in characters", point, n)
	}
	return nil
}

func errEnding() error { return failf(ErrClosed, "the session is being closed") }

// hold keeps the session's end waiting, by way of wg, unless it has begun.
func (s *Session) hold() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isEnding {
		return false
	}
	s.active = time.Now()
	s.wg.Add(1)
	return true
}

// An idleState is what a helper shell needs to know of an idle session.
type idleState struct {
	state *checkpoint
	dir   string
	err   error
}

// askState asks the session's goroutine for its state.
func (s *Session) askState(ctx context.Context) (idleState, error) {
	answer := make(chan idleState, 1)
	s.mu.Lock()
	if s.current != nil || len(s.queue) > 0 {
		s.mu.Unlock()
		return idleState{}, errBusy()
	}
	s.asking = answer
	s.mu.Unlock()
	s.rouse()
	select {
	case i := <-answer:
		return i, i.err
	case <-ctx.Done():
		return idleState{}, context.Cause(ctx)
	}
}

func errBusy() error {
	return failf(ErrBusy, "a run is on or queued: lines are completed while the session is idle")
}

// refuseStateLocked answers who asks for the state of a session that is about to be busy.
func (s *Session) refuseStateLocked() {
	if s.asking != nil {
		s.asking <- idleState{err: errBusy()}
		s.asking = nil
	}
}

// answerState is askState's other side, in the session's goroutine.
func (s *Session) answerState() {
	s.mu.Lock()
	answer := s.asking
	s.asking = nil
	s.mu.Unlock()
	if answer == nil {
		return
	}
	i := idleState{err: s.readyShell()}
	if i.err == nil {
		s.saveState()
	}
	s.mu.Lock()
	i.state, i.dir = s.checkpoint, existing(s.cwd)
	s.mu.Unlock()
	if i.err != nil || i.state == nil {
		i.err = failf(ErrRuntime, "the state of the shell could not be saved")
	}
	answer <- i
}

// A helper is a bash that lives for one completion, with line editing and without a
// terminal. Its keys are pressed through a pipe; see complete.bash.
type helper struct {
	s     *Session
	idle  idleState
	line  string
	point int
	dir   string // its own
	pid   int
}

// A dump is the edited line at one moment, and where it could be told, the cursor in it.
type dump struct {
	line   string
	point  int // in bytes; len(line) where line was cut before it
	breaks string
	cut    bool
}

// maxDump is how many characters of a line a helper tells.
const maxDump = MaxLine + maxCandidates + 64<<10

// ask returns the line after complete and after insert-completions. Nothing of the helper
// is left when it returns.
func (h *helper) ask(ctx context.Context) (tab, all dump, err error) {
	if h.dir, err = os.MkdirTemp(h.s.dir, "complete-"); err != nil {
		return tab, all, fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(h.dir)
	keys, err := h.write()
	if err != nil {
		return tab, all, err
	}
	out, err := h.start(keys)
	if err != nil {
		return tab, all, err
	}
	defer out.Close()
	defer h.end()
	defer context.AfterFunc(ctx, func() { _ = out.SetReadDeadline(time.Unix(1, 0)) })()
	fields, err := readFields(out, 8)
	if err != nil {
		return tab, all, err
	}
	return newDump(fields[:4]), newDump(fields[4:]), nil
}

// editMode are lines of set +o that would turn line editing off and another keymap on.
var editMode = regexp.MustCompile(`(?m)^set [-+]o (emacs|vi)\n`)

// ownBuiltin finds a function that stands in for what the driver is made of.
var ownBuiltin = regexp.MustCompile(`(?m)^builtin \(\)`)

// write writes the helper's scripts and returns the keys that have it do its work. Each
// script is a line of its own: an error that ends one does not end the next.
func (h *helper) write() (keys string, err error) {
	c := h.idle.state
	state := restoreScripts(c, restoreTame, h.idle.dir)
	files := map[string]string{
		"vars":      "\\builtin unset -v LC_ALL INPUTRC\n" + editMode.ReplaceAllString(state[0], ""),
		"functions": state[1],
		"aliases":   state[2],
	}
	source := func(name string) string { return quote(`\builtin . ` + quote(filepath.Join(h.dir, name))) }
	before := string([]rune(h.line)[:h.point])
	words := strings.NewReplacer(
		"@PROBE@", source("probe"), "@SET@", source("set"), "@DUMP@", source("dump"),
		"@FD@", strconv.Itoa(completionFD), "@MAX@", strconv.Itoa(maxDump),
		"@LINE@", quote(h.line), "@CHARS@", strconv.Itoa(h.point), "@BYTES@", strconv.Itoa(len(before)))
	for name, body := range scriptFiles(completeBash) {
		files[name] = words.Replace(body)
	}
	files["vars"] += files["prompts"]
	for name, body := range files {
		if err := os.WriteFile(filepath.Join(h.dir, name), []byte(body), 0o600); err != nil {
			return "", fmt.Errorf("write script: %w", err)
		}
	}
	for _, name := range []string{"vars", "go", "functions"} {
		keys += h.source(name)
	}
	if ownBuiltin.Match(c.functions) { // only POSIX mode lets no function stand in for unset
		keys += "POSIXLY_CORRECT=\n\\unset -f builtin\n\\unset POSIXLY_CORRECT\n"
	}
	return keys + h.source("aliases") + "\x18\x14", nil
}

// source is typed: whatever is no plain character in the path, and could be a key of
// another meaning, is spelled.
func (h *helper) source(name string) string {
	var b strings.Builder
	for _, c := range []byte(filepath.Join(h.dir, name)) {
		if c == '/' || c == '-' || c == '.' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return `\builtin . $'` + b.String() + "'\n"
}

// start starts the bash and returns what it answers on.
func (h *helper) start(keys string) (out *os.File, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	inR, inW, err := newPipePair()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	defer unix.Close(inR)
	in := os.NewFile(uintptr(inW), "keys")
	defer in.Close()
	outR, outW, err := newPipePair()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	defer unix.Close(outW)
	_ = unix.SetNonblock(outW, false)
	_ = unix.SetNonblock(outR, true)
	out = os.NewFile(uintptr(outR), "completions")
	files := make([]uintptr, completionFD+1)
	for i := range files {
		files[i] = ^uintptr(0) // closed
	}
	files[0], files[1], files[2], files[completionFD] = uintptr(inR), null.Fd(), null.Fd(), uintptr(outW)
	h.pid, err = h.s.startBash([]string{"bash", "--noprofile", "--norc", "+H", "+o", "history", "-i"}, &syscall.ProcAttr{
		Dir: h.idle.dir,
		// The terminal is to be one that can be edited on; readline's own settings are to
		// be the same whoever the server runs as.
		Env:   append(unnamed(h.s.env), "PWD="+h.idle.dir, "HISTFILE=", "TERM=xterm", "LC_ALL=C.UTF-8", "INPUTRC="+os.DevNull),
		Files: files,
	})
	if err != nil {
		out.Close()
		return nil, fmt.Errorf("start %s: %w", h.s.m.bash, err)
	}
	if err := h.label().attach(h.pid); err != nil {
		h.s.log.Warn("label helper", "error", err)
	}
	if _, err := in.WriteString(keys); err != nil { // less than a pipe holds
		h.end()
		out.Close()
		return nil, fmt.Errorf("press keys: %w", err)
	}
	return out, nil
}

func (h *helper) label() label { return newLabel(h.s.m.serverID, h.s.seq, completionRun) }

// end ends the helper and all that it has started.
func (h *helper) end() {
	_ = unix.Kill(-h.pid, unix.SIGKILL)
	h.s.m.children.wait(h.pid)
	if !(procSet{h.label(), wholeRun, h.s.m.census}).endAll(0, 0, killLimit) {
		h.s.log.Error("processes of a completion could not be killed")
	}
}

var errSilent = errors.New("helper ended without an answer")

// readFields reads n fields, each ended by a NUL.
func readFields(f *os.File, n int) ([]string, error) {
	var all []byte
	buf := make([]byte, readSize)
	for {
		got, err := f.Read(buf)
		all = append(all, buf[:got]...)
		if bytes.Count(buf[:got], []byte{0}) > 0 && bytes.Count(all, []byte{0}) >= n {
			return strings.Split(string(all), "\x00")[:n], nil
		}
		if err != nil || len(all) > 4*n*maxDump {
			return nil, errSilent
		}
	}
}

// newDump makes sense of what was said before and after a key: the end of the probe, which
// tells whether bash counts in characters, the line, the cursor, COMP_WORDBREAKS.
func newDump(f []string) dump {
	d := dump{line: f[1], breaks: f[3]}
	d.point, _ = strconv.Atoi(f[2])
	if f[0] == "2" {
		d.point = byteOffset(d.line, d.point)
	}
	d.cut = d.point > len(d.line)
	d.point = max(0, min(d.point, len(d.line)))
	return d
}

// byteOffset is where the n-th character of s begins; beyond the end where there is none.
func byteOffset(s string, n int) int {
	for i := range s {
		if n == 0 {
			return i
		}
		n--
	}
	return len(s) + n
}

// newCompletions finds the candidates in what insert-completions did to the line.
func newCompletions(line string, point int, tab, all dump) *Completions {
	at := byteOffset(line, point)
	c := &Completions{Line: tab.line, Point: utf8.RuneCountInString(tab.line[:tab.point]), Start: point, End: point, Items: []string{}}
	if all.line == line && all.point == at {
		return c // which adds a space at least, where there is a candidate
	}
	start, open := wordStart(line[:at], all.breaks)
	if !strings.HasPrefix(all.line[:all.point], line[:start]) || !strings.HasPrefix(tab.line[:tab.point], line[:start]) {
		start, open = commonPrefix(line[:at], all.line[:all.point], tab.line[:tab.point]), false
	}
	prefix := tab.line[start:tab.point]
	if open {
		prefix = "" // each candidate has quotes of its own there, or none
	}
	items := splitCandidates(all.line[start:all.point], prefix)
	if all.cut && len(items) > 0 {
		items, c.Truncated = items[:len(items)-1], true
	}
	if len(items) == 1 && !all.cut {
		if one := strings.TrimSuffix(tab.line[start:tab.point], " "); one != "" {
			items[0] = one // with the slash of a directory
		}
	}
	c.Start = utf8.RuneCountInString(line[:start])
	if open && at < len(line) && line[at] == line[start] {
		c.End++ // the closing quote, which items bring along
	}
	size := 0
	for _, item := range items {
		if size += len(item); len(c.Items) == MaxCandidates || size > maxCandidates {
			c.Truncated = true
			break
		}
		c.Items = append(c.Items, item)
	}
	return c
}

// commonPrefix is how long what all three begin with is, cut where a character begins.
func commonPrefix(a, b, c string) int {
	n := 0
	for n < len(a) && n < len(b) && n < len(c) && a[n] == b[n] && a[n] == c[n] {
		n++
	}
	for n > 0 && n < len(a) && !utf8.RuneStart(a[n]) {
		n--
	}
	return n
}
