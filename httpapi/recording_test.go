package httpapi_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"tandem/httpapi"
	"tandem/sessions"
)

// recording reads a recording.
func (d *door) recording(path string) *httpapi.Cast {
	d.t.Helper()
	a := d.do("GET", path, "")
	if a.status != 200 {
		d.t.Fatalf("%s: %d %s", path, a.status, a.body)
	}
	c, err := httpapi.ParseCast(a.body)
	if err != nil {
		d.t.Fatalf("%s: %v", path, err)
	}
	return c
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n%q\nwant\n%q", what, got, want)
	}
}

func TestRecording(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	path, id := d.session()
	d.do("PATCH", path, `{"name":"a \"talk\" in UTF-8: é"}`)
	before := time.Now()
	// The time counts from when the first piece is there, however late it was read.
	d.do("POST", path+"/run", body("code", "printf 'caf\\xc3'; read x; sleep 0.3; printf '\\xa9\\n'", "run_id", "first", "stdin", true, "detach", true))
	d.do("GET", path+"/run/first/output?wait=20000", "")
	d.do("POST", path+"/run/first/stdin?close=1", "\n")
	d.do("GET", path+"/run/first?wait=20000", "")
	d.run(path, "for i in 1 2\ndo echo $i\ndone\n")
	d.run(path, "printf '%s' 'no newline'; exit 7")
	d.run(path, "echo oops >&2 # \x1b[31m")
	d.run(path, "printf '\\xff\\x1b[1m\\r\\n'")
	v3 := d.recording(path + "/recording")
	v2 := d.recording(path + "/recording?format=v2")
	expect(t, "shown", v3.Shown(), "$ printf 'caf\\xc3'; read x; sleep 0.3; printf '\\xa9\\n'\r\ncafé\r\n"+
		"$ for i in 1 2\r\n> do echo $i\r\n> done\r\n1\r\n2\r\n"+
		"$ printf '%s' 'no newline'; exit 7\r\nno newline\r\n"+
		"$ echo oops >&2 # ^[[31m\r\noops\r\n"+
		"$ printf '\\xff\\x1b[1m\\r\\n'\r\n\ufffd\x1b[1m\r\n")
	expect(t, "markers", v3.Markers(), "run 1: printf 'caf\\xc3'; read x; sleep 0.3; printf '\\xa9\\n'\nrun 1 ended: exited, exit code 0\n"+
		"run 2: for i in 1 2…\nrun 2 ended: exited, exit code 0\n"+
		"run 3: printf '%s' 'no newline'; exit 7\nrun 3 ended: exited, exit code 7\nshell restarted: exit, restored: exit\n"+
		"run 4: echo oops >&2 # ^[[31m\nrun 4 ended: exited, exit code 0\n"+
		"run 5: printf '\\xff\\x1b[1m\\r\\n'\nrun 5 ended: exited, exit code 0\n")
	for _, c := range []*httpapi.Cast{v2, v3} {
		if c.Cols != 80 || c.Rows != 24 || c.Title != `a "talk" in UTF-8: é` || c.IdleLimit != 2 {
			t.Errorf("header %d x %d, %q, %v", c.Cols, c.Rows, c.Title, c.IdleLimit)
		}
		if c.Timestamp < before.Unix() || c.Timestamp > time.Now().Unix() {
			t.Errorf("made at %d, it is %d", c.Timestamp, before.Unix())
		}
	}
	if v2.Version != 2 || v3.Version != 3 || len(v2.Events) != len(v3.Events) {
		t.Fatalf("v%d with %d events, v%d with %d", v2.Version, len(v2.Events), v3.Version, len(v3.Events))
	}
	for i, e := range v2.Events {
		if e != v3.Events[i] {
			t.Errorf("event %d is %v in v2 and %v in v3", i, e, v3.Events[i])
		}
		if e.Data == "é\r\n" && e.At-v2.Events[i-1].At < 295 {
			t.Errorf("written 300 ms after what is before, and shown after %d", e.At-v2.Events[i-1].At)
		}
	}
	head, get := d.do("HEAD", path+"/recording", ""), d.do("GET", path+"/recording", "")
	for name, want := range map[string]string{
		"Content-Type":        "application/x-asciicast",
		"Content-Disposition": `attachment; filename="` + id + `.cast"`,
		"Cache-Control":       "no-store",
	} {
		expect(t, "HEAD "+name, head.header.Get(name), want)
		expect(t, "GET "+name, get.header.Get(name), want)
	}
	if head.status != 200 || len(head.body) != 0 {
		t.Errorf("HEAD: %d %q", head.status, head.body)
	}
}

