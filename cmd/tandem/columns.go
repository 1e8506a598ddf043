package main

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/width"
)

// columnsOf is how many columns of a terminal a character takes, as terminals count it: each code
// point for itself.
func columnsOf(r rune) int {
	switch {
	case r < 0x300: // the soft hyphen too
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) || r >= 0x1160 && r < 0x1200: // the later parts of Korean syllables
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

// widthOf is how many columns a text takes that has no control characters.
func widthOf(text string) (n int) {
	for _, r := range text {
		n += columnsOf(r)
	}
	return n
}

// table is lines of as many cells each, one below the other, two columns apart.
func table(lines [][]string) string {
	widths := map[int]int{}
	for _, cells := range lines {
		for i, cell := range cells {
			widths[i] = max(widths[i], widthOf(cell))
		}
	}
	var b strings.Builder
	for _, cells := range lines {
		last := len(cells) - 1
		for i, cell := range cells[:last] {
			b.WriteString(cell + strings.Repeat(" ", widths[i]+2-widthOf(cell)))
		}
		b.WriteString(cells[last] + "\n")
	}
	return b.String()
}

const joiner = '\u200d'

// clusterBefore is where in text begins what a person takes for one character, and which ends at
// end: with its accents, and what emoji are made of.
func clusterBefore(text string, end int) int {
	last := func() (rune, int) { return utf8.DecodeLastRuneInString(text[:end]) }
	flags := 0
	for end > 0 {
		r, n := last()
		end -= n
		before, m := last()
		switch {
		case columnsOf(r) == 0 || r >= 0x1f3fb && r <= 0x1f3ff: // goes with the one before, as a colour of the skin does
		case before == joiner && r >= 0x2190: // of emoji
			end -= m
		case isFlag(r) && isFlag(before) && flags == 0 && flagsBefore(text[:end])%2 == 1: // half of one
			flags++
		default:
			return end
		}
	}
	return end
}

// isFlag reports whether a character is a letter of which two make a flag.
func isFlag(r rune) bool { return r >= 0x1f1e6 && r <= 0x1f1ff }

// flagsBefore is how many letters of flags text ends with.
func flagsBefore(text string) (n int) {
	for r, size := utf8.DecodeLastRuneInString(text); isFlag(r); r, size = utf8.DecodeLastRuneInString(text) {
		text = text[:len(text)-size]
		n++
	}
	return n
}
