package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// An agent is a client of "tandem mcp".
type agent struct {
	t        *testing.T
	cs       *mcp.ClientSession
	progress chan *mcp.ProgressNotificationParams
}

func newAgent(t *testing.T, transport mcp.Transport) *agent {
	t.Helper()
	a := &agent{t: t, progress: make(chan *mcp.ProgressNotificationParams, 1000)}
	client := mcp.NewClient(&mcp.Implementation{Name: "test agent", Version: "1"}, &mcp.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, req *mcp.ProgressNotificationClientRequest) { a.progress <- req.Params },
	})
	var err error
	if a.cs, err = client.Connect(t.Context(), transport, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.cs.Close() })
	return a
}

// stdioAgent starts the program as an agent host does.
func stdioAgent(t *testing.T, p *program, args ...string) (*agent, *exec.Cmd) {
	t.Helper()
	cmd := exec.Command(p.cmd.Args[0], append([]string{"mcp", "--url", p.url}, args...)...)
	stderr := new(output)
	cmd.Stderr = stderr
	a := newAgent(t, &mcp.CommandTransport{Command: cmd, TerminateDuration: deadline})
	t.Cleanup(func() {
		_ = a.cs.Close()
		if code := cmd.ProcessState.ExitCode(); code != exitOK {
			t.Errorf("tandem mcp ended with %d: %s", code, stderr)
		}
	})
	return a, cmd
}

// An mcpProgram is "tandem mcp --listen" at work.
type mcpProgram struct {
	url    string
	cmd    *exec.Cmd
	stderr *output
	exited chan struct{}
}

func startMCP(t *testing.T, p *program, env []string, args ...string) *mcpProgram {
	t.Helper()
	m := &mcpProgram{stderr: new(output), exited: make(chan struct{})}
	m.cmd = exec.Command(p.cmd.Args[0], append([]string{"mcp", "--url", p.url, "--listen", "127.0.0.1:0"}, args...)...)
	m.cmd.Env = append(os.Environ(), env...)
	m.cmd.Stderr = m.stderr
	stdout, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	m.cmd.Stdout = w
	err = m.cmd.Start()
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	go func() { defer close(m.exited); _ = m.cmd.Wait() }()
	t.Cleanup(func() { _ = m.cmd.Process.Kill(); <-m.exited; _ = stdout.Close() })
	buf := make([]byte, 200)
	n, err := stdout.Read(buf)
	url, ok := strings.CutPrefix(strings.TrimSpace(string(buf[:n])), "tandem mcp listening on ")
	if !ok {
		t.Fatalf("said %q, %v: %s", buf[:n], err, m.stderr)
	}
	m.url = url
	return m
}

func httpAgent(t *testing.T, m *mcpProgram) *agent {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return newAgent(t, &mcp.StreamableClientTransport{Endpoint: m.url, HTTPClient: &http.Client{Transport: transport}})
}

type arguments = map[string]any

// ask calls a tool and returns its answer.
func (a *agent) ask(ctx context.Context, tool string, args arguments) *mcp.CallToolResult {
	a.t.Helper()
	params := &mcp.CallToolParams{Name: tool, Arguments: args}
	params.SetProgressToken("p")
	res, err := a.cs.CallTool(ctx, params)
	if err != nil {
		a.t.Fatalf("%s %v: %v", tool, args, err)
	}
	return res
}

// do calls a tool that must succeed, and decodes its structured answer.
func do[T any](a *agent, tool string, args arguments) (out T) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), deadline)
	defer cancel()
	res := a.ask(ctx, tool, args)
	if res.IsError {
		a.t.Fatalf("%s %v: %s", tool, args, textIn(res))
	}
	data, err := json.Marshal(res.StructuredContent)
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	if err != nil {
		a.t.Fatalf("%s %v: %v in %s", tool, args, err, data)
	}
	return out
}

