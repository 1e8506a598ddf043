package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"tandem/ws"
)

// A scrape is what /metrics answered, by name.
type scrape map[string]*dto.MetricFamily

func scrapeOf(t *testing.T, url string, header http.Header) scrape {
	t.Helper()
	status, body := request(t, "GET", url+"/metrics", "", header)
	if status != http.StatusOK {
		t.Fatalf("/metrics: %d %s", status, body)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatalf("/metrics: %v\n%s", err, body)
	}
	return families
}

// value is that of a counter or gauge, or of how many are in a histogram. Labels are names
// and values in turn.
func (s scrape) value(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	want := map[string]string{}
	for i := 0; i < len(labels); i += 2 {
		want[labels[i]] = labels[i+1]
	}
	for _, m := range s[name].GetMetric() {
		found := map[string]string{}
		for _, l := range m.GetLabel() {
			found[l.GetName()] = l.GetValue()
		}
		if fmt.Sprint(found) == fmt.Sprint(want) {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	t.Errorf("%s%v is not there", name, labels)
	return -1
}

// expect compares values, each named as `name` or `name label value`.
func (s scrape) expect(t *testing.T, want map[string]float64) {
	t.Helper()
	for what, n := range want {
		words := strings.Fields(what)
		if got := s.value(t, "tandem_"+words[0], words[1:]...); got != n {
			t.Errorf("%s: %v, want %v", what, got, n)
		}
	}
}

func (p *program) scrape() scrape {
	p.t.Helper()
	return scrapeOf(p.t, p.url, nil)
}

// do posts a run and returns its answer, once it has ended.
func (p *program) do(id string, fields map[string]any) (answer struct {
	RunID, Reason string
	ExitCode      *int `json:"exit_code"`
}) {
	p.t.Helper()
	body, err := json.Marshal(fields)
	if err != nil {
		p.t.Fatal(err)
	}
	_, got := request(p.t, "POST", p.url+"/session/"+id+"/run", string(body), http.Header{"Accept": {"application/json"}})
	if err := json.Unmarshal([]byte(got), &answer); err != nil {
		p.t.Fatalf("%v: %s", err, got)
	}
	return answer
}

// must makes a request that is to be answered with 200.
func (p *program) must(method, path, body string) string {
	p.t.Helper()
	status, got := request(p.t, method, p.url+path, body, nil)
	if status/100 != 2 {
		p.t.Fatalf("%s %s: %d %s", method, path, status, got)
	}
	return got
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	p := startProgram(t, "env", "TANDEM_RETENTION=512KiB", "TANDEM_STALL_TIMEOUT=1s", buildProgram(t))
	p.scrape().expect(t, map[string]float64{"sessions state idle": 0, "runs_total reason exited": 0, "gaps_total": 0, "clients door ws role view": 0})
	testRunMetrics(t, p)
	testStopMetrics(t, p)
	testReaderMetrics(t, p)
	testGapMetrics(t, p)

	all := p.scrape()
	var families []*dto.MetricFamily
	for name, f := range all {
		if strings.HasPrefix(name, "tandem_") {
			families = append(families, f)
		}
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
	checkDashboard(t, all)
}

// Ends that runs come to by themselves, and every byte.
func testRunMetrics(t *testing.T, p *program) {
	id := p.session()
	p.do(id, map[string]any{"code": "printf %1000s; printf %500s >&2; cat >/dev/null; false", "stdin": strings.Repeat("x", 300)})
	p.do(id, map[string]any{"code": "exit 3"})
	p.do(id, map[string]any{"code": "exec true"})
	p.do(id, map[string]any{"code": "kill -9 $$"})
	p.do(id, map[string]any{"code": "true", "cwd": "/nowhere/at/all"})
	p.do(id, map[string]any{"code": "true"}) // the shells are there again
	p.scrape().expect(t, map[string]float64{
		"runs_total reason exited": 4, "runs_total reason shell_exited": 1, "runs_total reason refused": 1,
		"run_duration_seconds": 5, "run_queue_seconds": 6,
		"output_bytes_total stream stdout": 1000, "output_bytes_total stream stderr": 500, "input_bytes_total": 300,
		"shell_restarts_total cause exit": 1, "shell_restarts_total cause exec": 1, "shell_restarts_total cause signal": 1,
		"sessions_created_total": 1, "sessions state idle": 1, "sessions state running": 0,
	})
	p.must("DELETE", "/session/"+id, "")
	p.scrape().expect(t, map[string]float64{"sessions_ended_total reason deleted": 1, "sessions state idle": 0})
}

// Ends that runs are brought to.
func testStopMetrics(t *testing.T, p *program) {
	id := p.session()
	p.do(id, map[string]any{"code": "sleep 60", "timeout_ms": 50})
	p.scrape().expect(t, map[string]float64{"runs_total reason timed_out": 1, "run_stop_steps_total step int": 1, "run_stop_steps_total step term": 0})
	_, end := p.run(id, "echo on; sleep 60")
	p.must("POST", "/session/"+id+"/interrupt", "{}")
	end()
	p.scrape().expect(t, map[string]float64{"runs_total reason interrupted": 1, "run_stop_steps_total step int": 2})
	_, end = p.run(id, "trap '' INT TERM; echo on; while :; do :; done")
	p.must("POST", "/session/"+id+"/run", `{"code":"true","run_id":"next","detach":true}`)
	p.scrape().expect(t, map[string]float64{"queued_runs": 1, "sessions state running": 1, "clients door rest role control": 1})
	p.must("DELETE", "/session/"+id+"/run/next", "")
	p.scrape().expect(t, map[string]float64{"queued_runs": 0, "runs_total reason canceled": 1})
	p.must("POST", "/session/"+id+"/interrupt", `{"force":true}`)
	end()
	p.scrape().expect(t, map[string]float64{
		"runs_total reason interrupted": 2, "run_stop_steps_total step int": 3, "run_stop_steps_total step term": 1,
		"run_stop_steps_total step kill": 1, "run_stop_steps_total step shell": 1,
	})
	_, end = p.run(id, "echo on; sleep 60")
	p.must("DELETE", "/session/"+id, "")
	end()
	p.scrape().expect(t, map[string]float64{"runs_total reason session_closed": 1})
}

// Who is there, and what they say.
func testReaderMetrics(t *testing.T, p *program) {
	id := p.session()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	c, err := ws.Dial(ctx, "ws"+strings.TrimPrefix(p.url, "http")+"/session/"+id+"/ws", &ws.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	if err := c.Ping(ctx, ""); err != nil {
		t.Fatal(err)
	}
	if m, err := c.Next(ctx); err != nil || m.Type != ws.TypePong {
		t.Fatalf("%+v, %v: want a pong", m, err)
	}
	events := p.raw("GET /session/" + id + "/events HTTP/1.1")
	until(t, events, `"attached"`)
	p.eventually("messages", func() string { // a message is counted when it has been written
		s := p.scrape()
		got := fmt.Sprint(s.value(t, "tandem_websocket_messages_total", "direction", "received"), s.value(t, "tandem_websocket_messages_total", "direction", "sent"))
		if got != "1 2" {
			return got
		}
		return ""
	})
	p.scrape().expect(t, map[string]float64{"clients door ws role control": 1, "clients door ws role view": 0, "clients door rest role view": 1, "clients door rest role control": 0})
	p.eventually("connections", func() string { // those of earlier requests close by themselves
		if n := p.scrape().value(t, "tandem_connections"); n != 3 {
			return fmt.Sprint(n)
		}
		return ""
	})
	_ = events.Close()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	p.eventually("clients that have gone", func() string {
		s := p.scrape()
		if n := s.value(t, "tandem_clients", "door", "ws", "role", "control") + s.value(t, "tandem_clients", "door", "rest", "role", "view"); n != 0 {
			return fmt.Sprint(n)
		}
		if n := len(s["tandem_http_requests_total"].GetMetric()); n < 8 {
			return fmt.Sprint("routes: ", n)
		}
		return ""
	})
	s := p.scrape()
	s.expect(t, map[string]float64{
		"http_requests_total method GET route /session/{id}/events code 2xx": 1,
		"http_requests_total method GET route /session/{id}/ws code 1xx":     1,
		"http_requests_total method DELETE route /session/{id} code 2xx":     2,
		"http_requests_total method POST route /session code 2xx":            3,
	})
}

// What is lost to those who do not read.
func testGapMetrics(t *testing.T, p *program) {
	id := p.session()
	stuck := p.raw("POST /session/"+id+"/run HTTP/1.1", "Content-Length: 39", "", `{"code":"head -c 64000000 /dev/zero" } `)
	defer func() { _ = stuck.Close() }()
	p.eventually("a reader that is cut off", func() string {
		if n := p.scrape().value(t, "tandem_stalled_readers_total"); n != 1 {
			return fmt.Sprint(n)
		}
		return ""
	})
	p.must("POST", "/session/"+id+"/run", `{"code":"true","run_id":"next","detach":true}`) // has its turn when the other has ended
	if got := p.must("GET", "/session/"+id+"/run/next?wait=60000", ""); !strings.Contains(got, `"finished"`) {
		t.Fatalf("the command whose reader was cut off does not end: %s", got)
	}
	p.scrape().expect(t, map[string]float64{"gaps_total": 0, "gap_positions_total": 0})
	events := p.raw("GET /session/" + id + "/events?after=0 HTTP/1.1")
	defer func() { _ = events.Close() }()
	line := until(t, events, `"gap"`)
	var gap struct{ From, To float64 }
	if _, data, ok := strings.Cut(line, "data: "); !ok || json.Unmarshal([]byte(data), &gap) != nil || gap.To <= gap.From {
		t.Fatalf("a gap: %s", line)
	}
	s := p.scrape()
	s.expect(t, map[string]float64{"gaps_total": 1, "gap_positions_total": gap.To - gap.From})
	if kept := s.value(t, "tandem_journal_bytes"); kept < 100<<10 || kept > 1<<20 {
		t.Errorf("journals take %v", kept)
	}
}

// raw sends a request line by line, as no client would, and leaves the answer unread.
func (p *program) raw(lines ...string) net.Conn {
	p.t.Helper()
	nc, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = nc.Close() })
	head := lines[0] + "\r\nHost: 127.0.0.1\r\n"
	rest := strings.Join(lines[1:], "\r\n")
	if len(lines) == 1 {
		rest = "\r\n"
	}
	if _, err := io.WriteString(nc, head+rest); err != nil {
		p.t.Fatal(err)
	}
	return nc
}

// until returns the first line of an answer that has text in it.
func until(t *testing.T, r io.Reader, text string) string {
	t.Helper()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 8<<20)
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return lines.Text()
		}
	}
	t.Fatalf("no %s: %v", text, lines.Err())
	return ""
}

