package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// fetched returns the schemas of a document as the program serves it, and what compiles them.
func fetched(t *testing.T, s *started, path string) (schemas map[string]any, c *jsonschema.Compiler) {
	t.Helper()
	status, text := request(t, "GET", s.url+path, "", nil)
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if status != http.StatusOK || err != nil {
		t.Fatalf("%s: %d %v", path, status, err)
	}
	c = jsonschema.NewCompiler()
	if err := c.AddResource("doc.json", v); err != nil {
		t.Fatal(err)
	}
	return v.(map[string]any)["components"].(map[string]any)["schemas"].(map[string]any), c
}

// TestDocumentsAgree: the journal is told over both doors in the same words, so both
// documents describe it alike; and a real journal is as they say.
func TestDocumentsAgree(t *testing.T) {
	t.Parallel()
	s := start(t, nil, "--retention", "512KiB")
	rest, restSchemas := fetched(t, s, "/openapi.json")
	sockets, socketSchemas := fetched(t, s, "/asyncapi.json")
	shared := []string{"Attached", "RunStarted", "RunFinished", "Stdout", "Stderr", "ShellRestarted", "Gap", "SessionClosed", "RunningRun", "RunID", "Reason"}
	for _, name := range shared {
		if rest[name] == nil || !reflect.DeepEqual(rest[name], sockets[name]) {
			t.Errorf("%s is not the same in both documents", name)
		}
	}
	event := restSchemas.MustCompile("doc.json#/components/schemas/JournalEvent")
	message := func(typ string) *jsonschema.Schema {
		for _, name := range shared {
			schema := sockets[name].(map[string]any)
			if properties, ok := schema["properties"].(map[string]any); ok && properties["type"] != nil && properties["type"].(map[string]any)["const"] == typ {
				return socketSchemas.MustCompile("doc.json#/components/schemas/" + name)
			}
		}
		return nil
	}
	seen := map[string]bool{}
	for _, data := range journal(t, s) {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(data))
		if err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		typ := v.(map[string]any)["type"].(string)
		seen[typ] = true
		if err := event.Validate(v); err != nil {
			t.Errorf("%s: openapi.json: %v", data, err)
		}
		if m := message(typ); m == nil || m.Validate(v) != nil {
			t.Errorf("%s: asyncapi.json does not allow it", data)
		}
	}
	for _, typ := range []string{"attached", "run.started", "stdout", "stderr", "run.finished", "shell.restarted", "session.closed", "gap"} {
		if !seen[typ] {
			t.Errorf("the journal has no %s", typ)
		}
	}
}

// journal returns what was told of a session's life: all of it, and then from a position that
// is no longer kept on.
func journal(t *testing.T, s *started) (events []string) {
	t.Helper()
	var made struct {
		ID string `json:"session_id"`
	}
	if _, text := request(t, "POST", s.url+"/session", "", nil); json.Unmarshal([]byte(text), &made) != nil {
		t.Fatalf("create: %s", text)
	}
	session := s.url + "/session/" + made.ID
	run := func(code string) {
		body, err := json.Marshal(map[string]string{"code": code})
		if err != nil {
			t.Fatal(err)
		}
		if status, text := request(t, "POST", session+"/run", string(body), nil); status != http.StatusOK {
			t.Fatalf("run: %d %s", status, text)
		}
	}
	follow := func(until string, meanwhile func()) {
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "GET", session+"/events?after=0", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		meanwhile()
		lines := bufio.NewScanner(res.Body)
		lines.Buffer(nil, 4<<20)
		for lines.Scan() {
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			if ok {
				events = append(events, data)
			}
			if ok && strings.Contains(data, until) {
				return
			}
		}
		t.Fatalf("the stream ended without %s: %v", until, lines.Err())
	}
	run(`echo out; echo err >&2; printf '\xff'; exit 3`)
	follow(`"shell.restarted"`, func() {})
	run(`yes | head -c 2000000`)
	follow(`"session.closed"`, func() {
		if status, text := request(t, "DELETE", session, "", nil); status != http.StatusOK {
			t.Errorf("delete: %d %s", status, text)
		}
	})
	return events
}

// TestDocsPage: it comes without a token, as a page has to, and the documents do not.
func TestDocsPage(t *testing.T) {
	t.Parallel()
	s := start(t, map[string]string{"TANDEM_TOKEN": "correct-horse-battery"})
	for path, want := range map[string]int{"/docs": 200, "/openapi.json": 401, "/asyncapi.json": 401} {
		if status, body := request(t, "GET", s.url+path, "", nil); status != want {
			t.Errorf("%s: %d %.200s, want %d", path, status, body, want)
		}
	}
}