// refused calls a tool that must fail, and returns what it says: one sentence.
func (a *agent) refused(tool string, args arguments) string {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), deadline)
	defer cancel()
	res := a.ask(ctx, tool, args)
	text := textIn(res)
	if !res.IsError || text == "" || strings.Contains(text, "\n") {
		a.t.Errorf("%s %v: %q, want an error of one line", tool, args, text)
	}
	return text
}

func textIn(res *mcp.CallToolResult) string {
	var texts []string
	for _, c := range res.Content {
		texts = append(texts, c.(*mcp.TextContent).Text)
	}
	return strings.Join(texts, "\n")
}

func (v runView) text(streams ...string) string {
	var b strings.Builder
	for _, p := range v.Output {
		if len(streams) == 0 || p.Stream == streams[0] {
			b.WriteString(p.Text)
		}
	}
	return b.String()
}

func (a *agent) run(code string) runView {
	a.t.Helper()
	return do[runView](a, "run", arguments{"code": code})
}

// ended checks how a run ended.
func (v runView) ended(t *testing.T, code int, text string) {
	t.Helper()
	if v.State != "finished" || v.ExitCode == nil || *v.ExitCode != code || v.text() != text {
		t.Errorf("%+v, want exit code %d and %q", v, code, text)
	}
}

func TestMCP(t *testing.T) {
	t.Parallel()
	bin := buildProgram(t)
	shared := startProgram(t, bin)
	for name, test := range map[string]func(t *testing.T, p *program){
		"tools over stdio":       func(t *testing.T, p *program) { a, _ := stdioAgent(t, p); testMCPTools(t, p, a) },
		"tools over HTTP":        func(t *testing.T, p *program) { testMCPTools(t, p, httpAgent(t, startMCP(t, p, nil))) },
		"schemas":                testMCPSchemas,
		"waiting and reading on": testMCPReadOn,
		"long output":            testMCPLongOutput,
		"lost output":            testMCPLost,
		"conversation":           testMCPConversation,
		"cancel":                 testMCPCancel,
		"two agents":             testMCPTwoAgents,
		"bad arguments":          testMCPBadArguments,
		"wire of stdio":          testMCPWire,
		"end of stdio":           testMCPEnd,
		"guard of HTTP":          testMCPGuard,
		"refusals at the start":  testMCPRefusedStart,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, shared) })
	}
	t.Run("server killed", func(t *testing.T) { t.Parallel(); testMCPServerKilled(t, bin) })
}