// checkDashboard compares the dashboard with what there is: it is to show all of it and
// nothing else.
func checkDashboard(t *testing.T, all scrape) {
	t.Helper()
	b, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Title      string
		Templating struct{ List []struct{ Name, Type string } }
		Panels     []struct {
			Type, Title string
			Targets     []struct {
				Expr       string
				Datasource struct{ UID string }
			}
		}
	}
	if err := json.Unmarshal(b, &board); err != nil {
		t.Fatal(err)
	}
	if v := board.Templating.List; len(v) != 3 || v[0].Name != "datasource" || v[0].Type != "datasource" || board.Title != "tandem" {
		t.Errorf("the dashboard's variables: %+v", v)
	}
	shown := map[string]bool{}
	name := regexp.MustCompile(`\b(tandem|process|go)_[a-z_]+`)
	for _, panel := range board.Panels {
		if panel.Type != "row" && len(panel.Targets) == 0 {
			t.Errorf("panel %q shows nothing", panel.Title)
		}
		for _, target := range panel.Targets {
			found := name.FindAllString(target.Expr, -1)
			if len(found) == 0 || target.Datasource.UID != "${datasource}" {
				t.Errorf("panel %q: %+v", panel.Title, target)
			}
			for _, n := range found {
				if all[n] == nil { // of a histogram
					n = regexp.MustCompile("_(bucket|sum|count)$").ReplaceAllString(n, "")
				}
				if all[n] == nil {
					t.Errorf("panel %q shows %s, which is not there", panel.Title, n)
				}
				shown[n] = true
			}
		}
	}
	for n := range all {
		if strings.HasPrefix(n, "tandem_") && !shown[n] {
			t.Errorf("%s is on no panel", n)
		}
	}
}

func TestMetricsNeedAToken(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("control boss-of-it-all\nview guest-of-it-all\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, nil, "--token-file", file)
	if status, body := request(t, "GET", s.url+"/metrics", "", nil); status != http.StatusUnauthorized {
		t.Errorf("without a token: %d %s", status, body)
	}
	for _, token := range []string{"boss-of-it-all", "guest-of-it-all"} {
		all := scrapeOf(t, s.url, http.Header{"Authorization": {"Bearer " + token}})
		all.expect(t, map[string]float64{"build_info go_version " + runtime.Version() + " version " + version(): 1})
		for _, name := range []string{"go_goroutines", "process_open_fds"} {
			if all[name] == nil {
				t.Errorf("%s is not there", name)
			}
		}
	}
}
