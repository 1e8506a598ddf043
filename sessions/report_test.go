package sessions

import (
	"bytes"
	"slices"
	"testing"
)

const sampleReports = "\x01E1\x00himBHs\x00\x00w\x00/tmp\x0077\x000\x00" +
	"\x01T1\x00ehiBs\x00300\x00p\x00/a\nb\x00\x00130\x00" +
	"noise\x01X\x00hiBs\x00\x00\x00/\x0077\x007\x00" +
	"K\x0077\x00trap -- 'x' EXIT\n\x00source f source \x00vars\x00traps\x00params\x00functions\x00aliases\x00 /x\x00"

func parseAll(chunks ...[]byte) (out []report) {
	var p reportParser
	for _, c := range chunks {
		p.feed(c, func(r report) { out = append(out, r) })
	}
	return out
}

func TestReportParser(t *testing.T) {
	t.Parallel()
	got := parseAll([]byte(sampleReports))
	if len(got) != 4 {
		t.Fatalf("%d reports, want 4: %+v", len(got), got)
	}
	if r := got[0]; r.kind() != 'E' || r.number() != 1 || r.status != 0 || !r.wild || r.prompt || r.opts != "himBHs" || r.dir != "/tmp" || r.pid != 77 {
		t.Errorf("first: %+v", r)
	}
	if r := got[1]; r.status != 130 || !r.prompt || r.tmout != "300" || r.dir != "/a\nb" {
		t.Errorf("second: %+v", r)
	}
	c := got[3].state
	if c.exitTrap != "trap -- 'x' EXIT" || !c.inFunc || string(c.dirs) != " /x" || string(c.traps) != "traps" {
		t.Errorf("checkpoint: %+v", c)
	}
}

func TestReportParserFindsItsWayBack(t *testing.T) {
	t.Parallel()
	for _, noise := range []string{"\x00", "E\x00", "Q9\x00x\x00", "E-1\x00", "hello", "\xff\xfe\x00\x00"} {
		got := parseAll([]byte(noise + "\x00" + sampleReports))
		if len(got) != 4 {
			t.Errorf("after %q: %d reports, want 4", noise, len(got))
		}
	}
}

func TestReportParserSkipsWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	big := bytes.Repeat([]byte("x"), maxReport/4)
	got := parseAll([]byte("E1\x000\x00"), big, big, big, big, big, []byte("\x00\x00\x00/\x00\x00\x00"+sampleReports))
	if len(got) != 4 {
		t.Fatalf("%d reports, want the 4 that follow", len(got))
	}
}

func TestParseStatus(t *testing.T) {
	t.Parallel()
	type parsed struct {
		status int
		spoilt bool
	}
	for text, want := range map[string]parsed{
		"0": {0, false}, "7": {7, false}, "255": {255, false}, "256": {-1, false}, "": {-1, false}, "x": {-1, false},
		"0 18": {18, true}, "0 0 18": {18, true}, "0 0": {0, true}, "0 word": {0, false}, "0 ": {0, false}, "130 18": {130, false}, "130 a b": {130, false},
	} {
		status, spoilt := parseStatus(text)
		if got := (parsed{status, spoilt}); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestReportParserKeepsNoNoise(t *testing.T) {
	t.Parallel()
	p := reportParser{most: maxOwnReport}
	var got []report
	for range 100 {
		p.feed(bytes.Repeat([]byte("x"), maxOwnReport/4), func(r report) { got = append(got, r) })
		if len(p.buf) > maxOwnReport {
			t.Fatalf("%d bytes are kept", len(p.buf))
		}
	}
	for _, b := range []byte(sampleReports) {
		p.feed([]byte{b}, func(r report) { got = append(got, r) })
	}
	if len(got) != 4 {
		t.Fatalf("%d reports, want the 4 that follow", len(got))
	}
}

// FuzzReports checks that the way the bytes are cut does not matter, and that no bytes
// whatever upset the parser for good.
func FuzzReports(f *testing.F) {
	f.Add([]byte(sampleReports), uint8(1))
	f.Add([]byte("E1\x00\x00\x00\x00\x00T1\x00"), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		whole := parseAll(b)
		cut := parseAll(slices.Collect(slices.Chunk(b, 1+int(size)))...)
		if len(whole) != len(cut) {
			t.Fatalf("%d reports in one piece, %d in pieces of %d", len(whole), len(cut), 1+size)
		}
		for i := range whole {
			w, c := whole[i], cut[i]
			if w.tag != c.tag || w.status != c.status || w.dir != c.dir || w.status < -1 || w.status > 255 {
				t.Fatalf("report %d: %+v in one piece, %+v in pieces", i, w, c)
			}
		}
		// At most one report under way can swallow what follows.
		rest := bytes.Repeat([]byte{0}, checkpointFields)
		if got := parseAll(b, rest, []byte(sampleReports)); len(got) < len(whole)+4 {
			t.Fatalf("%d reports after %d, want the 4 that follow too", len(got), len(whole))
		}
	})
}

func TestDriverOptionsOf(t *testing.T) {
	t.Parallel()
	for opts, want := range map[string][]string{
		"braceexpand:hashall:interactive-comments": nil,
		"braceexpand:errexit:history:xtrace":       {"errexit", "history", "xtrace"},
		"errtrace":                                 {"errtrace"},
		"":                                         nil,
		"-himBHs":                                  nil,
		"-eETvx":                                   {"errexit", "errtrace", "functrace", "verbose", "xtrace"},
		"-ehuB":                                    {"errexit"},
		"allexport:emacs:errexits:functrace:monitor:verbose:vi:x": {"functrace", "verbose"},
	} {
		if got := driverOptionsOf(report{opts: opts}); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", opts, got, want)
		}
	}
}
