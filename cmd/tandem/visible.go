package main

import (
	"bytes"
	"unicode/utf8"
)

// What a visible keeps of a sequence that is not complete, at most: more than any that counts.
const mostSequence = 64

// A visible makes of output what may be shown on a terminal that is shared with a line editor:
// text, line ends, and of the sequences that terminals act on those alone that colour it or
// clear the rest of a line. What moves the cursor elsewhere, changes modes or character sets,
// or makes the terminal answer, as if somebody had typed, is left out. What is not UTF-8 is
// U+FFFD. Output comes in pieces: the beginning of a character or sequence waits for its end.
type visible struct {
	state   visibleState
	pending []byte // of a character, or of a CSI sequence
	style   []byte // the colours that are on
}

type visibleState int

const (
	inText   visibleState = iota
	inEscape              // behind ESC
	inCSI                 // behind ESC [
	inString              // behind ESC ] and its like, until BEL, ST or the end of the line
	inStringEscape
)

// take returns what p adds.
func (v *visible) take(p []byte) []byte {
	var out []byte
	for _, b := range p {
		out = v.step(out, b)
	}
	return out
}

// rest returns what has waited for an end that does not come.
func (v *visible) rest() []byte {
	waiting := v.state == inText && len(v.pending) > 0
	v.state, v.pending = inText, nil
	if waiting {
		return []byte("\ufffd")
	}
	return nil
}

func (v *visible) step(out []byte, b byte) []byte {
	switch v.state {
	case inEscape:
		return v.escape(out, b)
	case inCSI:
		return v.csi(out, b)
	case inString, inStringEscape:
		return v.string(out, b)
	}
	return v.text(out, b)
}

func (v *visible) text(out []byte, b byte) []byte {
	if len(v.pending) > 0 && !utf8.RuneStart(b) {
		v.pending = append(v.pending, b)
		if utf8.FullRune(v.pending) {
			out, v.pending = appendVisible(out, v.pending), nil
		}
		return out
	}
	if len(v.pending) > 0 {
		out, v.pending = append(out, "\ufffd"...), nil
	}
	switch {
	case b == 0x1b:
		v.state = inEscape
	case b == '\n' || b == '\t' || b == '\r' || b == '\b' || b == '\a' || b >= ' ' && b < 0x7f:
		return append(out, b)
	case b >= utf8.RuneSelf:
		if v.pending = append(v.pending, b); utf8.FullRune(v.pending) {
			out, v.pending = append(out, "\ufffd"...), nil
		}
	}
	return out
}

// appendVisible appends the characters of p but for the control characters of C1.
func appendVisible(out, p []byte) []byte {
	for len(p) > 0 {
		r, n := utf8.DecodeRune(p)
		if r < 0x80 || r >= 0xa0 {
			out = utf8.AppendRune(out, r)
		}
		p = p[n:]
	}
	return out
}

func (v *visible) escape(out []byte, b byte) []byte {
	switch {
	case b == '[':
		v.state, v.pending = inCSI, nil
	case b == ']' || b == 'P' || b == '_' || b == '^' || b == 'X':
		v.state = inString
	case b >= ' ' && b < '0': // one more is to come
	case b < ' ' || b >= utf8.RuneSelf:
		v.state = inText
		return v.text(out, b)
	default:
		v.state = inText
	}
	return out
}

func (v *visible) csi(out []byte, b byte) []byte {
	switch {
	case b >= ' ' && b < '@' && len(v.pending) < mostSequence:
		v.pending = append(v.pending, b)
		return out
	case b >= '@' && b < 0x7f:
		out = v.sequence(out, b)
		v.state, v.pending = inText, nil
		return out
	}
	v.state, v.pending = inText, nil
	return v.text(out, b)
}

// sequence appends a CSI sequence that may be shown.
func (v *visible) sequence(out []byte, final byte) []byte {
	if final != 'm' && final != 'K' || len(bytes.Trim(v.pending, "0123456789;:")) > 0 {
		return out
	}
	seq := append(append([]byte("\x1b["), v.pending...), final)
	if final == 'm' {
		v.restyle(seq)
	}
	return append(out, seq...)
}

// restyle notes which colours are on. Of many one after the other the last ones count.
func (v *visible) restyle(seq []byte) {
	none := len(v.pending) == 0 || string(v.pending) == "0"
	if none || bytes.HasPrefix(v.pending, []byte("0;")) || len(v.style)+len(seq) > mostSequence {
		v.style = nil
	}
	if !none {
		v.style = append(v.style, seq...)
	}
}

func (v *visible) string(out []byte, b byte) []byte {
	switch {
	case b == '\n': // an end that does not come must not hide everything
		v.state = inText
		return v.text(out, b)
	case b == '\a' || v.state == inStringEscape && b == '\\':
		v.state = inText
	case b == 0x1b:
		v.state = inStringEscape
	default:
		v.state = inString
	}
	return out
}
