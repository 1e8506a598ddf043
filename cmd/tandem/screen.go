package main

import (
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// The keys that "tandem attach" takes before the line editor sees them.
const (
	keyInterrupt = 0x03 // Ctrl-C
	keyDetach    = 0x1d // Ctrl-]
)

// What stands before a line that would be run, and before one that would be input. Neither is
// empty: the editor takes a prompt without a width for none, and then does not show the next.
const (
	promptRun   = "$ "
	promptInput = "» "
)

// A screen is where output and notes go, beside a line editor where there is a terminal. Its
// methods may be called from any goroutine.
type screen struct {
	mu     sync.Mutex
	w      io.Writer // the editor, where there is one
	open   bool      // the last line of output has no end
	ed     *term.Terminal
	keys   io.ReadWriter // what an editor is made of
	assist func(line string, pos int, key rune) (string, int, bool)
}

// edit puts a line editor on the screen.
func (s *screen) edit(keys io.Reader, tty *os.File, assist func(line string, pos int, key rune) (string, int, bool)) {
	s.mu.Lock()
	s.keys, s.assist = struct {
		io.Reader
		io.Writer
	}{keys, tty}, assist
	s.mu.Unlock()
	s.again()
	s.resize(tty)
	s.editor().SetBracketedPasteMode(true)
}

// again makes a new editor with the old one's history: one that has read Ctrl-D on an empty
// line reads it for ever.
func (s *screen) again() {
	s.mu.Lock()
	defer s.mu.Unlock()
	ed := term.NewTerminal(s.keys, promptRun)
	ed.AutoCompleteCallback = s.assist
	if s.ed != nil {
		ed.History = s.ed.History
		ed.SetPrompt(promptInput) // Ctrl-D was for what runs
	}
	s.ed, s.w = ed, ed
}

func (s *screen) editor() *term.Terminal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ed
}

func (s *screen) resize(tty *os.File) {
	if w, h, err := term.GetSize(int(tty.Fd())); err == nil {
		_ = s.editor().SetSize(w, h)
	}
}

// done leaves the terminal at the beginning of a line.
func (s *screen) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ed.SetBracketedPasteMode(false)
	_, _ = io.WriteString(s.keys, "\r\x1b[K")
}

func (s *screen) output(p []byte, isErr bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(p) == 0 {
		return
	}
	s.open = p[len(p)-1] != '\n'
	if isErr && s.ed != nil {
		p = fmt.Appendf(nil, "\x1b[31m%s\x1b[0m", p)
	}
	_, _ = s.w.Write(p)
}

// note shows something that is no output, on a line of its own.
func (s *screen) note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLine()
	if s.ed != nil {
		text = "\x1b[2m" + text + "\x1b[0m"
	}
	_, _ = io.WriteString(s.w, text+"\n")
}

func (s *screen) endLine() {
	if s.open {
		_, _ = io.WriteString(s.w, "\n")
		s.open = false
	}
}

// prompt shows what a line would be: input of what runs, or something to run.
func (s *screen) prompt(running bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ed == nil {
		return
	}
	if running {
		s.ed.SetPrompt(promptInput)
	} else {
		s.endLine()
		s.ed.SetPrompt(promptRun)
	}
	_, _ = s.w.Write(nil) // shows it
}

// A keyFilter takes the keys out of what is typed that the line editor is not to see.
type keyFilter struct {
	r   io.Reader
	on  chan byte
	all bool // it sees none
}

func (f *keyFilter) Read(p []byte) (int, error) {
	for {
		n, err := f.r.Read(p)
		kept := p[:0]
		for _, b := range p[:n] {
			switch {
			case b == keyInterrupt || b == keyDetach:
				f.on <- b
			case !f.all:
				kept = append(kept, b)
			}
		}
		if len(kept) > 0 || err != nil {
			return len(kept), err
		}
	}
}
