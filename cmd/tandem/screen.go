package main

import (
	"bytes"
	"io"
	"os"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// What stands before a line that would be run, and before one that would be input.
const (
	promptRun   = "$ "
	promptInput = "» "
)

// mostLine is how many bytes are kept of the beginning of a line, with all that is written over
// and the colours.
const mostLine = 4 << 10

// What makes a terminal mark what is pasted.
const (
	pasteMarksOn  = "\x1b[?2004h"
	pasteMarksOff = "\x1b[?2004l"
)

const (
	styleError = "\x1b[31m"
	styleNote  = "\x1b[2m"
	styleNone  = "\x1b[0m"
)

// A screen is where output and notes go, beside a line editor where there is a terminal. Its
// methods may be called from any goroutine.
//
// The editor redraws what is entered below all output. Where output ends within a line, that
// line is a part of the prompt until its end comes: so "printf 'name: '; read x" is answered
// where it asks, and a line that counts up does so in its place.
type screen struct {
	stdout, stderr io.Writer // where there is no terminal

	mu     sync.Mutex
	failed error // why output could not be written there
	ed     *term.Terminal
	width  int
	lines  bool   // lines are edited; otherwise what is shown is all there is
	base   string // the prompt that belongs to what would become of a line
	line   []byte // of output, without its end
	out    visible
	err    visible
	keys   io.Reader // what an editor is made of
	tty    io.Writer
	row    *row
	assist func(line string, pos int, key rune) (string, int, bool)
	past   term.History
}

// edit puts a line editor on the screen, or with lines false only what shows output.
func (s *screen) edit(keys io.Reader, tty *os.File, lines bool, past term.History, assist func(line string, pos int, key rune) (string, int, bool)) {
	s.mu.Lock()
	s.keys, s.tty = keys, tty
	s.lines, s.past, s.assist, s.base, s.width = lines, past, assist, promptRun, 80
	s.row = newRow(tty, s.width)
	s.mu.Unlock()
	s.again()
	s.resize(tty)
	if lines {
		_, _ = io.WriteString(tty, pasteMarksOn)
	}
}

// again makes a new editor with the old one's history: one that has read Ctrl-D on an empty
// line reads it for ever.
func (s *screen) again() {
	s.mu.Lock()
	defer s.mu.Unlock()
	ed := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{s.keys, s.row}, editorPrompt)
	ed.AutoCompleteCallback, ed.History = s.assist, s.past
	_ = ed.SetSize(endless, 24)
	s.row.close()
	s.ed = ed
	s.redraw(nil)
}

func (s *screen) editor() *term.Terminal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ed
}

func (s *screen) resize(tty *os.File) {
	w, _, err := term.GetSize(int(tty.Fd()))
	if err != nil || w <= 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.width = w
	s.row.resize(w)
}

// done leaves the terminal as it was, at the beginning of a line.
func (s *screen) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lines {
		s.endLine()
		s.row.close()
		_, _ = io.WriteString(s.tty, pasteMarksOff)
	}
	_, _ = io.WriteString(s.tty, "\r\x1b[K"+styleNone)
}

// failure is why output could not be written, nil where all was.
func (s *screen) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

func (s *screen) output(p []byte, isErr bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ed == nil {
		w := s.stdout
		if isErr {
			w = s.stderr
		}
		if _, err := w.Write(p); s.failed == nil {
			s.failed = err
		}
		return
	}
	from, style := &s.out, ""
	if isErr {
		from, style = &s.err, styleError
	}
	style += string(from.style)
	if text := from.take(p); len(text) > 0 {
		s.add(style, text)
	}
}

// add shows text that begins in a style.
func (s *screen) add(style string, text []byte) {
	if style != "" || bytes.IndexByte(text, 0x1b) >= 0 {
		text = []byte(style + string(text) + styleNone)
	}
	if !s.lines {
		s.redraw(text)
	}
	s.line = append(s.line, text...)
	ended := bytes.Clone(s.line[:bytes.LastIndexByte(s.line, '\n')+1])
	s.line = bytes.Clone(s.line[len(ended):])
	s.restart()
	if !s.lines {
		return
	}
	s.redraw(s.fold(ended))
}

