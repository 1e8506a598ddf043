package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"tandem/ws"
)

// A fakeCollector keeps what it is sent.
type fakeCollector struct {
	*httptest.Server
	mu    sync.Mutex
	all   []*spans.Span
	from  map[string]string // of the resource
	raw   bytes.Buffer
	wrong []string
}

func newCollector(t *testing.T) *fakeCollector {
	c := &fakeCollector{from: map[string]string{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var req collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &req)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("X-Key") != "a b" || r.Header.Get("Content-Type") != "application/x-protobuf" {
			c.wrong = append(c.wrong, fmt.Sprint(r.Method, r.URL, r.Header, err))
		}
		c.raw.Write(body)
		for _, from := range req.ResourceSpans {
			for _, a := range from.Resource.Attributes {
				c.from[a.Key] = a.Value.GetStringValue()
			}
			for _, scope := range from.ScopeSpans {
				c.all = append(c.all, scope.Spans...)
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

// run finds the span of a run, and those in it by name.
func (c *fakeCollector) run(t *testing.T, runID string) (of *spans.Span, parts map[string]*spans.Span) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.all {
		if s.Name == "run" && attributes(s.Attributes)["tandem.run.id"] == runID {
			of = s
		}
	}
	if of == nil {
		t.Fatalf("there is no span of run %s among %d", runID, len(c.all))
	}
	parts = map[string]*spans.Span{}
	for _, s := range c.all {
		if bytes.Equal(s.ParentSpanId, of.SpanId) && bytes.Equal(s.TraceId, of.TraceId) {
			parts[s.Name] = s
		}
	}
	return of, parts
}

func attributes(list []*common.KeyValue) map[string]string {
	all := map[string]string{}
	for _, a := range list {
		switch v := a.Value.Value.(type) {
		case *common.AnyValue_IntValue:
			all[a.Key] = fmt.Sprint(v.IntValue)
		case *common.AnyValue_StringValue:
			all[a.Key] = v.StringValue
		}
	}
	return all
}

// inOrder fails where a part of a run is not inside of it, or lasts less than nothing.
func inOrder(t *testing.T, of *spans.Span, parts map[string]*spans.Span) {
	t.Helper()
	at := of.StartTimeUnixNano
	for _, name := range []string{"queue", "execution"} {
		if s := parts[name]; s != nil {
			if s.StartTimeUnixNano != at || s.EndTimeUnixNano < at {
				t.Errorf("%s is from %d to %d, want from %d", name, s.StartTimeUnixNano, s.EndTimeUnixNano, at)
			}
			at = s.EndTimeUnixNano
		}
	}
	if at != of.EndTimeUnixNano {
		t.Errorf("the run ends at %d, its last part at %d", of.EndTimeUnixNano, at)
	}
	for _, e := range of.Events {
		if e.TimeUnixNano < of.StartTimeUnixNano || e.TimeUnixNano > of.EndTimeUnixNano {
			t.Errorf("%s is not in the run", e.Name)
		}
	}
}

func TestTraces(t *testing.T) {
	t.Parallel()
	bin := buildProgram(t)
	for name, test := range map[string]func(t *testing.T, bin string){
		"spans":                 testSpans,
		"collector not there":   testNoCollector,
		"collector that hangs":  testHangingCollector,
		"ready until it drains": testReadiness,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, bin)
		})
	}
}

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	askerID = "b7ad6b7169203331"
)