// testMCPTools uses every tool as its description says.
func testMCPTools(t *testing.T, p *program, a *agent) {
	first := a.run("cd /tmp; x=41; echo out; exec 2>&1; (exit 3)")
	first.ended(t, 3, "out\n")
	if first.Cwd != "/tmp" || first.Reason != "exited" || first.DurationMS == nil {
		t.Errorf("%+v", first)
	}
	a.run("echo $((x + 1)) in $PWD").ended(t, 0, "42 in /tmp\n")
	if v := a.run("echo oops >&2"); v.text("stderr") != "oops\n" || v.text("stdout") != "" {
		t.Errorf("%+v", v)
	}
	v := do[runView](a, "run", arguments{"code": `cat; echo "$E in $PWD"`, "stdin": "héllo ", "env": arguments{"E": "env"}, "cwd": "/"})
	v.ended(t, 0, "héllo env in /\n")
	if v := a.run(`printf 'a\377'`); v.Output[0].Base64 != "Yf8=" || v.Output[0].Text != "a\ufffd" {
		t.Errorf("%+v", v)
	}
	do[runView](a, "run", arguments{"code": "sleep 1000", "timeout_ms": 100}).ended(t, 124, "")

	made := do[createdView](a, "create_session", arguments{"name": t.Name(), "cwd": t.TempDir(), "env": arguments{"OF": "session"}})
	on := do[runView](a, "run", arguments{"session": t.Name(), "code": `bash -c 'trap "echo one; exit 5" USR1; echo ready; while :; do :; done'`, "wait_ms": 0})
	if on.Session != made.Session || on.State == "finished" {
		t.Fatalf("%+v", on)
	}
	at := arguments{"session": made.Session, "run_id": on.RunID}
	awaitOutput(a, at, "ready\n")
	if list := do[sessionList](a, "list_sessions", nil); !holds(list.Sessions, func(s sessionView) bool {
		return s.Session == made.Session && s.Name == t.Name() && s.State == "running" && s.RunID == on.RunID && !s.Own
	}) || !holds(list.Sessions, func(s sessionView) bool { return s.Own && s.Session == first.Session && s.Name == "mcp: test agent" }) {
		t.Errorf("%+v", list)
	}
	queued := do[runView](a, "run", arguments{"session": made.Session, "code": "echo never", "wait_ms": 0})
	if text := do[doneView](a, "interrupt", arguments{"session": made.Session, "run_id": queued.RunID}); text.RunID != queued.RunID {
		t.Errorf("%+v", text)
	}
	do[doneView](a, "signal", arguments{"session": made.Session, "signal": "SIGUSR1"})
	if v := do[runView](a, "read_output", arguments{"session": made.Session, "run_id": on.RunID, "wait_ms": 30000}); *v.ExitCode != 5 || v.text() != "ready\none\n" {
		t.Errorf("%+v", v)
	}
	if runs := do[pastRuns](a, "list_runs", arguments{"session": made.Session}); len(runs.Runs) != 2 || runs.Runs[0].Reason != "canceled" || *runs.Runs[1].ExitCode != 5 {
		t.Errorf("%+v", runs)
	}
	do[doneView](a, "delete_session", arguments{"session": t.Name()})
	if text := a.refused("run", arguments{"session": made.Session, "code": "true"}); !strings.Contains(text, "CONTEXT_NOT_FOUND") {
		t.Error(text)
	}
	// Its own is deleted like any other, and the next one begins without being complained about.
	do[doneView](a, "delete_session", arguments{"session": first.Session})
	if v := a.run("echo ${x-unset}"); v.Session == first.Session || v.text() != "unset\n" {
		t.Errorf("%+v", v)
	}
}

func holds[T any](list []T, is func(T) bool) bool {
	for _, v := range list {
		if is(v) {
			return true
		}
	}
	return false
}

// awaitOutput reads a run until it has put out what is wanted.
func awaitOutput(a *agent, at arguments, want string) runView {
	a.t.Helper()
	for {
		v := do[runView](a, "read_output", at)
		if v.text() == want {
			return v
		}
		if !strings.HasPrefix(want, v.text()) || v.State == "finished" {
			a.t.Fatalf("%+v, want %q", v, want)
		}
	}
}

// testMCPSchemas: a model has nothing else to go by.
func testMCPSchemas(t *testing.T, p *program) {
	a, _ := stdioAgent(t, p)
	if a.cs.InitializeResult().Instructions == "" {
		t.Error("no instructions")
	}
	res, err := a.cs.ListTools(t.Context(), nil)
	if err != nil || len(res.Tools) != 9 {
		t.Fatalf("%d tools, %v", len(res.Tools), err)
	}
	for _, tool := range res.Tools {
		h := tool.Annotations
		if tool.Description == "" || tool.Title == "" || h == nil || h.Title == "" || h.OpenWorldHint == nil || !h.ReadOnlyHint && h.DestructiveHint == nil {
			t.Errorf("%s: title, description or hints are missing: %+v", tool.Name, h)
		}
		input, output := tool.InputSchema.(map[string]any), tool.OutputSchema.(map[string]any)
		if output["type"] != "object" {
			t.Errorf("%s: output %v", tool.Name, output)
		}
		if fmt.Sprint(input["additionalProperties"]) != "map[not:map[]]" && input["additionalProperties"] != false {
			t.Errorf("%s takes what it does not know: %v", tool.Name, input["additionalProperties"])
		}
		props, _ := input["properties"].(map[string]any)
		for name, p := range props {
			prop := p.(map[string]any)
			if _, ok := prop["type"].(string); !ok || prop["description"] == nil || prop["description"] == "" {
				t.Errorf("%s: %s has no simple type or no description: %v", tool.Name, name, prop)
			}
		}
	}
}