// A recording ends where the session was when it was asked for, with the run that is on.
func TestRecordingDoesNotFollow(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	path, id := d.session()
	if c := d.recording(path + "/recording"); len(c.Events) != 0 || c.Title != "session "+id || c.Timestamp < time.Now().Unix()-60 {
		t.Errorf("of nothing: %+v", c)
	}
	g := newGate(t)
	s := d.stream("POST", path+"/run", body("code", "printf 'half \\xe2\\x82'; "+g.wait(), "run_id", "on"))
	s.until("stdout")
	queued := d.do("POST", path+"/run", body("code", "true", "run_id", "next", "detach", true))
	if queued.status != 202 {
		t.Fatalf("%d %s", queued.status, queued.body)
	}
	for _, query := range []string{"", "?run=on"} {
		c := d.recording(path + "/recording" + query)
		if !strings.HasSuffix(c.Shown(), "\r\nhalf \ufffd\ufffd") || strings.Contains(c.Markers(), "ended") {
			t.Errorf("%s: %q, %q", query, c.Shown(), c.Markers())
		}
	}
	if c := d.recording(path + "/recording?run=next"); len(c.Events) != 0 || !strings.HasSuffix(c.Title, ", run 2: true") {
		t.Errorf("of one that waits: %+v", c)
	}
	d.do("DELETE", path+"/run/next", "")
	c := d.recording(path + "/recording?run=next")
	expect(t, "of one that never began", c.Markers(), "run 2 ended: canceled\n")
	expect(t, "of one that never began", c.Shown(), "")
	var v struct{ Clients int }
	d.do("GET", path, "").decode(t, &v)
	if v.Clients != 0 {
		t.Errorf("%d clients are left", v.Clients)
	}
	g.open()
	s.rest()
}

func TestRecordingOfARun(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	path, id := d.session()
	late := newGate(t)
	d.run(path, "{ "+late.wait()+"; echo late; } & echo now")
	s := d.stream("POST", path+"/run", body("code", "echo mine; read -r x; echo $x; (exit 9)", "run_id", "r", "stdin", true))
	s.until("stdout")
	events := d.stream("GET", path+"/events", "")
	late.open()
	events.untilText("late\n")
	d.do("POST", path+"/run/r/stdin?close=1", "typed\n")
	s.rest()
	d.run(path, "echo after")
	mine := d.recording(path + "/recording?run=r")
	expect(t, "shown", mine.Shown(), "$ echo mine; read -r x; echo $x; (exit 9)\r\nmine\r\ntyped\r\n")
	expect(t, "markers", mine.Markers(), "run 2: echo mine; read -r x; echo $x; (exit 9)\nrun 2 ended: exited, exit code 9\n")
	if last := mine.Events[len(mine.Events)-1]; last.Code != "x" || last.Data != "9" {
		t.Errorf("ends with %v", last)
	}
	if v2 := d.recording(path + "/recording?format=v2&run=r"); v2.Shown() != mine.Shown() || v2.Markers() != mine.Markers() {
		t.Errorf("v2 differs: %+v", v2)
	}
	if all := d.recording(path + "/recording"); !strings.Contains(all.Shown(), "late\r\n") {
		t.Errorf("all is %q", all.Shown())
	}
	expect(t, "name", d.do("HEAD", path+"/recording?run=r", "").header.Get("Content-Disposition"), `attachment; filename="`+id+`-r.cast"`)
}

