package main

import "testing"

func TestColumns(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"a": 1, "é": 1, "e\u0301": 1, "\u00ad": 1, "»": 1, "␊": 1, "…": 1, "\ufffd": 1, "€": 1,
		"日": 2, "한": 2, "\u1112\u1161\u11ab": 2, "ﾊ": 1, "Ａ": 2, "、": 2, "😀": 2, "⌚": 2,
		"\u200b": 0, "\u200d": 0, "\ufe0f": 0, "\u20dd": 0, "नि": 2, "กำ": 2,
	} {
		if got := widthOf(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// What a cell holds moves nothing that is beside it: names are wide, and may have been chosen to
// mislead.
func TestTable(t *testing.T) {
	t.Parallel()
	got := table([][]string{
		{"ID", "NAME", "RUN"},
		{"1", oneLine("日本語", 24), "-"},
		{"2", oneLine("cafe\u0301", 24), "x"},
		{"3", oneLine("a\u202eb\u2066c\u2028d\u200fe\x1bf", 24), "y"},
	})
	want := "ID  NAME         RUN\n" +
		"1   日本語       -\n" +
		"2   cafe\u0301         x\n" +
		"3   a b c d e f  y\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if name := "👩\u200d👧 नि"; oneLine(name, 24) != name {
		t.Errorf("%q became %q", name, oneLine(name, 24))
	}
}

// Backspace takes what a person sees as one character.
func TestClusterBefore(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"": "", "a": "a", "ab": "b", "aé": "é", "ae\u0301": "e\u0301", "ae\u0301\u0327": "e\u0301\u0327", "日本": "本", "\u0301": "\u0301",
		"a\u1112\u1161\u11ab": "\u1112\u1161\u11ab",
		"x👍🏽":                 "👍🏽", "x👩\u200d👩\u200d👧": "👩\u200d👩\u200d👧", "x❤\ufe0f": "❤\ufe0f", "x1\ufe0f\u20e3": "1\ufe0f\u20e3", "x👩🏽\u200d❤\ufe0f\u200d👩": "👩🏽\u200d❤\ufe0f\u200d👩",
		"🇩🇪": "🇩🇪", "🇫🇷🇩🇪": "🇩🇪", "🇫🇷🇩": "🇩", "x🇩": "🇩", "🇩🇪x": "x",
		"a\u200db": "b", "a\xff": "\xff",
	} {
		if got := text[clusterBefore(text, len(text)):]; got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