func testMCPReadOn(t *testing.T, p *program) {
	a, _ := stdioAgent(t, p)
	first, second := newGate(t), newGate(t)
	v := do[runView](a, "run", arguments{"code": "printf 'one\\ntwo \\303'; read <" + first + "; printf '\\251\\n'; (read <" + second + "; echo late) & exit 7", "wait_ms": 1200})
	if v.State != "running" || v.text() != "one\ntwo " || !strings.Contains(v.Note, "read_output") {
		t.Fatalf("%+v", v)
	}
	select {
	case note := <-a.progress:
		if note.ProgressToken != "p" || note.Progress <= 0 || !strings.Contains(note.Message, "9 bytes of output so far: two") {
			t.Errorf("%+v", note)
		}
	case <-time.After(deadline):
		t.Fatal("no progress was told")
	}
	at := arguments{"run_id": v.RunID, "after": v.Next}
	if v := do[runView](a, "read_output", at); v.State != "running" || v.text() != "" {
		t.Errorf("%+v", v)
	}
	openGate(t, first)
	at["wait_ms"] = 30000
	v = do[runView](a, "read_output", at)
	v.ended(t, 7, "é\n")
	openGate(t, second)
	awaitLate(a, arguments{"run_id": v.RunID, "after": v.Next})
}

// newGate makes a named pipe, which holds back what reads from it until openGate.
func newGate(t *testing.T) string {
	t.Helper()
	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Fatal(err)
	}
	return gate
}