func TestRecordingWithGaps(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{Retention: sessions.MinRetention}, httpapi.Config{})
	path, _ := d.session()
	d.run(path, "echo gone")
	const flood = "seq -f %0200.0f 1 20000"
	g := newGate(t)
	s := d.stream("POST", path+"/run", body("code", flood+"; echo done; "+g.wait(), "run_id", "flood"))
	s.untilText("done")
	for _, query := range []string{"?format=v2", "?format=v3", "?run=flood"} {
		c := d.recording(path + "/recording" + query)
		notice, rest, _ := strings.Cut(c.Shown(), "]\r\n")
		if query == "?run=flood" {
			rest, notice = c.Shown(), rest
		}
		if !strings.Contains(c.Shown(), "[gap: positions ") || strings.Contains(c.Shown(), "gone\r\n") || !strings.HasSuffix(rest, "19999\r\n"+strings.Repeat("0", 195)+"20000\r\ndone\r\n") {
			t.Errorf("%s: %.200q … %q", query, notice, rest[max(0, len(rest)-300):])
		}
		if !strings.Contains(c.Shown(), "$ "+flood) || !strings.Contains(c.Markers(), "run 2: "+flood) || !strings.Contains(c.Markers(), "gap: positions") {
			t.Errorf("%s: the run whose output it is is not told: %q", query, c.Markers())
		}
	}
	g.open()
	s.rest()
	d.run(path, flood)
	c := d.recording(path + "/recording?run=flood")
	if !strings.HasSuffix(c.Markers(), "are no longer kept\nrun 2 ended: exited, exit code 0\n") || c.Events[len(c.Events)-1].Code != "x" {
		t.Errorf("where all of a run is gone: %q", c.Markers())
	}
	if !strings.HasPrefix(c.Shown(), "$ "+flood) || strings.Contains(c.Shown(), "00001\r\n") {
		t.Errorf("where all of a run is gone: %.300q", c.Shown())
	}
}

// TestRecordingWhileItComes: a recording of a flood ends all the same, and is whole or says
// what it lacks.
func TestRecordingWhileItComes(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{Retention: sessions.MinRetention}, httpapi.Config{})
	path, _ := d.session()
	d.do("POST", path+"/run", body("code", "echo begun; while :; do printf 'line %s\\n' {1..200}; done", "detach", true))
	d.stream("GET", path+"/events", "").untilText("line 200\n")
	for range 5 {
		c := d.recording(path + "/recording")
		lines := strings.SplitAfter(c.Shown(), "\r\n")
		whole := map[bool]int{}
		for _, line := range lines {
			whole[strings.HasPrefix(line, "line ") && strings.HasSuffix(line, "\r\n")]++
		}
		if whole[true] < 100 || whole[false] > 8+3*strings.Count(c.Shown(), "[gap: ") {
			t.Errorf("%d lines, %d that are not whole, %d gaps", whole[true], whole[false], strings.Count(c.Shown(), "[gap: "))
		}
	}
	d.do("POST", path+"/interrupt", "")
}

// TestRecordingIsBrokenOff: who does not read is let go, and does not take what it has for
// the whole.
func TestRecordingIsBrokenOff(t *testing.T) {
	t.Parallel()
	const stall = 300 * time.Millisecond
	d := open(t, sessions.Config{StallTimeout: stall, Retention: 4 << 20}, httpapi.Config{StallTimeout: stall})
	path, _ := d.session()
	d.do("POST", path+"/run", body("code", "head -c 3000000 /dev/zero", "run_id", "r", "detach", true))
	d.do("GET", path+"/run/r?wait=20000", "")
	c := dial(t, d, "GET", path+"/recording", "", "X-Request-Id: slow")
	d.log.await(t, `"request_id":"slow"`)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("%d bytes are an answer that is whole", len(got))
	}
}
