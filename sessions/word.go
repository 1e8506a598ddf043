package sessions

import "strings"

// wordStart is where readline takes the word to begin that ends where line does: after the
// quote that is still open there; else after the last character of breaks that is not
// quoted. open says which of the two. Where a quote is open, insert-completions replaces it
// too, so that start is its own place.
func wordStart(line, breaks string) (start int, open bool) {
	var quote byte
	at := 0 // of the quote
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '\\' && quote != '\'':
			if strings.IndexByte(breaks, c) >= 0 {
				start = i + 1
			}
			i++ // what is quoted by it breaks no word
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote, at = c, i
		case strings.IndexByte(breaks, c) >= 0:
			start = i + 1
		}
	}
	if quote != 0 {
		return at, true
	}
	return start, false
}

// splitCandidates takes apart what insert-completions has inserted: candidates that are
// quoted as bash quotes them, or as a completion function left them, a space after each.
// prefix is what they have in common, as far as a Tab has shown it: a space in a candidate
// that nobody quoted is told by it from one between two.
func splitCandidates(text, prefix string) []string {
	if !strings.HasPrefix(text, prefix) {
		prefix = ""
	}
	items, whole := cutCandidates(text, prefix, true)
	if !whole { // a quote that nobody closes is none
		items, _ = cutCandidates(text, prefix, false)
	}
	return items
}

func cutCandidates(text, prefix string, quotes bool) (items []string, whole bool) {
	var quote byte
	from := 0
	cut := func(to int) {
		if to > from {
			items = append(items, text[from:to])
		}
		from = to + 1
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quotes && c == '\\' && quote != '\'':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case quotes && (c == '\'' || c == '"'):
			quote = c
			if c == '\'' && i > 0 && text[i-1] == '$' {
				i = endANSI(text, i+1)
				quote = 0
				if i >= len(text) {
					return items, false
				}
			}
		case c == ' ' && begins(text[i+1:], prefix):
			cut(i)
		}
	}
	cut(len(text))
	return items, quote == 0
}

// begins reports whether a candidate can begin with rest: with what all of them begin with,
// or that in quotes.
func begins(rest, prefix string) bool {
	return rest == "" || strings.HasPrefix(rest, prefix) || strings.IndexByte(`'"$`, rest[0]) >= 0
}

// endANSI is the place of the quote that closes $'…', whose inside begins at i.
func endANSI(text string, i int) int {
	for ; i < len(text) && text[i] != '\''; i++ {
		if text[i] == '\\' {
			i++
		}
	}
	return i
}
