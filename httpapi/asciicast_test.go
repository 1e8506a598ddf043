package httpapi

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"tandem/sessions"
)

// A Cast is a recording that was read back.
type Cast struct {
	Version    int
	Cols, Rows int
	Timestamp  int64
	IdleLimit  float64
	Title      string
	Events     []CastEvent
}

// A CastEvent is one event of a recording.
type CastEvent struct {
	At   int // ms from the beginning
	Code string
	Data string
}

// Shown is all that the terminal was given.
func (c *Cast) Shown() string { return c.join("o") }

// Markers are the labels of all markers, one a line.
func (c *Cast) Markers() string { return c.join("m") }

func (c *Cast) join(code string) string {
	var b strings.Builder
	for _, e := range c.Events {
		if e.Code == code {
			b.WriteString(e.Data)
			if code != "o" {
				b.WriteByte('\n')
			}
		}
	}
	return b.String()
}

var castNumber = regexp.MustCompile(`^\[(\d+\.\d{3}), "`)

// ParseCast reads a recording and forgives nothing that the format does not.
func ParseCast(data []byte) (*Cast, error) {
	lines := strings.Split(string(data), "\n")
	if last := len(lines) - 1; lines[last] != "" || last == 0 {
		return nil, fmt.Errorf("the last line is cut off: %.100q", lines[last])
	}
	lines = lines[:len(lines)-1]
	c, err := parseCastHeader(lines[0])
	if err != nil {
		return nil, fmt.Errorf("header %.200q: %w", lines[0], err)
	}
	now := 0
	for i, line := range lines[1:] {
		e, err := parseCastEvent(line)
		if err != nil {
			return nil, fmt.Errorf("event %d, %.200q: %w", i, line, err)
		}
		if c.Version == 3 {
			e.At += now
		}
		if e.At < now {
			return nil, fmt.Errorf("event %d is at %d ms, the one before at %d", i, e.At, now)
		}
		now = e.At
		if e.Code == "x" && (c.Version == 2 || i != len(lines)-2) {
			return nil, fmt.Errorf("event %d of %d is an exit", i, len(lines)-1)
		}
		c.Events = append(c.Events, e)
	}
	return c, nil
}

func parseCastHeader(line string) (*Cast, error) {
	var version struct{ Version int }
	if err := json.Unmarshal([]byte(line), &version); err != nil {
		return nil, err
	}
	c := &Cast{Version: version.Version}
	d := json.NewDecoder(strings.NewReader(line))
	d.DisallowUnknownFields()
	if c.Version == 2 {
		var h struct {
			Version, Width, Height int
			Timestamp              uint64
			Limit                  float64 `json:"idle_time_limit"`
			Title                  string
		}
		err := d.Decode(&h)
		c.Cols, c.Rows, c.Timestamp, c.IdleLimit, c.Title = h.Width, h.Height, int64(h.Timestamp), h.Limit, h.Title
		return c, err
	}
	var h struct {
		Version   int
		Term      struct{ Cols, Rows int }
		Timestamp uint64
		Limit     float64 `json:"idle_time_limit"`
		Title     string
	}
	err := d.Decode(&h)
	c.Cols, c.Rows, c.Timestamp, c.IdleLimit, c.Title = h.Term.Cols, h.Term.Rows, int64(h.Timestamp), h.Limit, h.Title
	return c, err
}

func parseCastEvent(line string) (CastEvent, error) {
	var parts []json.RawMessage
	var e CastEvent
	if !utf8.ValidString(line) {
		return e, fmt.Errorf("not UTF-8")
	}
	if err := json.Unmarshal([]byte(line), &parts); err != nil || len(parts) != 3 || !castNumber.MatchString(line) {
		return e, fmt.Errorf("not an event: %v", err)
	}
	var seconds float64
	for i, v := range []any{&seconds, &e.Code, &e.Data} {
		if err := json.Unmarshal(parts[i], v); err != nil {
			return e, err
		}
	}
	e.At = int(math.Round(seconds * 1000))
	switch e.Code {
	case "o", "m":
		return e, nil
	case "x":
		if !regexp.MustCompile(`^\d+$`).MatchString(e.Data) {
			return e, fmt.Errorf("no exit status")
		}
		return e, nil
	}
	return e, fmt.Errorf("no code that is used here")
}

