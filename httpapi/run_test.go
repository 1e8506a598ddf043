package httpapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tandem/httpapi"
	"tandem/sessions"
)

func TestRunStream(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	path, id := d.session()
	s := d.stream("POST", path+"/run", body("command", "echo out; echo err >&2; printf 'a\\n\\nb\\xff\\r\\nend'", "timeout", 60000))
	for k, want := range map[string]string{"Cache-Control": "no-cache", "X-Accel-Buffering": "no"} {
		if got := s.res.Header.Get(k); got != want {
			t.Errorf("%s: %q", k, got)
		}
	}
	r := s.rest()
	if e := r.events; e[0].Type != "init" || e[0].Text != id || e[0].RunID == "" || e[1].Type != "ping" || e[1].Text != "pong" {
		t.Errorf("begins with %s and %s", e[0].data, e[1].data)
	}
	last := uint64(0)
	for i, e := range r.events {
		pos, err := strconv.ParseUint(e.id, 10, 64)
		if err != nil || pos < last || e.Timestamp == 0 {
			t.Errorf("event %d: id %q after %d: %s", i, e.id, last, e.data)
		}
		last = pos
	}
	if r.stdout.String() != "out\na\n\nb\xff\r\nend" || r.stderr.String() != "err\n" {
		t.Errorf("stdout %q, stderr %q", &r.stdout, &r.stderr)
	}
	if r.end.Type != "execution_complete" || r.end.ExitCode == nil || *r.end.ExitCode != 0 || r.end.data != r.events[len(r.events)-1].data {
		t.Errorf("ended as %s", r.end.data)
	}
}

func TestRunEndings(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	for _, c := range []struct{ code, ename, evalue, trace string }{
		{"exit 7", "CommandExecError", "7", "exit status 7"},
		{"false", "CommandExecError", "1", "exit status 1"},
		{"sleep 60", "CommandTimeout", "124", "timed out after"},
		{"kill -9 $$", "ShellExited", "137", "signal: SIGKILL"},
	} {
		t.Run(c.code, func(t *testing.T) {
			t.Parallel()
			path, _ := d.session()
			ms := 20000
			if c.evalue == "124" {
				ms = 100
			}
			r := d.stream("POST", path+"/run", body("code", c.code, "timeout_ms", ms)).rest()
			if e := r.end.Error; e.EName != c.ename || e.EValue != c.evalue || len(e.Traceback) != 1 || !strings.HasPrefix(e.Traceback[0], c.trace) {
				t.Errorf("ended as %s", r.end.data)
			}
		})
	}
	t.Run("canceled and closed", func(t *testing.T) {
		t.Parallel()
		path, _ := d.session()
		g := newGate(t)
		on := d.stream("POST", path+"/run", body("code", "echo on; "+g.wait()))
		on.until("stdout")
		queued := d.stream("POST", path+"/run", body("code", "true"))
		run := queued.until("init").RunID
		if a := d.do("DELETE", path+"/run/"+run, ""); a.status != 200 {
			t.Errorf("cancel: %d %s", a.status, a.body)
		}
		if e := queued.rest().end.Error; e.EName != "CommandCanceled" || e.EValue != "" {
			t.Errorf("canceled ended as %+v", e)
		}
		d.do("DELETE", path, "")
		if e := on.rest().end.Error; e.EName != "SessionClosed" || e.EValue != "" {
			t.Errorf("closed ended as %+v", e)
		}
	})
}

func TestRefusedDirectory(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	path, _ := d.session()
	bad := body("code", "pwd", "cwd", "/no/such/dir")
	for _, accept := range []string{"*/*", "application/json"} {
		a := d.do("POST", path+"/run", bad, "Accept", accept)
		if code, message := errorOf(t, a); a.status != 400 || code != "INVALID_REQUEST_BODY" || !strings.Contains(message, "/no/such/dir") {
			t.Errorf("at once: %d %s", a.status, a.body)
		}
	}
	// Where the answer has begun by the time the run is refused, it is an event.
	g := newGate(t)
	first := d.stream("POST", path+"/run", body("code", "echo on; "+g.wait()))
	first.until("stdout")
	s := d.stream("POST", path+"/run", bad)
	s.until("ping")
	g.open()
	if e := s.rest().end.Error; e.EName != "InvalidCwd" || !strings.Contains(e.Traceback[0], "/no/such/dir") {
		t.Errorf("late: %+v", e)
	}
	first.rest()
}

