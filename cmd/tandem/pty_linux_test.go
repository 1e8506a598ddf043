package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// A terminal is a pseudo-terminal with a program on it, and a person who types and looks.
type terminal struct {
	t     *testing.T
	cmd   *exec.Cmd
	ptmx  *os.File
	tty   *os.File
	modes unix.Termios // before the program

	mu    sync.Mutex
	raw   []byte // all the program wrote
	look  picture
	gone  chan struct{} // closed when there is no more
	dirty chan struct{} // signaled when there is more
}

// openTerminal starts cmd on a terminal of so many columns and rows.
func openTerminal(t *testing.T, cmd *exec.Cmd, columns, rows int) *terminal {
	t.Helper()
	ptmx, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(ptmx.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ptmx.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, cmd: cmd, ptmx: ptmx, tty: tty, gone: make(chan struct{}), dirty: make(chan struct{}, 1)}
	term.resize(columns, rows)
	term.modes = *term.settings()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go term.read()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = tty.Close()
		<-term.gone
		_ = ptmx.Close()
		if t.Failed() {
			t.Logf("the terminal:\n%s", term.tail())
		}
	})
	return term
}

func (term *terminal) settings() *unix.Termios {
	term.t.Helper()
	modes, err := unix.IoctlGetTermios(int(term.tty.Fd()), unix.TCGETS)
	if err != nil {
		term.t.Fatal(err)
	}
	return modes
}

// resize also tells the program.
func (term *terminal) resize(columns, rows int) {
	term.t.Helper()
	if err := unix.IoctlSetWinsize(int(term.ptmx.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(rows), Col: uint16(columns)}); err != nil {
		term.t.Fatal(err)
	}
	term.mu.Lock()
	defer term.mu.Unlock()
	term.look.columns = columns
}

func (term *terminal) read() {
	defer close(term.gone)
	buf := make([]byte, 64<<10)
	for {
		n, err := term.ptmx.Read(buf)
		term.mu.Lock()
		term.raw = append(term.raw, buf[:n]...)
		term.look.write(string(buf[:n]))
		term.look.forget()
		term.mu.Unlock()
		select {
		case term.dirty <- struct{}{}:
		default:
		}
		if err != nil {
			return // EIO: nobody has the terminal open
		}
	}
}

func (term *terminal) types(text string) {
	term.t.Helper()
	for len(text) > 0 { // as much as a terminal takes
		n, err := term.ptmx.WriteString(text[:min(len(text), 2000)])
		if err != nil {
			term.t.Fatal(err)
		}
		text = text[n:]
	}
}

func (term *terminal) screen() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.look.String()
}

func (term *terminal) written() []byte {
	term.mu.Lock()
	defer term.mu.Unlock()
	return bytes.Clone(term.raw)
}

// tail is the end of the screen, for who looks for a mistake.
func (term *terminal) tail() string {
	screen := term.screen()
	return screen[max(0, len(screen)-2000):]
}

// until waits for what there is to see.
func (term *terminal) until(what string, ok func(screen string) bool) string {
	term.t.Helper()
	limit := time.After(deadline / 3)
	for {
		screen := term.screen()
		if ok(screen) {
			return screen
		}
		select {
		case <-term.dirty:
		case <-limit:
			term.t.Fatalf("never shows %s", what)
		}
	}
}

// ends waits until the last lines of the screen are these.
func (term *terminal) ends(lines ...string) string {
	term.t.Helper()
	want := strings.Join(lines, "\n")
	return term.until(fmt.Sprintf("%q", want), func(screen string) bool {
		return screen == want || strings.HasSuffix(screen, "\n"+want)
	})
}

// shows waits for a line.
func (term *terminal) shows(line string) string {
	term.t.Helper()
	return term.until(fmt.Sprintf("the line %q", line), func(screen string) bool { return strings.Contains("\n"+screen+"\n", "\n"+line+"\n") })
}