func TestCastOutput(t *testing.T) {
	t.Parallel()
	out, err := castSource{1, sessions.Stdout}, castSource{1, sessions.Stderr}
	type piece struct {
		from castSource
		text string
	}
	for name, c := range map[string]struct {
		pieces []piece
		want   []string
	}{
		"newlines":                        {[]piece{{out, "a\nb\n\nc"}}, []string{"a\r\nb\r\n\r\nc"}},
		"newlines of DOS stay":            {[]piece{{out, "a\r\nb\r\n"}}, []string{"a\r\nb\r\n"}},
		"also across pieces":              {[]piece{{out, "a\r"}, {out, "\nb"}}, []string{"a\r", "\nb"}},
		"the return of another stream":    {[]piece{{out, "a\r"}, {err, "\nb"}}, []string{"a\r", "\nb"}},
		"a piece that is a newline":       {[]piece{{out, "a"}, {out, "\n"}, {out, "\n"}}, []string{"a", "\r\n", "\r\n"}},
		"a character in three pieces":     {[]piece{{out, "x\xe2"}, {out, "\x82"}, {out, "\xacy"}}, []string{"x", "€y"}},
		"streams apart":                   {[]piece{{out, "\xe2\x82"}, {err, "\xc3"}, {out, "\xac"}, {err, "\xa9"}}, []string{"€", "é"}},
		"what was no beginning after all": {[]piece{{out, "\xe2"}, {out, "abc"}}, []string{"\ufffdabc"}},
		"what is never completed":         {[]piece{{out, "a\xf0\x9f"}, {err, "b\xc3"}}, []string{"a", "b", "\ufffd\ufffd", "\ufffd"}},
		"no UTF-8":                        {[]piece{{out, "\xff\xfe\x80z"}}, []string{"\ufffd\ufffd\ufffdz"}},
		"controls":                        {[]piece{{out, "\x1b[1m\x00\a\x7f\"\\\u2028"}}, []string{"\x1b[1m\x00\a\x7f\"\\\u2028"}},
	} {
		for _, format := range []castFormat{castV2, castV3} {
			enc := &castEncoder{format: format}
			now := time.Unix(1700000000, 0)
			var b []byte
			for _, p := range c.pieces {
				b = enc.output(b, now, p.from, []byte(p.text))
			}
			b = enc.begin(enc.restOfAll(b, now), now)
			cast, err := ParseCast(b)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			var got []string
			for _, e := range cast.Events {
				got = append(got, e.Data)
			}
			if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", c.want) {
				t.Errorf("%s, v%d: %q, want %q", name, format, got, c.want)
			}
		}
	}
}

// TestCastFormats pins both formats to the byte.
func TestCastFormats(t *testing.T) {
	t.Parallel()
	began := time.UnixMilli(1700000000999)
	for format, want := range map[castFormat]string{
		castV2: `{"version":2,"width":80,"height":24,"timestamp":1700000000,"idle_time_limit":2,"title":"a \"b\""}
[0.000, "m", "run 1: x"]
[0.000, "o", "$ x\r\n"]
[1.333, "o", "\u001b[31mé"]
[1.333, "o", "late"]
[61.666, "o", "\r\n[own]\r\n"]
`,
		castV3: `{"version":3,"term":{"cols":80,"rows":24},"timestamp":1700000000,"idle_time_limit":2,"title":"a \"b\""}
[0.000, "m", "run 1: x"]
[0.000, "o", "$ x\r\n"]
[1.333, "o", "\u001b[31mé"]
[0.000, "o", "late"]
[60.333, "o", "\r\n[own]\r\n"]
[0.001, "x", "130"]
`,
	} {
		c := &castEncoder{format: format, title: `a "b"`}
		out := castSource{1, sessions.Stdout}
		b := c.marker(nil, began, "run 1: x")
		b = c.line(b, began, "$ x")
		b = c.output(b, began.Add(1333*time.Millisecond+999*time.Microsecond), out, []byte("\x1b[31mé"))
		b = c.output(b, began, out, []byte("late")) // its time is before that of what comes before it
		b = c.line(b, began.Add(61666*time.Millisecond), "[own]")
		b = c.exit(b, began.Add(61667*time.Millisecond), 130)
		if string(b) != want {
			t.Errorf("v%d:\n%s\nwant\n%s", format, b, want)
		}
	}
}

