package main

import (
	"io"
	"strings"
	"unicode/utf8"
)

// The keys that "tandem attach" takes before the line editor sees them, and those it makes of
// one: to the end of the line, and away with all before.
const (
	keyInterrupt = 0x03 // Ctrl-C
	keyDetach    = 0x1d // Ctrl-]
	keysClear    = "\x05\x15"
)

// keyErase is what Backspace becomes, which the editor does not know: it would erase a part of a
// character that is made of several.
const keyErase = '\u0080'

// What stands for a line end and for a tab where a line is edited that has them, because it was
// pasted: what is pasted is one line, and nothing of it is run before Enter.
const (
	shownNewline = "␊"
	shownTab     = "␉"
)

var (
	toShown   = strings.NewReplacer("\n", shownNewline, "\t", shownTab)
	fromShown = strings.NewReplacer(shownNewline, "\n", shownTab, "\t")
)

const (
	pasteBegins = "\x1b[200~"
	pasteEnds   = "\x1b[201~"
)

// A keyFilter is between the terminal and the line editor. It is read by one goroutine.
type keyFilter struct {
	r     io.Reader
	press func(key byte) // called with keyInterrupt and keyDetach; must not block
	none  bool           // the editor sees nothing

	buf     [1024]byte
	in      []byte // of buf, not taken yet
	out     []byte // to be handed on
	matched int    // so much of the mark that begins a paste, or ends it, has been read
	seq     []byte // the beginning of a sequence
	char    []byte // the beginning of a character
	pasting bool
	breaks  int // line ends that were pasted, and wait for what comes behind them
	cr      bool
}

func (f *keyFilter) Read(p []byte) (int, error) {
	for len(f.out) == 0 {
		if len(f.in) > 0 {
			f.take(f.in[0])
			f.in = f.in[1:]
			continue
		}
		n, err := f.r.Read(f.buf[:])
		if f.in = f.buf[:n]; n == 0 && err != nil {
			return 0, err
		}
	}
	// A key that is pressed comes after what was typed before it.
	for len(f.in) > 0 && len(f.out) < len(p) && f.in[0] != keyInterrupt && f.in[0] != keyDetach {
		f.take(f.in[0])
		f.in = f.in[1:]
	}
	n := copy(p, f.out)
	f.out = f.out[n:]
	return n, nil
}

func (f *keyFilter) take(b byte) {
	mark := pasteBegins
	if f.pasting {
		mark = pasteEnds
	}
	if b == mark[f.matched] {
		if f.matched++; f.matched == len(mark) {
			f.cutShort()
			if !f.none {
				f.out = append(f.out, mark...)
			}
			f.pasting, f.matched, f.breaks, f.cr, f.seq = !f.pasting, 0, 0, false, f.seq[:0]
		}
		return
	}
	begun := mark[:f.matched]
	f.matched = 0
	for i := range len(begun) {
		f.key(begun[i])
	}
	if b == mark[0] {
		f.matched = 1
		return
	}
	f.key(b)
}

// key takes what is no mark.
func (f *keyFilter) key(b byte) {
	if utf8.RuneStart(b) {
		f.cutShort()
	}
	switch {
	case f.none && b != keyInterrupt && b != keyDetach:
	case f.pasting:
		f.paste(b)
	case len(f.seq) > 0 && f.sequence(b):
	case b == keyInterrupt:
		if !f.none {
			f.out = append(f.out, keysClear...)
		}
		f.press(b)
	case b == keyDetach:
		f.press(b)
	case b == 0x1b:
		f.seq = append(f.seq, b)
	case b == '\b' || b == 0x7f:
		f.out = utf8.AppendRune(f.out, keyErase)
	default:
		f.text(b)
	}
}

// text hands on characters that are whole. The editor would wait for the rest of one that does not
// come, and show nothing of what is behind it.
func (f *keyFilter) text(b byte) {
	f.char = append(f.char, b)
	for len(f.char) > 0 && utf8.FullRune(f.char) {
		r, size := utf8.DecodeRune(f.char)
		f.out = utf8.AppendRune(f.out, r)
		f.char = f.char[size:]
	}
}

// cutShort ends a character of which the rest does not come.
func (f *keyFilter) cutShort() {
	if len(f.char) > 0 {
		f.char = f.char[:0]
		f.out = utf8.AppendRune(f.out, utf8.RuneError)
	}
}

// sequence takes what belongs to a sequence, and hands on one that is whole: behind Escape alone
// the editor waits for a Latin letter, and takes nothing of what is typed until then.
func (f *keyFilter) sequence(b byte) bool {
	inside := len(f.seq) > 1
	ends := b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b == '~'
	short := len(f.seq) < mostSequence
	switch {
	case !inside && b == '[' || inside && b >= ' ' && b < '@':
		if short {
			f.seq = append(f.seq, b)
		}
		return true
	case ends && short:
		f.out = append(append(f.out, f.seq...), b)
	}
	f.seq = f.seq[:0]
	return ends || inside && b >= '@' && b < 0x7f
}

// paste takes what is pasted, without control characters. The last line end is left out: Enter
// is that.
func (f *keyFilter) paste(b byte) {
	switch {
	case b == '\n' && f.cr:
		f.cr = false
		return
	case b == '\r' || b == '\n':
		f.breaks++
		f.cr = b == '\r'
		return
	}
	f.cr = false
	if b < ' ' && b != '\t' || b == 0x7f {
		return
	}
	for ; f.breaks > 0; f.breaks-- {
		f.out = append(f.out, shownNewline...)
	}
	if b == '\t' {
		f.out = append(f.out, shownTab...)
	} else {
		f.text(b)
	}
}

// A past is the lines that Up finds. It is used by the editor's goroutine alone.
type past struct {
	lines []string
	skip  func() bool // if set, tells that a line is not to be kept: it is input
}

// mostPast is how many lines Up finds.
const mostPast = 500

// Add keeps a line, but not twice in a row.
func (h *past) Add(line string) {
	if strings.TrimSpace(line) == "" || len(h.lines) > 0 && h.lines[len(h.lines)-1] == line || h.skip != nil && h.skip() {
		return
	}
	if h.lines = append(h.lines, line); len(h.lines) > mostPast {
		h.lines = h.lines[1:]
	}
}

// Len is how many there are.
func (h *past) Len() int { return len(h.lines) }

// At is the line that was added i before the last.
func (h *past) At(i int) string { return h.lines[len(h.lines)-1-i] }