func openGate(t *testing.T, gate string) {
	t.Helper()
	if err := os.WriteFile(gate, []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
}

// awaitLate reads what a job puts out after its run.
func awaitLate(a *agent, at arguments) {
	a.t.Helper()
	for end := time.Now().Add(deadline); ; {
		v := do[runView](a, "read_output", at)
		if v.text() == "late\n" && *v.ExitCode == 7 {
			return
		}
		if time.Now().After(end) {
			a.t.Fatalf("%+v", v)
		}
	}
}

func testMCPLongOutput(t *testing.T, p *program) {
	a, _ := stdioAgent(t, p)
	v := a.run("seq 1 200000")
	var want bytes.Buffer
	for i := range 200000 {
		fmt.Fprintln(&want, i+1)
	}
	if len(v.Output) != 3 || v.Output[1].Stream != "omitted" || len(v.text("stdout")) > keptOutput || len(v.text("stdout")) < keptOutput-200 {
		t.Fatalf("%d pieces, %d bytes", len(v.Output), len(v.text()))
	}
	got, at := v.Output[0].Text, v.Output[1].From
	for {
		part := do[runView](a, "read_output", arguments{"run_id": v.RunID, "after": at})
		if got += part.text(); !part.More {
			break
		}
		at = part.Next
	}
	if got != want.String() {
		t.Errorf("%d bytes were read on, want %d", len(got), want.Len())
	}
	if int(v.Output[1].Omitted)+len(v.text()) != want.Len() || !strings.HasSuffix(want.String(), v.Output[2].Text) {
		t.Errorf("%d omitted of %d", v.Output[1].Omitted, want.Len())
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	// The two pipes have no order between them but that of time.
	res := a.ask(ctx, "run", arguments{"code": "seq 1 200000; sleep 0.5; echo end >&2"})
	if text := textIn(res); !strings.Contains(text, "bytes are left out here: read_output with after=") || !strings.Contains(text, "<stderr>\nend\n</stderr>\n") {
		t.Errorf("%.300q", text)
	}
}

// What the server no longer keeps is not passed over in silence.
func testMCPLost(t *testing.T, p *program) {
	a, _ := stdioAgent(t, p)
	v := a.run("seq 1 2000000; echo end")
	if !strings.HasSuffix(v.text(), "2000000\nend\n") || v.Lost != 0 {
		t.Errorf("%d lost", v.Lost)
	}
	part := do[runView](a, "read_output", arguments{"run_id": v.RunID, "after": v.Output[1].From})
	if part.Lost == 0 || !part.More || part.State != "finished" {
		t.Errorf("%d lost, more %v, %s", part.Lost, part.More, part.State)
	}
}

func testMCPConversation(t *testing.T, p *program) {
	a, _ := stdioAgent(t, p)
	v := do[runView](a, "run", arguments{"code": `printf 'name? '; read -r n; echo "hello $n"; cat; echo done >&2`, "interactive": true})
	if v.State != "running" || v.text() != "name? " {
		t.Fatalf("%+v", v)
	}
	v = do[runView](a, "write_stdin", arguments{"run_id": v.RunID, "text": "Bób\n"})
	if v.State != "running" || v.text() != "hello Bób\n" {
		t.Fatalf("%+v", v)
	}
	v = do[runView](a, "write_stdin", arguments{"run_id": v.RunID, "text": "rest", "close": true, "after": v.Next})
	if v.State != "finished" || v.text("stdout") != "rest" || v.text("stderr") != "done\n" {
		t.Errorf("%+v", v)
	}
	if text := a.refused("write_stdin", arguments{"run_id": v.RunID, "text": "x"}); !strings.Contains(text, "interactive=true") {
		t.Error(text)
	}
}

// A call that is canceled interrupts its run, and the session keeps its state.
func testMCPCancel(t *testing.T, p *program) {
	a, _ := stdioAgent(t, p)
	a.run("x=kept")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	called := make(chan error, 1)
	go func() {
		params := &mcp.CallToolParams{Name: "run", Arguments: arguments{"code": "echo begun; sleep 1000; echo not reached"}}
		params.SetProgressToken("c")
		_, err := a.cs.CallTool(ctx, params)
		called <- err
	}()
	for note := range a.progress {
		if note.ProgressToken == "c" && strings.Contains(note.Message, "begun") {
			break
		}
	}
	cancel()
	if err := <-called; err == nil {
		t.Error("a canceled call succeeded")
	}
	a.run("echo $x").ended(t, 0, "kept\n") // comes to its turn
	if runs := do[pastRuns](a, "list_runs", nil); runs.Runs[1].Reason != "interrupted" || *runs.Runs[1].ExitCode != 130 {
		t.Errorf("%+v", runs.Runs[1])
	}
}

func testMCPTwoAgents(t *testing.T, p *program) {
	id := p.session()
	a, _ := stdioAgent(t, p, "--session", id)
	b, _ := stdioAgent(t, p)
	if v := a.run("shared=1; cd /usr"); v.Session != id {
		t.Errorf("%+v", v)
	}
	v := do[runView](b, "run", arguments{"session": id, "code": "echo $shared in $PWD"})
	v.ended(t, 0, "1 in /usr\n")
	// Each sees and reaches what the other does.
	do[runView](a, "read_output", arguments{"run_id": v.RunID}).ended(t, 0, "1 in /usr\n")
	on := do[runView](a, "run", arguments{"code": "sleep 1000", "wait_ms": 0})
	for do[runView](b, "read_output", arguments{"session": id, "run_id": on.RunID}).State != "running" {
	}
	do[doneView](b, "interrupt", arguments{"session": id, "run_id": on.RunID})
	do[runView](a, "read_output", arguments{"run_id": on.RunID, "wait_ms": 30000}).ended(t, 130, "")
	_ = a.cs.Close()
	if v := do[runView](b, "run", arguments{"session": id, "code": "echo $shared"}); v.text() != "1\n" {
		t.Errorf("a session that was given ended with its agent: %+v", v)
	}
}

func testMCPBadArguments(t *testing.T, p *program) {
	a, _ := stdioAgent(t, p)
	for _, tool := range []string{"read_output", "write_stdin", "interrupt", "signal", "list_runs"} {
		args := map[string]arguments{"read_output": {"run_id": "x"}, "write_stdin": {"run_id": "x", "text": "x"}, "signal": {"signal": "SIGTERM"}}[tool]
		if text := a.refused(tool, args); !strings.Contains(text, "no session of its own yet") {
			t.Errorf("%s: %s", tool, text)
		}
	}
	run := a.run("true")
	for _, c := range []struct {
		tool string
		args arguments
		want string
	}{
		{"run", arguments{}, `"code"`},
		{"run", arguments{"code": " \n"}, "code is empty"},
		{"run", arguments{"code": "x", "cmd": "x"}, `"cmd"`},
		{"run", arguments{"code": 7}, "/properties/code"},
		{"run", arguments{"code": "x", "wait_ms": -1}, "wait_ms"},
		{"run", arguments{"code": "x", "wait_ms": mostWait + 1}, "wait_ms"},
		{"run", arguments{"code": "x", "wait_ms": "soon"}, "wait_ms"},
		{"run", arguments{"code": "x", "timeout_ms": -1}, "timeout_ms"},
		{"run", arguments{"code": "x", "env": arguments{"A": 1}}, "env"},
		{"run", arguments{"code": "x", "env": arguments{"A=B": "1"}}, "A=B"},
		{"run", arguments{"code": "x", "cwd": "/no/such"}, "/no/such"},
		{"run", arguments{"code": "x", "session": "no such"}, "no such"},
		{"run", arguments{"code": "x", "stdin": "x", "interactive": true}, "interactive"},
		{"run", arguments{"code": "a\x00b"}, "NUL"},
		{"read_output", arguments{}, "run_id"},
		{"read_output", arguments{"run_id": "nope"}, "RUN_NOT_FOUND"},
		{"read_output", arguments{"run_id": run.RunID, "after": run.Next + 1000}, "beyond the end"},
		{"write_stdin", arguments{"run_id": run.RunID}, "nothing to do"},
		{"write_stdin", arguments{"run_id": run.RunID, "text": "x"}, "NO_STDIN"},
		{"interrupt", arguments{}, "RUN_NOT_RUNNING"},
		{"interrupt", arguments{"run_id": run.RunID}, "RUN_NOT_RUNNING"},
		{"signal", arguments{"signal": "SIGNOPE"}, "SIGNOPE"},
		{"create_session", arguments{"env": arguments{"": "x"}}, "INVALID"},
		{"delete_session", arguments{"session": ""}, "session is empty"},
		{"delete_session", arguments{"session": "no such"}, "no such"},
	} {
		if text := a.refused(c.tool, c.args); !strings.Contains(text, c.want) {
			t.Errorf("%s %v: %q, want %q in it", c.tool, c.args, text, c.want)
		}
	}
	if _, err := a.cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "no_such_tool"}); err == nil {
		t.Error("a tool that is not there answered")
	}
	a.run("echo still here").ended(t, 0, "still here\n")
}

