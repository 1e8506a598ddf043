package main

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

func TestVisible(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain\ttext\r\n\a\b":         "plain\ttext\r\n\a\b",
		"\x1b[1;31mred\x1b[m\x1b[K":   "\x1b[1;31mred\x1b[m\x1b[K",
		"\x1b[6n\x1b[2J\x1b[?25la":    "a",
		"\x1b[>0mkeys\x1b[ q":         "keys",
		"\x1b]0;title\aa\x1bPx\x1b\\": "a",
		"\x1b]52;c;x\nlost no more":   "\nlost no more",
		"\x1b(0\x0e\x05\x00\x7fa":     "a",
		"\u0085\u009b6nü日\x80\xffz":   "6nü日\ufffd\ufffdz",
		"\xe6\x97a":                   "\ufffda",
		"\x1b\x1b[31mx":               "\x1b[31mx",
		"\x1b[3\nm":                   "\nm",
	} {
		if got := string(new(visible).take([]byte(in))); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	v := visible{}
	v.take([]byte("a\xe6\x97"))
	if got := string(v.rest()); got != "\ufffd" {
		t.Errorf("%q", got)
	}
}

var shownSequence = regexp.MustCompile("\x1b\\[[0-9;:]*[mK]")

// What may be shown is text, whatever comes, and the same in whichever pieces it comes.
func FuzzVisible(f *testing.F) {
	for _, seed := range []string{"a\x1b[31mb\x1b[0m\n", "\x1b]0;t\x1b\\x", "\xe6\x97\xa5\x1b[", "\x1b[?1049h\xc2\x9b6n", "\x1bP\x1b\x1b\\\r\b"} {
		f.Add([]byte(seed), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		whole := new(visible).take(in)
		var v visible
		var pieces []byte
		for rest := in; len(rest) > 0; {
			n := min(len(rest), int(size)+1)
			pieces, rest = append(pieces, v.take(rest[:n])...), rest[n:]
		}
		if !bytes.Equal(whole, pieces) {
			t.Errorf("%q in one piece, %q in many", whole, pieces)
		}
		if !utf8.Valid(whole) || len(v.style) > mostSequence || len(v.pending) > mostSequence {
			t.Errorf("%q, style %q, pending %q", whole, v.style, v.pending)
		}
		for _, r := range shownSequence.ReplaceAllString(string(whole), "") {
			if r < ' ' && !strings.ContainsRune("\n\t\r\b\a", r) || r >= 0x7f && r < 0xa0 {
				t.Errorf("%q lets %q through", whole, r)
			}
		}
		text, _ := lineText(whole)
		for _, r := range text {
			if r < ' ' && r != '\n' {
				t.Errorf("%q in a prompt", r)
			}
		}
	})
}

func filtered(r io.Reader, none bool) (out string, pressed string) {
	f := &keyFilter{r: r, none: none, press: func(key byte) { pressed += string(rune(key)) }}
	b, _ := io.ReadAll(f)
	return string(b), pressed
}

func TestKeyFilter(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][2]string{
		"abc\r\x1b[A":                                   {"abc\r\x1b[A", ""},
		"ab\x03c\x1d":                                   {"ab" + keysClear + "c", "\x03\x1d"},
		"x\x1b[200~a\r\nb\tc\n\n\x1b[201~y":             {"x\x1b[200~a␊b␉c\x1b[201~y", ""},
		"\x1b[200~\x03\x1d\x1b[A\x00é\x7f\x1b[201~":     {"\x1b[200~[Aé\x1b[201~", ""},
		"\x1b[200\x1b[200~a\x1b[201~":                   {"\x1b[200~a\x1b[201~", ""},
		"\x1b日\x1b\x1b[1;3Dé\x1b[日\x1b[@x\x1bby\x1bOHz": {"日\x1b[1;3Dé日x\x1bby\x1bOHz", ""},
		"a\x7fb\b\x1b\x7f\x1b\x03":                      {"a\u0080b\u0080\u0080" + keysClear, "\x03"},
		"\x1b[" + strings.Repeat("1", 100) + "A":        {"", ""},
		"caf\xe9 x\r\xe6\x97\r日\xff":                    {"caf\ufffd x\r\ufffd\r日\ufffd", ""},
		"\xe6\x97\x1b[200~\xa5b\xe9\x1b[201~\r":         {"\ufffd\x1b[200~\ufffdb\ufffd\x1b[201~\r", ""},
		"\x1b[200~\xe9a\x80\x1b[201~":                   {"\x1b[200~\ufffda\ufffd\x1b[201~", ""},
	} {
		out, pressed := filtered(strings.NewReader(in), false)
		if out != want[0] || pressed != want[1] {
			t.Errorf("%q: %q, %q; want %q", in, out, pressed, want)
		}
		if out, pressed := filtered(strings.NewReader(in), true); out != "" || pressed != want[1] {
			t.Errorf("%q for who looks only: %q, %q", in, out, pressed)
		}
	}
}

// Keys are the same in whichever pieces they come, and nothing that is pasted presses any.
func FuzzKeyFilter(f *testing.F) {
	for _, seed := range []string{"ls\r\x03\x1d", "\x1b[200~a\nb\x1b[201~\r", "\x1b[20\x1b[200~\x03\x1b[201", "\x1b[200~\r\n\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out, pressed := filtered(bytes.NewReader(in), false)
		slow, pressedSlow := filtered(iotest.OneByteReader(bytes.NewReader(in)), false)
		if out != slow || pressed != pressedSlow {
			t.Errorf("%q %q at once, %q %q one by one", out, pressed, slow, pressedSlow)
		}
		if strings.ContainsAny(out, "\x03\x1d") || !utf8.ValidString(out) {
			t.Errorf("%q", out)
		}
		pasted, pressed := filtered(strings.NewReader(pasteBegins+strings.ReplaceAll(string(in), "\x1b", "")+pasteEnds), false)
		if inner := strings.TrimSuffix(strings.TrimPrefix(pasted, pasteBegins), pasteEnds); pressed != "" || strings.IndexFunc(inner, func(r rune) bool { return r < ' ' }) >= 0 {
			t.Errorf("%q, pressed %q", pasted, pressed)
		}
	})
}

func TestPast(t *testing.T) {
	t.Parallel()
	input := false
	h := past{skip: func() bool { return input }}
	for _, line := range []string{"one", "two", "two", " ", ""} {
		h.Add(line)
	}
	input = true
	h.Add("a password")
	if h.Len() != 2 || h.At(0) != "two" || h.At(1) != "one" {
		t.Errorf("%q", h.lines)
	}
	input = false
	for range mostPast {
		h.Add("a")
		h.Add("b")
	}
	if h.Len() != mostPast {
		t.Errorf("%d lines", h.Len())
	}
}