// restart drops what is written over from the beginning of the line.
func (s *screen) restart() {
	i := bytes.LastIndexByte(s.line, '\r')
	if i < 0 {
		return
	}
	if behind, _ := lineText(s.line[i+1:]); len(behind) == 0 {
		i = bytes.LastIndexByte(s.line[:i], '\r')
	}
	s.line = s.line[i+1:]
}

// fold takes from the line what there is no place for in a prompt, and adds it to what has ended:
// what fills rows, and what cannot be counted.
func (s *screen) fold(ended []byte) []byte {
	text, ok := lineText(s.line)
	switch {
	case !ok:
		ended, s.line = append(append(ended, s.line...), '\n'), nil
	case len(text) == 0:
		ended, s.line = append(ended, s.line...), nil
	case len(text) >= s.width || len(s.line) > mostLine:
		for ; len(text) >= s.width; text = text[s.width:] {
			ended = append(append(ended, string(text[:s.width])...), '\n')
		}
		s.line = []byte(string(text))
	}
	return ended
}

// lineText is what the beginning of a line looks like: a prompt has neither colours nor what
// moves the cursor. It is not ok where characters may not have one column each.
func lineText(line []byte) (text []rune, ok bool) {
	sequence, restart := false, false
	for _, r := range string(line) {
		switch {
		case sequence:
			sequence = r == '[' || r < '@'
		case r == 0x1b:
			sequence = true
		case r == '\a':
		case r == '\b':
			text = text[:max(0, len(text)-1)]
		case r == '\r':
			restart = true
		case r != '\t' && !narrow(r):
			return nil, false
		default:
			if restart {
				text, restart = nil, false
			}
			if r != '\t' {
				text = append(text, r)
				continue
			}
			text = append(text, []rune("        ")[len(text)%8:]...)
		}
	}
	return text, true
}

// narrow reports whether a character certainly takes one column.
func narrow(r rune) bool {
	return r < 0x1100 && !unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) || r >= 0x2010 && r < 0x2028 || r >= 0x2190 && r < 0x2300 || r >= 0x2500 && r < 0x2600 || r == utf8.RuneError
}

// redraw writes what has ended above the prompt, which is behind the line.
func (s *screen) redraw(ended []byte) {
	text, _ := lineText(s.line)
	if n := len(text); n > 0 && text[n-1] != ' ' {
		text = append(text, ' ')
	}
	s.row.show(ended, string(text)+s.base)
}

// entered notes that a line has been entered: what stood before it is above now. With runs the
// next one is taken to be input, until prompt says otherwise.
func (s *screen) entered(runs bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line = nil
	if runs {
		s.base = promptInput
	}
	s.redraw(nil)
}

// note shows something that is no output, on a line of its own.
func (s *screen) note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text = printable(text)
	if s.ed == nil {
		_, _ = io.WriteString(s.stderr, text+"\n")
		return
	}
	s.endLine()
	s.redraw([]byte(styleNote + text + styleNone + "\n"))
}

// endLine ends a line of output that has no end.
func (s *screen) endLine() {
	line := append(s.line, append(s.out.rest(), s.err.rest()...)...)
	s.line = nil
	if text, ok := lineText(line); ok && len(text) == 0 {
		return
	}
	if !s.lines {
		line = nil // it is there already
	}
	s.redraw(append(line, '\n'))
}

// prompt shows what a line would be: input of what runs, or something to run.
func (s *screen) prompt(running bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ed == nil {
		return
	}
	if s.base = promptInput; !running {
		s.endLine()
		s.out, s.err = visible{}, visible{}
		s.base = promptRun
	}
	s.redraw(nil)
}

// printable is text of ours or of others without anything that a terminal would act on, or that
// changes the order in which what is around it is shown.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp) {
			return ' '
		}
		return r
	}, text)
}