// FuzzCast has streams write anything at any time, with what else there can be between, and
// compares what a strict reader finds with what each stream has written.
func FuzzCast(f *testing.F) {
	f.Add([]byte("\x00\x02hello\n\x03\x01\xe2\x00\x01\x82\x03\x01\xac\x04\x05"))
	f.Add([]byte("\x08\x03a\r\x0a\x01\n\x02\x02\xff\xfe\x05\x06\x07"))
	f.Fuzz(func(t *testing.T, script []byte) {
		for _, format := range []castFormat{castV2, castV3} {
			castScript(t, format, script)
		}
	})
}

// castScript plays operations of two bytes and what output they carry.
func castScript(t *testing.T, format castFormat, script []byte) {
	enc := &castEncoder{format: format, title: string(script)}
	now := time.Unix(1700000000, 0)
	var all []byte
	written, shown := map[castSource][]byte{}, map[castSource]string{}
	took := func(from castSource, b []byte) {
		shown[from] += castText(t, format, b)
		all = append(all, b...)
	}
	all = enc.begin(all, now)
	for len(script) >= 2 {
		op, n := script[0], int(script[1])
		script = script[2:]
		now = now.Add(time.Duration(int(op)-100) * 700 * time.Microsecond)
		switch op % 8 {
		case 5:
			all = enc.marker(all, now, string(script[:min(n, len(script))]))
		case 6:
			all = enc.line(all, now, "own")
		case 7:
			all = enc.reset(all, now)
		default:
			from := castSource{uint64(op % 2), sessions.Kind(1 + op/2%2)}
			data := script[:min(n, len(script))]
			script = script[len(data):]
			written[from] = append(written[from], data...)
			took(from, enc.output(nil, now, from, data))
		}
	}
	for _, run := range []uint64{0, 1} {
		for _, r := range enc.cut {
			if r.from.run == run {
				shown[r.from] += strings.Repeat("\ufffd", len(r.bytes))
			}
		}
		all = enc.rest(all, now, run)
	}
	all = enc.exit(all, now, 0)
	cast, err := ParseCast(all)
	if err != nil {
		t.Fatal(err)
	}
	// A reset does not move the cursor: a return before it still stands.
	for i, text := 0, strings.ReplaceAll(cast.Shown(), "\x18\x1b[0m", ""); i < len(text); i++ {
		if text[i] == '\n' && (i == 0 || text[i-1] != '\r') {
			t.Fatalf("a newline without return: %q", text[max(0, i-9):i+1])
		}
	}
	for from, data := range written {
		// Returns apart, which depend on what the other streams write.
		want := strings.ReplaceAll(string([]rune(string(data))), "\r", "")
		if got := strings.ReplaceAll(shown[from], "\r", ""); got != want {
			t.Fatalf("%v shows %q, want %q", from, got, want)
		}
	}
	if len(enc.cut) > 0 {
		t.Fatalf("left over: %v", enc.cut)
	}
}

// castText is the text of the output events in b.
func castText(t *testing.T, format castFormat, b []byte) string {
	head := (&castEncoder{format: format}).begin(nil, time.Unix(1, 0))
	c, err := ParseCast(append(head, b...))
	if err != nil {
		t.Fatal(err)
	}
	return c.Shown()
}
