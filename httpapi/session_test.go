package httpapi_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"tandem/httpapi"
	"tandem/sessions"
)

func TestSessions(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	dir := filepath.Join(t.TempDir(), "made", "here")
	var made struct {
		SessionID string `json:"session_id"`
	}
	a := d.do("POST", "/session", body("cwd", dir, "name", "one", "env", map[string]string{"A": "b"}, "other", 1), "Content-Type", "text/plain")
	a.decode(t, &made)
	if a.status != 200 || made.SessionID == "" {
		t.Fatalf("create: %d %s", a.status, a.body)
	}
	path := "/session/" + made.SessionID
	if out := d.run(path, `echo "$PWD $A"`).stdout.String(); out != dir+" b\n" {
		t.Errorf("session runs in %q", out)
	}
	d.session()

	type view struct {
		ID, Name, State, Cwd string
		CreatedAt            int64 `json:"created_at"`
		ActiveAt             int64 `json:"active_at"`
		Clients, Queued      *int
		Run                  *struct {
			RunID     string `json:"run_id"`
			Code, By  string
			StartedAt int64 `json:"started_at"`
		}
	}
	var list struct{ Sessions []view }
	d.do("GET", "/session", "").decode(t, &list)
	if len(list.Sessions) != 2 || list.Sessions[0].ID != made.SessionID {
		t.Errorf("list %+v", list)
	}
	a = d.do("PATCH", path, body("name", "two"))
	var v view
	a.decode(t, &v)
	if a.status != 200 || v.Name != "two" || v.State != "idle" || v.Cwd != dir || v.CreatedAt == 0 || v.ActiveAt < v.CreatedAt || v.Clients == nil || v.Queued == nil || v.Run != nil {
		t.Errorf("renamed: %s", a.body)
	}

	a = d.do("DELETE", path, "")
	if a.status != 200 || len(a.body) != 0 || a.header.Get("Content-Length") != "0" {
		t.Errorf("delete: %d %q %v", a.status, a.body, a.header)
	}
	if a := d.do("GET", path, ""); a.status != 404 {
		t.Errorf("after delete: %d", a.status)
	}
}

func TestRunningSession(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	path, _ := d.session()
	g := newGate(t)
	s := d.stream("POST", path+"/run", body("code", "echo on; "+g.wait(), "run_id", "r"))
	s.until("stdout")
	d.do("POST", path+"/run", body("code", "true", "detach", true))
	var v struct {
		State  string
		Queued int
		Run    struct {
			RunID     string `json:"run_id"`
			Code, By  string
			StartedAt int64 `json:"started_at"`
		}
	}
	d.do("GET", path, "").decode(t, &v)
	if v.State != "running" || v.Queued != 1 || v.Run.RunID != "r" || v.Run.By != "rest" || v.Run.StartedAt == 0 || !strings.HasPrefix(v.Run.Code, "echo on") {
		t.Errorf("%+v", v)
	}
	g.open()
	s.rest()
}

func TestInterruptAndSignal(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{})
	path, id := d.session()
	// What says that it is on is what is to be interrupted.
	const sleeper = "bash -c 'echo on; exec sleep 60'"
	for _, c := range []struct {
		method, path, body, code, ename, evalue string
	}{
		{"POST", path + "/interrupt", "", sleeper, "CommandInterrupted", "130"},
		{"POST", path + "/interrupt", `{"run_id":"RUN"}`, sleeper, "CommandInterrupted", "130"},
		{"POST", path + "/interrupt", `{"force":true}`, sleeper, "CommandInterrupted", "130"},
		{"DELETE", "/command?id=" + id, "", sleeper, "CommandInterrupted", "130"},
		{"POST", path + "/signal", `{"signal":"SIGTERM"}`, sleeper + "; exit 9", "CommandExecError", "9"},
	} {
		s := d.stream("POST", path+"/run", body("code", c.code))
		run := s.until("init").RunID
		s.until("stdout")
		if a := d.do(c.method, c.path, strings.ReplaceAll(c.body, "RUN", run)); a.status != 200 {
			t.Errorf("%s %s: %d %s", c.method, c.path, a.status, a.body)
		}
		if end := s.rest().end; end.Error.EName != c.ename || end.Error.EValue != c.evalue {
			t.Errorf("%s %s %s: ended as %s", c.method, c.path, c.body, end.data)
		}
	}
	if a := d.do("DELETE", "/command?id="+id, ""); a.status != 200 || len(a.body) != 0 {
		t.Errorf("idle: %d %s", a.status, a.body)
	}
	if a := d.do("GET", path, ""); a.status != 200 {
		t.Errorf("the session is gone: %d", a.status)
	}
}

func TestStoppingServer(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{Ready: func() bool { return false }})
	if err := d.manager.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if a := d.do("POST", "/session", ""); a.status != 503 {
		t.Errorf("create: %d %s", a.status, a.body)
	}
}
