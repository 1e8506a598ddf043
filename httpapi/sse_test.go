package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"tandem/sessions"
)

type lineEvent struct {
	id        uint64
	Type      string `json:"type"`
	Text      string `json:"text"`
	Base64    []byte `json:"base64"`
	Newline   *bool  `json:"newline"`
	Timestamp int64  `json:"timestamp"`
}

func (e lineEvent) bytes() []byte {
	b := []byte(e.Text)
	if e.Base64 != nil {
		b = e.Base64
	}
	if e.Newline == nil {
		b = append(b, '\n')
	}
	return b
}

func parseEvents(t *testing.T, stream []byte) (events []lineEvent) {
	t.Helper()
	for block := range strings.SplitSeq(string(stream), "\n\n") {
		if block == "" {
			continue
		}
		id, data, ok := strings.Cut(block, "\n")
		if !ok || !strings.HasPrefix(id, "id: ") || !strings.HasPrefix(data, "data: ") {
			t.Fatalf("not an event: %.200q", block)
		}
		var e lineEvent
		if err := json.Unmarshal([]byte(data[6:]), &e); err != nil {
			t.Fatalf("event %.200q: %v", data, err)
		}
		var err error
		if e.id, err = strconv.ParseUint(id[4:], 10, 64); err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

func TestLineEvents(t *testing.T) {
	t.Parallel()
	const out, err = sessions.Stdout, sessions.Stderr
	type chunk struct {
		kind sessions.Kind
		data string
	}
	for _, c := range []struct {
		name   string
		chunks []chunk
		want   string // id type text, + for a newline
	}{
		{"lines", []chunk{{out, "a\nb\n"}}, `102 stdout "a"+ | 104 stdout "b"+`},
		{"an empty line is an event", []chunk{{out, "a\n\n\nb"}}, `102 stdout "a"+ | 103 stdout ""+ | 104 stdout ""+ | 105 stdout "b"`},
		{"a line in two pieces", []chunk{{out, "ab"}, {out, "c\n"}}, `104 stdout "abc"+`},
		{"a rune in two pieces", []chunk{{out, "\xe2\x82"}, {out, "\xac\n"}}, `104 stdout "€"+`},
		{"the other stream does not overtake", []chunk{{out, "ab"}, {err, "x\n"}, {out, "c\n"}}, `102 stdout "ab" | 104 stderr "x"+ | 106 stdout "c"+`},
		{"carriage returns are kept", []chunk{{out, "a\r\n"}}, `103 stdout "a\r"+`},
		{"controls, quotes, U+0085, U+2028", []chunk{{out, "\x00\x1b\"\\\t\u0085\u2028\u2029é\n"}}, `116 stdout "\x00\x1b\"\\\t\u0085\u2028\u2029é"+`},
		{"not UTF-8", []chunk{{out, "a\xffb\n"}}, `104 stdout "a�b"+=61ff62`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var l lineEncoder
			var buf []byte
			pos := uint64(100)
			for _, chunk := range c.chunks {
				buf = l.output(buf, chunk.kind, pos, 1700000000123, []byte(chunk.data))
				pos += uint64(len(chunk.data))
			}
			buf = l.rest(buf)
			if bytes.ContainsAny(buf, "\u0085\u2028\u2029\r\x00") {
				t.Errorf("a line break or control stands for itself in %q", buf)
			}
			var got []string
			for _, e := range parseEvents(t, buf) {
				s := fmt.Sprintf("%d %s %q", e.id, e.Type, e.Text)
				if e.Newline == nil {
					s += "+"
				}
				if e.Base64 != nil {
					s += fmt.Sprintf("=%x", e.Base64)
				}
				if e.Timestamp != 1700000000123 {
					t.Errorf("timestamp %d", e.Timestamp)
				}
				got = append(got, s)
			}
			if s := strings.Join(got, " | "); s != c.want {
				t.Errorf("got  %s\nwant %s", s, c.want)
			}
		})
	}
}

func TestLongLinesAreSplit(t *testing.T) {
	t.Parallel()
	for _, unit := range []string{"x", "\x00", "\xff", "€", "a€", "\xe2\x82"} {
		line := strings.Repeat(unit, 3*maxText/len(unit)) + "\n"
		var l lineEncoder
		var got []byte
		buf := l.output(nil, sessions.Stdout, 0, 1, []byte(line))
		for _, block := range bytes.SplitAfter(buf, []byte("\n\n")) {
			if len(block) >= 1<<20 {
				t.Errorf("%q: an event of %d bytes", unit, len(block))
			}
		}
		events := parseEvents(t, buf)
		for _, e := range events {
			if utf8.ValidString(line) && e.Base64 != nil {
				t.Errorf("%q: a character was cut at %d", unit, e.id)
			}
			got = append(got, e.bytes()...)
			if e.id != uint64(len(got)) {
				t.Errorf("%q: id %d after %d bytes", unit, e.id, len(got))
			}
		}
		if string(got) != line || len(events) < 3 {
			t.Errorf("%q: %d events of %d bytes do not rebuild %d", unit, len(events), len(got), len(line))
		}
	}
}

func TestAPromptWaitsForWholeRunesOnly(t *testing.T) {
	t.Parallel()
	var l lineEncoder
	buf := l.output(nil, sessions.Stdout, 0, 1, []byte("Passwort für \xc3"))
	events := parseEvents(t, l.restOfRunes(buf))
	if string(l.begun) != "\xc3" || len(events) != 1 || events[0].Text != "Passwort für " || events[0].Newline == nil || events[0].id != 14 {
		t.Fatalf("kept %q, events %+v", l.begun, events)
	}
	if buf = l.restOfRunes(nil); string(l.begun) != "\xc3" || len(buf) > 0 {
		t.Fatalf("the start of a character went out alone: %q", buf)
	}
	events = parseEvents(t, l.rest(l.output(nil, sessions.Stdout, 15, 1, []byte("\xbc: "))))
	if len(events) != 1 || events[0].Text != "ü: " || events[0].id != 18 {
		t.Fatalf("events %+v", events)
	}
}

// FuzzLineEvents checks the promise to clients: however output is cut into pieces, and
// whenever the stream pauses, the events rebuild it to the byte, and what lies below the
// id of an event is in the events up to it.
func FuzzLineEvents(f *testing.F) {
	f.Add([]byte("hello\nworld"), []byte{1, 2, 3})
	f.Add([]byte("\xe2\x82\xac\r\n\n\u2028\xff"), []byte{0x81, 1, 0x41, 2})
	f.Add(bytes.Repeat([]byte("\xf0\x9f\x98\x80"), 9), []byte{3, 0xc5, 0x7f})
	f.Fuzz(func(t *testing.T, data, cuts []byte) {
		data = data[:min(len(data), 1000)]
		var l lineEncoder
		var buf []byte
		want := map[string][]byte{}
		kinds := map[sessions.Kind]string{sessions.Stdout: "stdout", sessions.Stderr: "stderr"}
		at := map[string][]uint64{} // positions of the bytes of each stream
		pos := uint64(0)
		for i := 0; len(data) > 0; i++ {
			cut := byte(len(data))
			if i < len(cuts) {
				cut = cuts[i]
			}
			n := min(len(data), 1+int(cut&0x3f))
			kind := sessions.Stdout
			if cut&0x40 != 0 {
				kind = sessions.Stderr
			}
			buf = l.output(buf, kind, pos, 7, data[:n])
			for range n {
				at[kinds[kind]] = append(at[kinds[kind]], pos)
				pos++
			}
			if cut&0x80 != 0 {
				buf = l.restOfRunes(buf)
				pos += 5 // something that is not ours
			}
			want[kinds[kind]] = append(want[kinds[kind]], data[:n]...)
			data = data[n:]
		}
		buf = l.rest(buf)
		got, last := map[string][]byte{}, uint64(0)
		for _, e := range parseEvents(t, buf) {
			if e.id <= last {
				t.Fatalf("id %d after %d", e.id, last)
			}
			last = e.id
			got[e.Type] = append(got[e.Type], e.bytes()...)
			for stream, positions := range at {
				for k, p := range positions {
					if delivered := k < len(got[stream]); delivered != (p < e.id) {
						t.Fatalf("id %d: byte %d of %s at %d: delivered %v", e.id, k, stream, p, delivered)
					}
				}
			}
		}
		for stream := range want {
			if !bytes.Equal(got[stream], want[stream]) {
				t.Fatalf("%s: got %q, want %q", stream, got[stream], want[stream])
			}
		}
	})
}

// BenchmarkLineEvents is a buffer of whole lines made into events: many short ones, where
// what surrounds a line counts; long ones, where its bytes do; and ones full of escapes.
func BenchmarkLineEvents(b *testing.B) {
	for _, bm := range []struct{ name, line string }{
		{"short", "1000000\n"},
		{"1000B", strings.Repeat("x", 999) + "\n"},
		{"escapes", "\x1b[31merror\x1b[0m\t\"C:\\dir\\é\": \u2028 not found\r\n"},
	} {
		b.Run(bm.name, func(b *testing.B) {
			lines := (64 << 10) / len(bm.line)
			text := bytes.Repeat([]byte(bm.line), lines)
			var l lineEncoder
			buf := make([]byte, 0, 2<<20)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				buf = l.output(buf[:0], sessions.Stdout, 12345678, 1700000000123, text)
			}
			b.ReportMetric(float64(b.N*lines)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}
