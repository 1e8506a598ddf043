package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// A payload is code, and what it must write and end with.
type payload struct {
	code           string
	stdout, stderr []byte
	exit           int
}

// mostPrinted is how much is put into the code itself; more comes from a file.
const mostPrinted = 12 << 10

// newPayload makes up a payload of up to most bytes. It may put files into dir, which the
// code removes.
func newPayload(rng *rand.Rand, dir, name string, most int) (payload, error) {
	p := payload{}
	if rng.IntN(3) == 0 {
		p.exit = rng.IntN(256)
	}
	if rng.IntN(4) == 0 && most > mostPrinted {
		return p, p.fromFile(rng, dir, name, most)
	}
	if rng.IntN(5) == 0 && most > mostPrinted {
		p.repeated(rng, most)
		return p, nil
	}
	p.printed(rng, min(most, mostPrinted))
	return p, nil
}

// printed writes pieces to both streams, at times with a pause between two.
func (p *payload) printed(rng *rand.Rand, most int) {
	var code strings.Builder
	for range rng.IntN(6) {
		b := randomBytes(rng, size(rng, most/6))
		if rng.IntN(3) == 0 {
			code.WriteString("printf '" + quoteFormat(b) + "' >&2\n")
			p.stderr = append(p.stderr, b...)
		} else {
			code.WriteString("printf '" + quoteFormat(b) + "'\n")
			p.stdout = append(p.stdout, b...)
		}
		if rng.IntN(4) == 0 {
			fmt.Fprintf(&code, "sleep 0.0%d\n", rng.IntN(8))
		}
	}
	p.code = code.String() + p.end()
}

// repeated writes one block again and again.
func (p *payload) repeated(rng *rand.Rand, most int) {
	block := randomBytes(rng, 1+rng.IntN(4<<10))
	times := 1 + rng.IntN(max(1, min(most/len(block), 500)))
	p.stdout = []byte(strings.Repeat(string(block), times))
	p.code = fmt.Sprintf("for ((i_ = 0; i_ < %d; i_++)); do printf '%s'; done\n", times, quoteFormat(block)) + p.end()
}

// fromFile writes the contents of files.
func (p *payload) fromFile(rng *rand.Rand, dir, name string, most int) error {
	p.stdout, p.stderr = randomBytes(rng, rng.IntN(most)), randomBytes(rng, size(rng, most/8))
	out, err := filepath.Join(dir, name+".out"), filepath.Join(dir, name+".err")
	if e := os.WriteFile(out, p.stdout, 0o600); e != nil {
		return e
	}
	if e := os.WriteFile(err, p.stderr, 0o600); e != nil {
		return e
	}
	p.code = fmt.Sprintf("cat '%s' >&2 & cat '%s'; wait $!; rm -f -- '%s' '%s'\n", err, out, out, err) + p.end()
	return nil
}

func (p *payload) end() string { return fmt.Sprintf("(exit %d)", p.exit) }

// size is at times 0, mostly small, and at most most.
func size(rng *rand.Rand, most int) int {
	switch rng.IntN(4) {
	case 0:
		return rng.IntN(3)
	case 1:
		return rng.IntN(min(200, most) + 1)
	}
	return rng.IntN(most + 1)
}

// alphabets are what random output is made of. Each stresses another part of the way:
// bytes that are no UTF-8, characters of several bytes that get cut, the line breaks of
// Unicode, which some clients split at, empty lines, carriage returns, and no newline.
var alphabets = [][]string{
	nil, // every byte
	{"a", "b", "c", " ", "word", "\n"},
	{"\r", "\n", "\r\n", "x"},
	{"é", "€", "𝄞", "x", "\n", "\u0085", "\u2028", "\u2029", "\ufffd"},
	{"é", "€", "\xff", "\xc3", "\xe2\x82", "\xf0\x9d", "\n"},
	{"\x00", "\x01", "\x1b[31m", "\t", "\b", `"`, `\`, "'", "%", "\n"},
	{"\n"},
	{"no newline "},
}

// randomBytes are n bytes of one kind.
func randomBytes(rng *rand.Rand, n int) []byte {
	return ofAlphabet(rng, n, alphabets[rng.IntN(len(alphabets))])
}

// randomText is up to n bytes of UTF-8.
func randomText(rng *rand.Rand, n int) string {
	b := ofAlphabet(rng, n, alphabets[1+rng.IntN(3)])
	return strings.ToValidUTF8(string(b), "")
}

func ofAlphabet(rng *rand.Rand, n int, words []string) []byte {
	b := make([]byte, 0, n+16)
	for len(b) < n {
		if words == nil {
			v := rng.Uint64()
			for range 8 {
				b = append(b, byte(v))
				v >>= 8
			}
			continue
		}
		b = append(b, words[rng.IntN(len(words))]...)
	}
	return b[:n]
}

// quoteFormat makes b a format for bash's printf, to be put between single quotes.
func quoteFormat(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == ' ' {
			s.WriteByte(c)
			continue
		}
		fmt.Fprintf(&s, `\%03o`, c)
	}
	return s.String()
}
