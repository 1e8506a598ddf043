package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"sync"
	"unicode"
)

// endless is how wide the line editor takes its terminal to be: it writes everything into one
// row, and a column of that is a character, whatever it is.
const endless = 1 << 30

// editorPrompt is what the editor is told to begin a line with. What is shown there is the row's.
const editorPrompt = ">"

// A row is the terminal of the line editor, and shows what the editor writes on the real one: in
// as many rows as it takes, with each character as wide as it is. Its methods may be called from
// any goroutine.
type row struct {
	w io.Writer

	mu     sync.Mutex
	width  int
	prompt []rune
	begun  bool   // the editor has begun a line; otherwise nothing is shown
	line   []rune // what it has written behind its prompt
	x      int    // its cursor, which is at 1 at the beginning of the line

	// What is on the real terminal. A place counts columns from the beginning of the prompt on,
	// through all rows.
	places []int  // of each character, and of what comes behind the last; it may have to go to the next row from there
	same   int    // so many characters are still as they are to be
	cursor int    // the place of the cursor
	out    []byte // to be written
}

func newRow(w io.Writer, width int) *row { return &row{w: w, width: width, places: []int{0}} }

// Write takes what the editor writes. Characters and sequences come whole.
func (r *row) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for text := []rune(string(p)); len(text) > 0; {
		text = r.take(text)
	}
	r.draw()
	return len(p), r.flush()
}

// show writes output above what is edited, and changes the prompt of that.
func (r *row) show(above []byte, prompt string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if next := []rune(prompt); !slices.Equal(next, r.prompt) {
		same := 0
		for same < min(len(next), len(r.prompt)) && next[same] == r.prompt[same] {
			same++
		}
		r.prompt, r.same = next, min(r.same, same)
	}
	if len(above) > 0 {
		r.erase()
		r.out = append(r.out, bytes.ReplaceAll(above, []byte("\n"), []byte("\r\n"))...)
	}
	r.draw()
	_ = r.flush()
}

// resize takes the terminal to have broken its rows anew, as most do, and the cursor to be where
// it was in the text.
func (r *row) resize(width int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if width == r.width {
		return
	}
	r.width = width
	for i := range r.length() {
		r.place(i)
	}
	r.cursor = r.wanted()
	r.erase()
	r.draw()
	_ = r.flush()
}

// close takes away what is shown, and with it the line.
func (r *row) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.erase()
	r.begin()
	_ = r.flush()
}

// begin waits for the next line.
func (r *row) begin() {
	r.begun, r.line, r.x = false, nil, 0
	r.places, r.same, r.cursor = r.places[:1], 0, 0
}

func (r *row) flush() error {
	if len(r.out) == 0 {
		return nil
	}
	_, err := r.w.Write(r.out)
	r.out = r.out[:0]
	return err
}

// take does what the first of text says, and returns the rest.
func (r *row) take(text []rune) []rune {
	switch c := text[0]; {
	case c == '\r':
	case c == '\n':
		r.enter()
	case c == 0x1b && len(text) > 2 && text[1] == '[':
		n, i := 0, 2
		for ; i < len(text)-1 && text[i] >= '0' && text[i] <= '9'; i++ {
			n = min(10*n+int(text[i]-'0'), endless)
		}
		r.sequence(n, text[i])
		return text[i+1:]
	default:
		r.put(c)
	}
	return text[1:]
}

func (r *row) sequence(n int, final rune) {
	switch final {
	case 'C':
		r.x += max(n, 1)
	case 'D':
		r.x = max(0, r.x-max(n, 1))
	case 'J': // and H behind it: everything on the terminal, to begin anew at its top
		r.out = append(r.out, "\x1b[2J\x1b[H"...)
		r.begin()
	}
}

func (r *row) put(c rune) {
	r.x++
	if r.x == 1 {
		r.begun = true
		return
	}
	i := r.x - 2
	r.fill(i)
	switch {
	case i == len(r.line):
		r.line = append(r.line, c)
	case r.line[i] == c:
		return
	default:
		r.line[i] = c
	}
	r.same = min(r.same, len(r.prompt)+i)
}