// The batches are so slow here that what comes, comes because the server ends.
func testSpans(t *testing.T, bin string) {
	c := newCollector(t)
	p := startProgram(t, "env", "OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL, "OTEL_EXPORTER_OTLP_HEADERS=x-key=a%20b", "OTEL_BSP_SCHEDULE_DELAY=3600000",
		"OTEL_RESOURCE_ATTRIBUTES=deployment.environment=test", bin)
	id := p.session()
	header := http.Header{"Accept": {"application/json"}, "Traceparent": {"00-" + traceID + "-" + askerID + "-01"}}
	post := func(header http.Header, body string) string {
		_, got := request(t, "POST", p.url+"/session/"+id+"/run", body, header)
		return got
	}
	if got := post(header, `{"run_id":"good","code":"echo hi; echo oh no >&2; cat >/dev/null; ! env | grep OTEL","stdin":"abc"}`); !strings.Contains(got, `"stdout":"hi\n"`) {
		t.Errorf("something of OpenTelemetry is in the environment of a run: %s", got)
	}
	plain := http.Header{"Accept": {"application/json"}}
	post(plain, `{"run_id":"bad","code":"SECRET=hush; exit 3"}`)
	post(plain, `{"run_id":"late","code":"sleep 60","timeout_ms":50}`)
	post(http.Header{"Accept": {"application/json"}, "Traceparent": {"00-" + traceID + "-" + askerID + "-00"}}, `{"run_id":"unsampled","code":"true"}`)
	overSocket(t, p, id)
	_, _ = p.run(id, "echo on; sleep 60")
	post(plain, `{"run_id":"never","code":"true","detach":true}`)
	p.signal(syscall.SIGTERM)
	if code := p.ended(10 * time.Second); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if len(c.wrong) > 0 || strings.Contains(c.raw.String(), "hush") {
		t.Errorf("requests %v; whether a secret is in them: %v", c.wrong, strings.Contains(c.raw.String(), "hush"))
	}
	if c.from["service.name"] != "tandem" || c.from["deployment.environment"] != "test" {
		t.Errorf("from %v", c.from)
	}
	for _, s := range c.all {
		if attributes(s.Attributes)["tandem.run.id"] == "unsampled" {
			t.Error("a run is there whose asker did not want it")
		}
	}
	for _, want := range []struct {
		run, parent, attributes, events, status string
		parts                                   int
	}{
		{"good", askerID, "by=rest reason=exited exit=0 stdout=3 stderr=6 stdin=3", "", "", 2},
		{"bad", "", "by=rest reason=exited exit=3 stdout=0 stderr=0 stdin=0", "shell ended exit", "exit code 3", 2},
		{"late", "", "by=rest reason=timed_out exit=124 stdout=0 stderr=0 stdin=0", "stop int", "timed_out", 2},
		{"socket", askerID, "by=ws reason=exited exit=0 stdout=2 stderr=0 stdin=0", "", "", 2},
		{"never", "", "by=rest reason=session_closed exit= stdout=0 stderr=0 stdin=0", "", "session_closed", 1},
	} {
		s, parts := c.run(t, want.run)
		a := attributes(s.Attributes)
		got := fmt.Sprintf("by=%s reason=%s exit=%s stdout=%s stderr=%s stdin=%s", a["tandem.run.by"], a["tandem.run.reason"], a["process.exit.code"],
			a["tandem.run.stdout_bytes"], a["tandem.run.stderr_bytes"], a["tandem.run.stdin_bytes"])
		var events []string
		for _, e := range s.Events {
			of := attributes(e.Attributes)
			events = append(events, e.Name+" "+of["tandem.stop.step"]+of["tandem.shell.cause"])
		}
		if got != want.attributes || a["tandem.session.id"] != id || strings.Join(events, ", ") != want.events {
			t.Errorf("%s: %s, events %q; want %s, %q", want.run, got, events, want.attributes, want.events)
		}
		if hex.EncodeToString(s.ParentSpanId) != want.parent || (hex.EncodeToString(s.TraceId) == traceID) != (want.parent != "") {
			t.Errorf("%s: parent %x in %x, want %s", want.run, s.ParentSpanId, s.TraceId, want.parent)
		}
		if (s.Status.GetCode() == spans.Status_STATUS_CODE_ERROR) != (want.status != "") || s.Status.GetMessage() != want.status || len(parts) != want.parts {
			t.Errorf("%s: %v, %d parts; want %q, %d", want.run, s.Status, len(parts), want.status, want.parts)
		}
		inOrder(t, s, parts)
	}
}