// ended waits for the program's end, and looks whether the terminal is as it was.
func (term *terminal) ended(code int) {
	term.t.Helper()
	_ = term.cmd.Wait()
	if got := exitCode(term.t, term.cmd); got != code {
		term.t.Errorf("exit code %d, want %d", got, code)
	}
	if now := term.settings(); *now != term.modes {
		term.t.Errorf("the terminal is left as %+v, it was %+v", *now, term.modes)
	}
	term.until("that pastes are not marked any more", func(string) bool {
		raw := string(term.written())
		return strings.LastIndex(raw, "\x1b[?2004h") <= strings.LastIndex(raw, "\x1b[?2004l")
	})
}

// mostLines is how many lines a picture keeps.
const mostLines = 60

// A picture is what is to be seen on a terminal, with what has scrolled away. It knows of
// sequences what a line editor uses.
type picture struct {
	columns  int
	lines    [][]string // what is in each column; nothing in the second one of a character that has two
	x, y     int
	wrapping bool // the last column is filled, and the next character goes to the next line
	rest     string
}

func (p *picture) String() string {
	var lines []string
	for _, l := range p.lines {
		lines = append(lines, strings.TrimRight(strings.Join(l, ""), " "))
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return strings.Join(lines, "\n")
}

func (p *picture) write(text string) {
	text = p.rest + text
	p.rest = ""
	for i, r := range text {
		if r == 0x1b {
			end := strings.IndexFunc(text[i+2+min(0, len(text)-i-2):], func(r rune) bool { return r >= '@' && r <= '~' })
			if len(text) < i+3 || end < 0 {
				p.rest = text[i:]
				return
			}
			p.sequence(text[i+2:i+2+end], text[i+2+end])
			p.write(text[i+3+end:])
			return
		}
		if !utf8.FullRuneInString(text[i:]) {
			p.rest = text[i:] // the beginning of a character
			return
		}
		p.put(r)
	}
}

// forget drops what has scrolled away long ago.
func (p *picture) forget() {
	if n := len(p.lines) - mostLines; n > 0 {
		p.lines, p.y = p.lines[n:], p.y-n
	}
}

func (p *picture) row() []string {
	for len(p.lines) <= p.y {
		p.lines = append(p.lines, nil)
	}
	return p.lines[p.y]
}

func (p *picture) put(r rune) {
	switch r {
	case '\r':
		p.x, p.wrapping = 0, false
		return
	case '\n':
		p.y, p.wrapping = p.y+1, false
		p.row()
		return
	case '\b':
		p.x = max(0, p.x-1)
		return
	case '\a':
		return
	case '\t':
		p.x = min(p.columns-1, p.x/8*8+8)
		return
	}
	wide := columnsOf(r)
	if wide == 0 { // goes with the one before
		row, x := p.row(), p.x
		if !p.wrapping {
			x--
		}
		for x > 0 && x < len(row) && row[x] == "" {
			x--
		}
		if x >= 0 && x < len(row) {
			row[x] += string(r)
		}
		return
	}
	if p.wrapping || p.x+wide > p.columns {
		p.x, p.y, p.wrapping = 0, p.y+1, false
	}
	row := p.row()
	for len(row) < p.x+wide {
		row = append(row, " ")
	}
	if row[p.x] == "" {
		row[p.x-1] = " " // half of it is gone, and so is the rest
	}
	if last := p.x + wide; last < len(row) && row[last] == "" {
		row[last] = " "
	}
	row[p.x] = string(r)
	if wide == 2 {
		row[p.x+1] = ""
	}
	p.lines[p.y] = row
	if p.x += wide; p.x >= p.columns {
		p.x, p.wrapping = p.columns-1, true
	}
}

func (p *picture) sequence(params string, final byte) {
	n, err := strconv.Atoi(params)
	if err != nil {
		n = 1
	}
	p.wrapping = p.wrapping && final == 'm'
	switch final {
	case 'A':
		p.y = max(0, p.y-n)
	case 'B':
		p.y += n
	case 'C':
		p.x = min(p.columns-1, p.x+n)
	case 'D':
		p.x = max(0, p.x-n)
	case 'H':
		p.x, p.y = 0, 0
	case 'J':
		if params == "2" {
			p.lines = nil
			return
		}
		p.lines = p.lines[:min(p.y+1, len(p.lines))]
		fallthrough
	case 'K':
		if row := p.row(); len(row) > p.x {
			p.lines[p.y] = row[:p.x]
		}
	}
}