// testMCPWire: standard output has nothing but the protocol, a message a line; what is none
// of it on standard input is answered as such, and ends nothing.
func testMCPWire(t *testing.T, p *program) {
	cmd := exec.CommandContext(t.Context(), p.cmd.Args[0], "mcp", "--url", p.url)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr output
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`,
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		`{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"run","arguments":{"code":"echo a; echo b"}}}`,
	} {
		_, _ = io.WriteString(in, line+"\n")
	}
	p.eventually("the answer", func() string {
		if !strings.Contains(stdout.String(), `"id":2`) {
			return "so far " + stdout.String() + stderr.String()
		}
		return ""
	})
	_, _ = io.WriteString(in, "no JSON\n"+`{"jsonrpc":"2.0","id":3,"method":"ping"}`+"\n")
	p.eventually("what comes after no JSON is answered", func() string {
		if got := stdout.String(); !strings.Contains(got, `"code":-32700`) || !strings.Contains(got, `"id":3`) {
			return "so far " + got
		}
		return ""
	})
	_ = in.Close()
	_ = cmd.Wait()
	for line := range strings.Lines(stdout.String()) {
		var m struct {
			JSONRPC string `json:"jsonrpc"`
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil || m.JSONRPC != "2.0" {
			t.Errorf("on standard output: %q", line)
		}
	}
	if got := stderr.String(); cmd.ProcessState.ExitCode() != exitOK || got != "" {
		t.Errorf("%v: %q, standard output %q", cmd.ProcessState, got, stdout.String())
	}
}

// testMCPEnd: with its input, or a signal, everything of an agent's own ends.
func testMCPEnd(t *testing.T, p *program) {
	for name, end := range map[string]func(cmd *exec.Cmd, in io.Closer){
		"input":  func(_ *exec.Cmd, in io.Closer) { _ = in.Close() },
		"signal": func(cmd *exec.Cmd, _ io.Closer) { _ = cmd.Process.Signal(syscall.SIGTERM) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(p.cmd.Args[0], "mcp", "--url", p.url)
			in, err1 := cmd.StdinPipe()
			out, err2 := cmd.StdoutPipe()
			if err := errors.Join(err1, err2, cmd.Start()); err != nil {
				t.Fatal(err)
			}
			a := newAgent(t, &mcp.IOTransport{Reader: out, Writer: in})
			v := a.run("(setsid sleep 1000 >/dev/null 2>&1 & echo $!)")
			kept := do[createdView](a, "create_session", nil)
			var child int
			if _, err := fmt.Sscan(v.text(), &child); err != nil {
				t.Fatal(err)
			}
			// A call is on when the end comes.
			on := do[runView](a, "run", arguments{"code": "echo on; sleep 1000", "wait_ms": 0})
			called := make(chan struct{})
			go func() {
				defer close(called)
				_, _ = a.cs.CallTool(context.Background(), &mcp.CallToolParams{Name: "read_output", Arguments: arguments{"run_id": on.RunID, "wait_ms": mostWait}})
			}()
			awaitOutput(a, arguments{"run_id": on.RunID}, "on\n")
			end(cmd, in)
			if err := cmd.Wait(); err != nil {
				t.Errorf("tandem mcp: %v", err)
			}
			<-called
			if status, body := request(t, "GET", p.url+"/session/"+v.Session, "", nil); status != http.StatusNotFound {
				t.Errorf("its session is still there: %s", body)
			}
			p.eventually("the end of its processes", func() string {
				if err := syscall.Kill(child, 0); err == nil {
					return "one is still there"
				}
				return ""
			})
			if status, _ := request(t, "DELETE", p.url+"/session/"+kept.Session, "", nil); status != http.StatusOK {
				t.Errorf("a created session did not stay: %d", status)
			}
		})
	}
}

// testMCPGuard: over HTTP the rules are the server's.
func testMCPGuard(t *testing.T, p *program) {
	const token = "correct-horse-battery"
	open, guarded := startMCP(t, p, nil), startMCP(t, p, []string{"TANDEM_TOKEN=" + token})
	const initialize = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`
	for name, c := range map[string]struct {
		url    string
		header http.Header
		host   string
		status int
		says   string
	}{
		"plain":        {url: open.url, status: 200},
		"origin":       {url: open.url, header: http.Header{"Origin": {"http://evil.example"}}, status: 403, says: `a page of another site (origin \"http://evil.example\") may not call this server"`},
		"fetch":        {url: open.url, header: http.Header{"Sec-Fetch-Site": {"cross-site"}}, status: 403},
		"host":         {url: open.url, host: "evil.example", status: 403, says: `not one of this server's; with a token, from --token-file or TANDEM_TOKEN, any would do"`},
		"path":         {url: strings.TrimSuffix(open.url, mcpPath) + "/", status: 404},
		"no token":     {url: guarded.url, status: 401},
		"wrong token":  {url: guarded.url, header: http.Header{"Authorization": {"Bearer x"}}, status: 401},
		"right token":  {url: guarded.url, header: http.Header{"Authorization": {"Bearer " + token}}, status: 200},
		"token, other": {url: guarded.url, header: http.Header{"Authorization": {"Bearer " + token}, "Origin": {"http://evil.example"}}, status: 403},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", c.url, strings.NewReader(initialize))
		if err != nil {
			t.Fatal(err)
		}
		if c.header != nil {
			req.Header = c.header
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Accept", "application/json, text/event-stream")
		if c.host != "" {
			req.Host = c.host
		}
		req.Close = true
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != c.status || !strings.Contains(string(body), c.says) {
			t.Errorf("%s: %d %s, want %d %s", name, res.StatusCode, body, c.status, c.says)
		}
	}
	a := httpAgent(t, open)
	own := a.run("echo x")
	_ = open.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-open.exited:
	case <-time.After(deadline):
		t.Fatal("does not end")
	}
	if code := open.cmd.ProcessState.ExitCode(); code != exitOK {
		t.Errorf("exit code %d: %s", code, open.stderr)
	}
	if status, body := request(t, "GET", p.url+"/session/"+own.Session, "", nil); status != http.StatusNotFound {
		t.Errorf("left behind: %s", body)
	}
	if out := guarded.stderr.String(); strings.Contains(out, token) || !strings.Contains(out, "status=401") {
		t.Errorf("logged: %s", out)
	}
}

