package sessions

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const wordBreaks = " \t\n\"'@><=;|&(:"

func TestWordStart(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"": "", "ls": "ls", "ls ": "", "ls a\\ b": "a\\ b", "ls --a=b": "b", "ls 'a b": "'a b", `ls "a b`: `"a b`,
		`ls "a b"c`: `"a b"c`, `ls x"a b`: `"a b`, `ls 'a\' b`: "b", `ls "a\" b`: `"a\" b`, "a:b": "b", "a;b": "b", "é é": "é", `a\`: `a\`,
	} {
		wantOpen := want != "" && (want[0] == '\'' || want[0] == '"') && want != `"a b"c`
		if start, open := wordStart(line, wordBreaks); line[start:] != want || open != wantOpen {
			t.Errorf("%q: %q, open %v; want %q", line, line[start:], open, want)
		}
	}
}

func TestSplitCandidates(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, prefix string
		want         []string
	}{
		{"", "", nil},
		{"a b ", "", []string{"a", "b"}},
		{`a\ b c `, "", []string{`a\ b`, "c"}},
		{`'a b' "c d" $'e\' f' g `, "", []string{`'a b'`, `"c d"`, `$'e\' f'`, "g"}},
		{"see this see that ", "see th", []string{"see this", "see that"}},
		{"see this see that ", "no", []string{"see", "this", "see", "that"}},
		{"don't a b ", "", []string{"don't", "a", "b"}},
		{"'nl\nx' nl\\ y ", "nl", []string{"'nl\nx'", `nl\ y`}},
		{`a\`, "", []string{`a\`}},
	} {
		if got := splitCandidates(c.text, c.prefix); !slices.Equal(got, c.want) {
			t.Errorf("%q by %q: %q, want %q", c.text, c.prefix, got, c.want)
		}
	}
}

// Whatever helpers say, answers are within the line and hold nothing that was not said.
func FuzzCompletions(f *testing.F) {
	f.Add("cat fo", 6, "cat foo", 7, "cat foo\\ bar foo2 ", 18, false)
	f.Add(`cat "é" x`, 6, `cat "é1" x`, 8, `cat "é1" é2 " x`, 12, true)
	f.Add("c $'", 4, "c $'x", 5, "c $'x' $'y", 99, false)
	f.Fuzz(func(t *testing.T, line string, point int, tab string, tabPoint int, all string, allPoint int, cut bool) {
		if n := utf8.RuneCountInString(line); checkLine(line, point) != nil || point > n {
			return
		}
		within := func(s string, n int) int { return byteOffset(s, min(max(n, 0), utf8.RuneCountInString(s))) }
		c := newCompletions(line, point, dump{line: tab, point: within(tab, tabPoint), breaks: wordBreaks},
			dump{line: all, point: within(all, allPoint), breaks: wordBreaks, cut: cut})
		if c.Items == nil || c.Start < 0 || c.Start > c.End || c.Start > point || c.End < point || c.End > utf8.RuneCountInString(line) {
			t.Fatalf("%+v", c)
		}
		if c.Point < 0 || c.Point > utf8.RuneCountInString(c.Line) {
			t.Fatalf("cursor at %d in %q", c.Point, c.Line)
		}
		for _, item := range c.Items {
			if item == "" || !strings.Contains(all+"\x00"+tab, item) {
				t.Fatalf("%q is not from %q", item, all)
			}
		}
	})
}