func TestPromptAndSilence(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	path, _ := d.session()
	g := newGate(t)
	s := d.stream("POST", path+"/run", body("code", "printf 'Password: '; printf '\\xc3'; "+g.wait()+"; printf '\\xbc\\n'"))
	start := time.Now()
	if e := s.until("stdout"); e.Text != "Password: " || e.Newline == nil || *e.Newline {
		t.Errorf("prompt: %s", e.data)
	}
	// The rest of the character does not come: then its beginning is shown as it is.
	if e := s.until("stdout"); string(e.Base64) != "\xc3" || time.Since(start) > 2*time.Second {
		t.Errorf("half a character: %s after %v", e.data, time.Since(start))
	}
	if s.until("ping"); time.Since(start) < 2*time.Second || time.Since(start) > 5*time.Second {
		t.Errorf("ping after %v", time.Since(start))
	}
	g.open()
	if r := s.rest(); r.stdout.String() != "\xbc\n" {
		t.Errorf("rest %q", &r.stdout)
	}
}

// Clients take an event for a line, and what writes one in pieces means one.
func TestLineInPiecesIsOneEvent(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	path, _ := d.session()
	// Whether what comes between the pieces takes longer than a line waits is up to the machine.
	for try := 1; ; try++ {
		r := d.stream("POST", path+"/run", body("code", "for i in 1 2 3; do printf \"$i \"; /bin/true; done; echo")).rest()
		if r.stdout.String() != "1 2 3 \n" {
			t.Fatalf("%q", &r.stdout)
		}
		lines := slices.DeleteFunc(r.events, func(e event) bool { return e.Type != "stdout" })
		if len(lines) == 1 {
			break
		}
		if try == 20 {
			t.Fatalf("the line came as %d events", len(lines))
		}
	}
	// Many pieces, each sooner after the one before than that, are not held back for ever.
	on := filepath.Join(t.TempDir(), "on")
	if err := os.WriteFile(on, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := d.stream("POST", path+"/run", body("code", "while [ -e '"+on+"' ]; do printf .; sleep 0.005; done"))
	if e := s.until("stdout"); !strings.HasPrefix(e.Text, ".") {
		t.Errorf("%s", e.data)
	}
	if err := os.Remove(on); err != nil {
		t.Fatal(err)
	}
	s.rest()
}

type jsonRun struct {
	RunID        string `json:"run_id"`
	ExitCode     *int   `json:"exit_code"`
	Reason       string
	Stdout       string
	Stderr       string
	StdoutBase64 []byte `json:"stdout_base64"`
	StderrBase64 []byte `json:"stderr_base64"`
	Truncated    *bool
	DurationMS   *int64 `json:"duration_ms"`
	Cwd          string
	State        string
	Next         uint64
}

func TestRunAsJSON(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	path, _ := d.session()
	run := func(code string) (v jsonRun) {
		t.Helper()
		a := d.do("POST", path+"/run", body("code", code), "Accept", "application/json")
		if a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		a.decode(t, &v)
		return v
	}
	v := run("cd /tmp; echo '<out>'; printf 'e\\xff' >&2; exit 3")
	if v.ExitCode == nil || *v.ExitCode != 3 || v.Reason != "exited" || v.RunID == "" || v.DurationMS == nil || v.Cwd != "/tmp" || *v.Truncated {
		t.Errorf("%+v", v)
	}
	if v.Stdout != "<out>\n" || v.StdoutBase64 != nil || v.Stderr != "e\ufffd" || string(v.StderrBase64) != "e\xff" {
		t.Errorf("stdout %q, stderr %q %q", v.Stdout, v.Stderr, v.StderrBase64)
	}
	v = run("head -c 30000000 /dev/zero | tr '\\0' x; echo end; echo e >&2")
	if !*v.Truncated || len(v.Stdout) != 8<<20 || !strings.HasSuffix(v.Stdout, "xend\n") || v.Stderr != "e\n" {
		t.Errorf("flood: truncated %v, %d bytes, stderr %q", *v.Truncated, len(v.Stdout), v.Stderr)
	}
}

func TestDetachedRun(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	path, _ := d.session()
	g := newGate(t)
	a := d.do("POST", path+"/run", body("code", "echo one; "+g.wait()+"; echo two; printf 'x\\xff' >&2; exit 4", "detach", true))
	var v jsonRun
	a.decode(t, &v)
	if a.status != 202 || v.RunID == "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	run := path + "/run/" + v.RunID
	output := func(query string) (v jsonRun) {
		t.Helper()
		a := d.do("GET", run+"/output"+query, "")
		if a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		a.decode(t, &v)
		return v
	}
	first := output("?wait=20000")
	if first.Stdout != "one\n" || first.State != "running" || *first.Truncated {
		t.Errorf("first %+v", first)
	}
	if again := output(fmt.Sprintf("?after=%d&wait=1", first.Next)); again.Stdout != "" || again.Next != first.Next {
		t.Errorf("nothing new: %+v", again)
	}
	follower := d.stream("GET", run+"/output", "", "Accept", "text/event-stream")
	follower.until("stdout")
	d.do("GET", run, "").decode(t, &v)
	if v.State != "running" || v.ExitCode != nil || v.Reason != "" {
		t.Errorf("running: %+v", v)
	}
	g.open()
	a = d.do("GET", run+"?wait=20000", "")
	var end struct {
		State, Code, By, Reason string
		Number                  int
		StartedAt               int64  `json:"started_at"`
		ExitCode                int    `json:"exit_code"`
		DurationMS              *int64 `json:"duration_ms"`
		First, Last             uint64
	}
	a.decode(t, &end)
	if end.State != "finished" || end.Number != 1 || end.By != "rest" || end.Reason != "exited" || end.ExitCode != 4 || end.StartedAt == 0 || end.DurationMS == nil || end.Last <= end.First || !strings.HasPrefix(end.Code, "echo one") {
		t.Errorf("finished: %s", a.body)
	}
	rest := output(fmt.Sprintf("?after=%d&wait=20000", first.Next))
	if rest.Stdout != "two\n" || string(rest.StderrBase64) != "x\xff" || rest.State != "finished" {
		t.Errorf("rest %+v", rest)
	}
	if r := follower.rest(); r.stdout.String() != "two\n" || r.end.Error.EValue != "4" {
		t.Errorf("follower: %q, ended as %s", &r.stdout, r.end.data)
	}
	// Also long after its end, and from beyond it, a stream has an ending.
	for _, after := range []uint64{0, rest.Next} {
		if r := d.stream("GET", fmt.Sprintf("%s/output?after=%d", run, after), "", "Accept", "text/event-stream").rest(); r.end.Error.EValue != "4" {
			t.Errorf("after %d: %s", after, r.end.data)
		}
	}
	var list struct{ Runs []jsonRun }
	d.run(path, "true")
	d.do("GET", path+"/run", "").decode(t, &list)
	if len(list.Runs) != 2 || list.Runs[1].RunID != v.RunID {
		t.Errorf("list %+v", list)
	}
}

func TestStdin(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	path, _ := d.session()
	if r := d.stream("POST", path+"/run", body("code", "cat; echo EOF", "stdin", "text\n")).rest(); r.stdout.String() != "text\nEOF\n" {
		t.Errorf("text: %q", &r.stdout)
	}
	s := d.stream("POST", path+"/run", body("code", "cat; echo EOF", "stdin", true, "run_id", "in"))
	big := strings.Repeat(strings.Repeat("0123456789", 300)+"\n", 1000) // more than the engine holds
	got := make(chan *result)
	go func() { got <- s.rest() }()
	for _, c := range []struct{ body, query string }{{"a\x00\xff\n", ""}, {big, "?close=0"}, {"", "?close=1"}} {
		a := d.do("POST", path+"/run/in/stdin"+c.query, c.body)
		if want := fmt.Sprintf("{\"bytes\":%d}\n", len(c.body)); a.status != 200 || string(a.body) != want {
			t.Errorf("%s: %d %s", c.query, a.status, a.body)
		}
	}
	if r := <-got; r.stdout.String() != "a\x00\xff\n"+big+"EOF\n" {
		t.Errorf("stream: %d bytes", r.stdout.Len())
	}
}

// TestStdinRefusalDoesNotWait: the answer comes though the body has not ended.
func TestStdinRefusalDoesNotWait(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	path, _ := d.session()
	d.stream("POST", path+"/run", body("code", "true", "run_id", "r")).rest()
	pr, pw := io.Pipe()
	defer pw.Close()
	req, _ := http.NewRequestWithContext(t.Context(), "POST", d.url+path+"/run/r/stdin", pr)
	res, err := d.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 409 {
		t.Errorf("status %d", res.StatusCode)
	}
}

func TestClientThatLeaves(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	finished := func(run string) (v jsonRun) {
		t.Helper()
		d.do("GET", run+"?wait=20000", "").decode(t, &v)
		return v
	}
	for _, accept := range []string{"text/event-stream", "application/json"} {
		path, _ := d.session()
		events := d.stream("GET", path+"/events", "")
		conn := dial(t, d, "POST", path+"/run", body("code", "echo on; sleep 60"), "Accept: "+accept)
		events.untilText("on\n")
		conn.Close()
		var list struct{ Runs []jsonRun }
		d.do("GET", path+"/run", "").decode(t, &list)
		if v := finished(path + "/run/" + list.Runs[0].RunID); v.Reason != "canceled" {
			t.Errorf("%s: ended as %+v", accept, v)
		}
	}
}

// TestHeadOfRefusedRun: HEAD says of a run that was refused what GET does.
func TestHeadOfRefusedRun(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	path, _ := d.session()
	d.do("POST", path+"/run", body("code", "true", "cwd", "/nonexistent", "run_id", "r"))
	for _, method := range []string{"GET", "HEAD"} {
		if a := d.do(method, path+"/run/r/output", "", "Accept", "text/event-stream"); a.status != 400 {
			t.Errorf("%s: %d %s", method, a.status, a.body)
		}
	}
}

// TestHalfClosed: a client that closes its side is told that it must not, and not that the
// server has failed.
func TestHalfClosed(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	path, _ := d.session()
	conn := dial(t, d, "POST", path+"/run", body("code", "sleep 60"), "Accept: application/json")
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if answer, err := io.ReadAll(res.Body); res.StatusCode != 400 || !strings.Contains(string(answer), "keep both directions open") {
		t.Errorf("%d %s, %v", res.StatusCode, answer, err)
	}
}

// dial sends a request and leaves it to the test what becomes of the connection.
func dial(t *testing.T, d *door, method, path, body string, headers ...string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(d.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	head := append([]string{method + " " + path + " HTTP/1.1", "Host: localhost", fmt.Sprint("Content-Length: ", len(body))}, headers...)
	if _, err := io.WriteString(conn, strings.Join(head, "\r\n")+"\r\n\r\n"+body); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestSameRunAgain(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	path, _ := d.session()
	g := newGate(t)
	mark := filepath.Join(t.TempDir(), "mark")
	req := body("code", "echo x >>"+mark+"; echo one; echo two; "+g.wait()+"; echo three", "run_id", "mine")
	first := d.stream("POST", path+"/run", req)
	one := first.until("stdout")
	first.until("stdout")
	first.close()
	// The client is back within the grace, where it was and from the beginning.
	resumed := d.stream("POST", path+"/run", req, "Last-Event-ID", one.id)
	if e := resumed.until("stdout"); e.Text != "two" {
		t.Errorf("resumed with %s", e.data)
	}
	again := d.stream("POST", path+"/run", req)
	g.open()
	if r := resumed.rest(); r.stdout.String() != "three\n" || r.end.Type != "execution_complete" {
		t.Errorf("resumed: %q %s", &r.stdout, r.end.data)
	}
	if r := again.rest(); r.stdout.String() != "one\ntwo\nthree\n" || r.end.Type != "execution_complete" {
		t.Errorf("again: %q %s", &r.stdout, r.end.data)
	}
	a := d.do("POST", path+"/run", req, "Accept", "application/json")
	var v jsonRun
	a.decode(t, &v)
	if v.Stdout != "one\ntwo\nthree\n" || v.RunID != "mine" {
		t.Errorf("as JSON: %s", a.body)
	}
	if b, _ := os.ReadFile(mark); string(b) != "x\n" {
		t.Errorf("ran %d times", len(b)/2)
	}
	if a := d.do("POST", path+"/run", req, "Last-Event-ID", "x"); a.status != 400 || !strings.Contains(string(a.body), "Last-Event-ID") {
		t.Errorf("bad Last-Event-ID: %d %s", a.status, a.body)
	}
}

// TestDetachingLater: a run that somebody asks for again as detached outlives its readers.
func TestDetachingLater(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	path, _ := d.session()
	g := newGate(t)
	req := map[bool]string{false: body("code", "echo on; "+g.wait(), "run_id", "r"), true: body("code", "echo on; "+g.wait(), "run_id", "r", "detach", true)}
	s := d.stream("POST", path+"/run", req[false])
	s.until("stdout")
	if a := d.do("POST", path+"/run", req[true]); a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	s.close()
	g.open()
	var v jsonRun
	d.do("GET", path+"/run/r?wait=20000", "").decode(t, &v)
	if v.Reason != "exited" {
		t.Errorf("ended as %+v", v)
	}
}

func TestGapInARun(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{Retention: 1 << 20}, httpapi.Config{})
	path, _ := d.session()
	req := body("code", "seq -f %0200.0f 1 20000", "run_id", "r")
	whole := d.stream("POST", path+"/run", req).rest()
	if n := strings.Count(whole.stdout.String(), "\n"); n != 20000 {
		t.Fatalf("%d lines", n)
	}
	r := d.stream("POST", path+"/run", req).rest()
	gap := r.events[2]
	if gap.Type != "gap" || gap.To <= gap.From || gap.id != strconv.FormatUint(gap.To, 10) || strings.Contains(gap.data, "text") {
		t.Errorf("third event %s", gap.data)
	}
	if !strings.HasSuffix(whole.stdout.String(), r.stdout.String()) || r.stdout.Len() == 0 || r.end.Type != "execution_complete" {
		t.Errorf("%d bytes, ended as %s", r.stdout.Len(), r.end.data)
	}
	// Where even the end is gone, there still is one.
	d.run(path, "seq -f %0200.0f 1 20000")
	if r := d.stream("POST", path+"/run", req).rest(); r.end.Type != "execution_complete" || r.stdout.Len() != 0 {
		t.Errorf("%d bytes, ended as %s", r.stdout.Len(), r.end.data)
	}
	var v jsonRun
	d.do("GET", path+"/run/r/output", "").decode(t, &v)
	if v.Stdout != "" || !*v.Truncated {
		t.Errorf("output %+v", v)
	}
}

func TestOutputOfOthersIsLeftOut(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	path, _ := d.session()
	late, g := newGate(t), newGate(t)
	d.run(path, "{ "+late.wait()+"; echo late; } & echo now")
	s := d.stream("POST", path+"/run", body("code", "echo mine; "+g.wait()+"; echo too"))
	s.until("stdout")
	events := d.stream("GET", path+"/events", "")
	late.open()
	events.untilText("late\n")
	g.open()
	if r := s.rest(); r.stdout.String() != "too\n" {
		t.Errorf("got %q", &r.stdout)
	}
}

// TestStalledClient: who stops reading is cut off, and the run goes on.
func TestStalledClient(t *testing.T) {
	t.Parallel()
	const stall = 300 * time.Millisecond
	d := open(t, sessions.Config{StallTimeout: stall, Retention: 1 << 20}, httpapi.Config{StallTimeout: stall})
	path, _ := d.session()
	g := newGate(t)
	dial(t, d, "POST", path+"/run", body("code", "seq -f %0200.0f 1 200000; "+g.wait(), "run_id", "r"))
	g.open() // reached only if nobody waits for the client
	var v jsonRun
	d.do("GET", path+"/run/r?wait=20000", "").decode(t, &v)
	if v.Reason != "exited" {
		t.Errorf("ended as %+v", v)
	}
}

// TestQuietRun: who waits for a run that says nothing has not stopped reading, however long.
func TestQuietRun(t *testing.T) {
	t.Parallel()
	const stall = 100 * time.Millisecond
	d := open(t, sessions.Config{StallTimeout: stall}, httpapi.Config{StallTimeout: stall})
	path, _ := d.session()
	for _, accept := range []string{"application/json", "text/event-stream"} {
		a := d.do("POST", path+"/run", body("code", "sleep 1; echo done"), "Accept", accept)
		if a.status != 200 || !strings.Contains(string(a.body), "done") {
			t.Errorf("%s: %d %s", accept, a.status, a.body)
		}
	}
}

// TestStalledClientIsLetGo: the handler of a client that stopped reading ends too, and its
// end does not cancel the run.
func TestStalledClientIsLetGo(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits for a write's deadline")
	}
	const stall = 300 * time.Millisecond
	d := open(t, sessions.Config{StallTimeout: stall, Retention: 1 << 20}, httpapi.Config{StallTimeout: stall})
	path, _ := d.session()
	g := newGate(t)
	dial(t, d, "POST", path+"/run", body("code", "seq -f %0200.0f 1 200000; "+g.wait()), "X-Request-Id: stalled")
	d.log.await(t, `"request_id":"stalled"`)
	var list struct{ Runs []jsonRun }
	d.do("GET", path+"/run", "").decode(t, &list)
	if list.Runs[0].State != "running" {
		t.Errorf("the run is %+v", list.Runs[0])
	}
	g.open()
	var v jsonRun
	d.do("GET", path+"/run/"+list.Runs[0].RunID+"?wait=20000", "").decode(t, &v)
	if v.Reason != "exited" {
		t.Errorf("ended as %+v", v)
	}
}