func testMCPRefusedStart(t *testing.T, p *program) {
	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, []byte("view looking\ncontrol acting\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	guarded := start(t, nil, "--token-file", tokens)
	for name, c := range map[string]struct {
		args      []string
		variables map[string]string
		code      int
		want      string
	}{
		"unreachable": {[]string{"--url", "http://127.0.0.1:1"}, nil, exitLost, "http://127.0.0.1:1"},
		"no token":    {[]string{"--url", guarded.url}, nil, exitRefused, "a token is needed"},
		"wrong token": {[]string{"--url", guarded.url}, map[string]string{"TANDEM_TOKEN": "wrong"}, exitRefused, "the token is wrong"},
		"view token":  {[]string{"--url", guarded.url}, map[string]string{"TANDEM_TOKEN": "looking"}, exitRefused, "viewing"},
		"session":     {[]string{"--url", p.url, "--session", "no such"}, nil, exitRefused, "no such"},
		"both":        {[]string{"--url", p.url, "--session", "x", "--cwd", "/"}, nil, exitUsage, "--cwd"},
		"address":     {[]string{"--url", p.url, "--listen", "nowhere"}, nil, exitUsage, "--listen"},
		"everybody":   {[]string{"--url", p.url, "--listen", "0.0.0.0:0"}, nil, exitUsage, "without a token"},
		"argument":    {[]string{"x"}, nil, exitUsage, `"x"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			surroundings, stdout, stderr := surroundings(c.variables)
			if code := run(t.Context(), append([]string{"mcp"}, c.args...), surroundings); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if got := stderr.String(); strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "tandem mcp: ") || !strings.Contains(got, c.want) {
				t.Errorf("stderr: %q, want one line with %q", got, c.want)
			}
			if stdout.String() != "" {
				t.Errorf("stdout: %q", stdout)
			}
		})
	}
}

// testMCPServerKilled: while the server is away calls fail and say so; when it is back, an
// agent is told once that its session is not.
func testMCPServerKilled(t *testing.T, bin string) {
	p := startProgram(t, bin)
	a, _ := stdioAgent(t, p)
	a.run("x=1; cd /tmp")
	p.signal(syscall.SIGKILL)
	p.ended(deadline)
	for _, tool := range []string{"run", "list_sessions"} {
		args := map[string]arguments{"run": {"code": "echo x"}}[tool]
		if text := a.refused(tool, args); !strings.Contains(text, p.url) || !strings.Contains(text, "connection refused") {
			t.Errorf("%s: %s", tool, text)
		}
	}
	startProgramOn(t, strings.TrimPrefix(p.url, "http://"), bin)
	if text := a.refused("run", arguments{"code": "echo x"}); !strings.Contains(text, "begins in a new one") {
		t.Error(text)
	}
	a.run("echo ${x-new}").ended(t, 0, "new\n")
}