// fill makes the line at least n characters long: spaces that nobody sees were left out.
func (r *row) fill(n int) {
	for len(r.line) < n {
		r.line = append(r.line, ' ')
	}
}

// enter leaves the line where it is. The editor has its cursor behind it.
func (r *row) enter() {
	r.draw()
	if r.cursor%r.width > 0 {
		r.out = append(r.out, "\r\n"...)
	}
	r.begin()
}

func (r *row) length() int {
	if !r.begun {
		return 0
	}
	return len(r.prompt) + len(r.line)
}

func (r *row) at(i int) rune {
	if i < len(r.prompt) {
		return r.prompt[i]
	}
	return r.line[i-len(r.prompt)]
}

// place notes where a character ends. It does not fit at the end of a row if it is wider.
func (r *row) place(i int) (moved bool) {
	place, wide := r.places[i], columnsOf(r.at(i))
	if moved = wide == 2 && place%r.width == r.width-1; moved {
		place++
	}
	r.places = append(r.places[:i+1], place+wide)
	return moved
}

// draw makes the terminal show what is to be shown.
func (r *row) draw() {
	if !r.begun {
		return
	}
	r.fill(r.x - 1)
	for n := len(r.line); n >= r.x && n > 0 && r.line[n-1] == ' '; n-- { // what the editor has cleared
		r.line = r.line[:n-1]
	}
	shown := len(r.places) - 1
	from := min(r.same, shown, r.length())
	if from < shown || from < r.length() {
		r.redraw(from)
	}
	r.same = r.length()
	r.move(r.wanted())
}

// wanted is the place where the cursor is to be: on a character, wherever that had to go.
func (r *row) wanted() int {
	if !r.begun {
		return 0
	}
	at := len(r.prompt) + r.x - 1
	place := r.places[at]
	if at < r.length() && columnsOf(r.at(at)) == 2 && place%r.width == r.width-1 {
		place++
	}
	return place
}

// redraw shows everything from a character on.
func (r *row) redraw(from int) {
	for from > 0 && (from < r.length() && columnsOf(r.at(from)) == 0 || from < len(r.places)-1 && r.places[from+1] == r.places[from]) {
		from-- // it goes, or went, with the one before
	}
	last := r.places[len(r.places)-1]
	r.move(r.places[from])
	for i := from; i < r.length(); i++ {
		if r.place(i) {
			r.out = append(r.out, "\x1b[K"...) // what is left of the row; the terminal begins the next one
		}
		c := r.at(i)
		if unicode.IsControl(c) {
			c = unicode.ReplacementChar
		}
		r.out = append(r.out, string(c)...)
	}
	r.places = r.places[:r.length()+1]
	end := r.places[r.length()]
	if end > r.places[from] && end%r.width == 0 {
		r.out = append(r.out, " \r"...) // a terminal begins the next row only with the next character
	}
	r.cursor = end
	if last > r.places[from] {
		r.out = append(r.out, "\x1b[J"...)
	}
}

// erase takes away what is shown. What is drawn next begins there.
func (r *row) erase() {
	if len(r.places) > 1 {
		r.move(0)
		r.out = append(r.out, "\x1b[J"...)
	}
	r.places, r.same, r.cursor = r.places[:1], 0, 0
}

// move puts the cursor to a place.
func (r *row) move(place int) {
	down, x := place/r.width-r.cursor/r.width, place%r.width
	switch {
	case down < 0:
		r.out = fmt.Appendf(r.out, "\x1b[%dA", -down)
	case down > 0:
		r.out = fmt.Appendf(r.out, "\x1b[%dB", down)
	}
	if x != r.cursor%r.width {
		r.out = append(r.out, '\r')
		if x > 0 {
			r.out = fmt.Appendf(r.out, "\x1b[%dC", x)
		}
	}
	r.cursor = place
}
