package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/term"
)

// A typist types into an editor on a row, and looks at the terminal whenever the editor has shown
// all it knows.
type typist struct {
	row  *row
	look *picture
	keys []string // what is typed between two looks

	line string // as the editor has it
	pos  int
	told bool // the editor has told it
}

// probe is a key that does nothing, but that the editor tells its line.
const probe = "\x1e"

func (w *typist) assist(line string, pos int, key rune) (string, int, bool) {
	switch key {
	case keyErase:
		begin := clusterBefore(line, pos)
		return line[:begin] + line[pos:], begin, true
	case rune(probe[0]):
		w.line, w.pos, w.told = line, pos, true
	}
	return "", 0, false
}

// Write is what the terminal gets.
func (w *typist) Write(p []byte) (int, error) {
	w.look.write(string(p))
	return len(p), nil
}

// Read is what is typed.
func (w *typist) Read(p []byte) (int, error) {
	if len(w.keys) == 0 {
		return 0, io.EOF
	}
	n := copy(p, w.keys[0])
	if w.keys[0] = w.keys[0][n:]; w.keys[0] == "" {
		w.keys = w.keys[1:]
	}
	return n, nil
}

// A watched is what the editor reads.
type watched struct {
	keys *keyFilter
	w    *typist
}

func (f watched) Read(p []byte) (int, error) {
	if w := f.w; w.told { // otherwise it waits for the end of a sequence
		if err := w.check("what was typed"); err != nil {
			return 0, err
		}
		if err := w.check(w.disturb(len(w.keys))); err != nil {
			return 0, err
		}
		w.told = false
	}
	return f.keys.Read(p)
}

// shown is what a terminal shows of the prompt and a line behind it.
func (w *typist) shown(line string, columns int) *picture {
	p := &picture{columns: columns}
	p.write(string(w.row.prompt) + strings.Map(func(r rune) rune {
		if r >= 0x7f && r < 0xa0 {
			return '\ufffd'
		}
		return r
	}, line))
	if p.wrapping {
		p.x, p.y, p.wrapping = 0, p.y+1, false
	}
	return p
}

// cursor is where the cursor is to be on such a terminal.
func (w *typist) cursor(columns int) (x, y int) {
	p := w.shown(w.line[:w.pos], columns)
	if next, n := utf8.DecodeRuneInString(w.line[w.pos:]); n > 0 && p.x+columnsOf(next) > columns {
		return 0, p.y + 1
	}
	return p.x, p.y
}

// check looks whether what is to be seen is what the editor has, and the cursor where it is to be.
func (w *typist) check(after string) error {
	x, y := w.cursor(w.look.columns)
	if w.look.x != x || w.look.y < y || w.look.wrapping {
		return fmt.Errorf("after %s the cursor is at %d, not at %d of row %d of\n%s", after, w.look.x, x, y, w.look)
	}
	rows := &picture{lines: w.look.lines[min(w.look.y-y, len(w.look.lines)):]}
	if got, want := rows.String(), w.shown(w.line, w.look.columns).String(); got != want {
		return fmt.Errorf("after %s there is\n%s\nnot\n%s", after, got, want)
	}
	return nil
}

// disturb does what happens beside the typing.
func (w *typist) disturb(n int) (what string) {
	switch n % 4 {
	case 0:
		w.row.show([]byte("output\n"), string(w.row.prompt))
		return "output"
	case 1:
		w.row.show(nil, "a long prompt » ")
		return "a prompt"
	case 2:
		w.row.show([]byte("two\nlines\n"), "$ ")
		return "output and a short prompt"
	}
	columns := 3 + (w.look.columns+n)%40 // of a terminal that breaks its rows anew
	next := w.shown(w.line, columns)
	next.x, next.y = w.cursor(columns)
	w.look = next
	w.row.resize(columns)
	return "another width"
}

// What is to be seen is what the editor has, however wide that is, and whatever happens meanwhile.
func FuzzRow(f *testing.F) {
	f.Add("echo 日本語\x02\x02\x7f\x01ée\u0301\x05😀\x17", uint8(10))
	f.Add("aaaaaaaaa日\x00b\x00\x01日\x00\x00\x1b[D\x1b[C\x0b\r\x1b[A\x15x\x0c", uint8(12))
	f.Add("\x1b[200~\u0301a日\nb\x1b[201~\x14\x00\x1b[3~\x1b[1;3D\x00\x03", uint8(3))
	f.Add("trailing   \x02\x02\x02\x00\x06\x06x\u009b\r\r", uint8(7))
	f.Fuzz(func(t *testing.T, keys string, width uint8) {
		keys = strings.ReplaceAll(strings.ToValidUTF8(keys, ""), "\ufffd", "")
		w := &typist{look: &picture{columns: 3 + int(width)%40}}
		w.row = newRow(w, w.look.columns)
		w.row.show(nil, "$ ")
		for part := range strings.SplitSeq(strings.ReplaceAll(keys, probe, ""), "\x00") {
			w.keys = append(w.keys, part+probe)
		}
		ed := term.NewTerminal(struct {
			io.Reader
			io.Writer
		}{watched{&keyFilter{r: w, press: func(byte) {}}, w}, w.row}, editorPrompt)
		ed.History, ed.AutoCompleteCallback = &past{}, w.assist
		_ = ed.SetSize(endless, 24)
		for {
			_, err := ed.ReadLine()
			switch {
			case errors.Is(err, io.EOF):
				return
			case err != nil && !errors.Is(err, term.ErrPasteIndicator):
				t.Fatal(err)
			}
		}
	})
}