// overSocket runs something on a connection that belongs to a trace.
func overSocket(t *testing.T, p *program, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	c, err := ws.Dial(ctx, "ws"+strings.TrimPrefix(p.url, "http")+"/session/"+id+"/ws", &ws.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, Header: http.Header{"Traceparent": {"00-" + traceID + "-" + askerID + "-01"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	if err := c.Run(ctx, ws.Run{ID: "socket", Code: "echo x"}); err != nil {
		t.Fatal(err)
	}
	for {
		if m, err := c.Next(ctx); err != nil || m.Type == ws.TypeRunFinished {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
	}
}

// twenty runs what must not notice that there is no collector.
func twenty(t *testing.T, p *program) {
	t.Helper()
	id := p.session()
	for range 20 {
		if a := p.do(id, map[string]any{"code": "true"}); a.Reason != "exited" {
			t.Errorf("%+v", a)
		}
	}
	p.signal(syscall.SIGTERM)
	if code := p.ended(10 * time.Second); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if n := strings.Count(p.stderr.String(), "traces could not be handed over"); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
	p.nothingIsLeft()
}

func testNoCollector(t *testing.T, bin string) {
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := nobody.Addr().String()
	_ = nobody.Close()
	twenty(t, startProgram(t, "env", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://"+addr+"/v1/traces", "OTEL_BSP_SCHEDULE_DELAY=1", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=1", bin))
}

func testHangingCollector(t *testing.T, bin string) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // which nobody accepts from
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	twenty(t, startProgram(t, "env", "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+silent.Addr().String(), "OTEL_BSP_SCHEDULE_DELAY=1", bin))
}

func TestTracesWanted(t *testing.T) {
	t.Parallel()
	const endpoint, address = "OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318"
	for _, c := range []struct {
		variables map[string]string
		wanted    bool
		fault     string // something that must be in it
	}{
		{nil, false, ""},
		{map[string]string{endpoint: ""}, false, ""},
		{map[string]string{endpoint: address}, true, ""},
		{map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": address + "/x"}, true, ""},
		{map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, true, ""},
		{map[string]string{endpoint: address, "OTEL_TRACES_EXPORTER": "none"}, false, ""},
		{map[string]string{endpoint: address, "OTEL_SDK_DISABLED": "TRUE"}, false, ""},
		{map[string]string{endpoint: address, "OTEL_SDK_DISABLED": "false"}, true, ""},
		{map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, false, ""},
		{map[string]string{endpoint: address, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, false, "http/protobuf"},
		{map[string]string{endpoint: address, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}, true, ""},
		{map[string]string{endpoint: address, "OTEL_TRACES_EXPORTER": "zipkin"}, false, "zipkin"},
		{map[string]string{endpoint: "127.0.0.1:4318"}, false, endpoint},
		{map[string]string{endpoint: "ftp://127.0.0.1"}, false, endpoint},
		{map[string]string{endpoint: address, "OTEL_EXPORTER_OTLP_HEADERS": "a=b, c=%20d"}, true, ""},
		{map[string]string{endpoint: address, "OTEL_EXPORTER_OTLP_HEADERS": "hush-hush"}, false, "OTEL_EXPORTER_OTLP_HEADERS"},
		{map[string]string{endpoint: address, "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "a=hush%zz"}, false, "OTEL_EXPORTER_OTLP_TRACES_HEADERS"},
	} {
		v := otelVariables{func(name string) (string, bool) { value, set := c.variables[name]; return value, set }}
		wanted, err := v.wantTraces()
		if wanted != c.wanted || (err != nil) != (c.fault != "") {
			t.Errorf("%v: %v, %v", c.variables, wanted, err)
		}
		if err != nil && (!strings.Contains(err.Error(), c.fault) || strings.Contains(err.Error(), "hush")) {
			t.Errorf("%v: %v, want something with %q and no header", c.variables, err, c.fault)
		}
	}
	for names, fine := range map[string]bool{"": true, "none": true, "b3,tracecontext": true, "carrier-pigeon": false} {
		v := otelVariables{func(name string) (string, bool) { return names, true }}
		if _, err := v.propagator(); (err == nil) != fine {
			t.Errorf("propagators %q: %v", names, err)
		}
	}
	p, _, stderr := surroundings(map[string]string{endpoint: address, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
	p.listen = openListener
	if code := run(t.Context(), []string{"serve", "--listen", "127.0.0.1:0"}, p); code != exitUsage || !strings.Contains(stderr.String(), "OTEL_EXPORTER_OTLP_PROTOCOL") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}
