package ws

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// requestSchemas returns what the document says of the text messages of clients, by type.
func requestSchemas(t *testing.T) map[string]*jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(AsyncAPI()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7) // as AsyncAPI has it
	if err := c.AddResource("asyncapi.json", doc); err != nil {
		t.Fatal(err)
	}
	all := map[string]*jsonschema.Schema{}
	for typ, name := range map[string]string{
		typeRun: "Run", typeStdin: "Stdin", typeStdinClose: "StdinClose", typeInterrupt: "Interrupt", typeSignal: "Signal",
		typeCancel: "Cancel", typeComplete: "Complete", typeAck: "Ack", typePing: "Ping",
	} {
		if all[typ], err = c.Compile("asyncapi.json#/components/schemas/" + name); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestWhatIsDescribedIsTaken: what the document allows a client to send is what is decoded,
// and nothing else, but that null is as good as absent.
func TestWhatIsDescribedIsTaken(t *testing.T) {
	t.Parallel()
	schemas, taken := requestSchemas(t), 0
	for _, text := range clientMessages(t) {
		_, refusal := decodeRequest(text)
		m, ok := withoutNulls(text)
		typ, _ := m["type"].(string)
		described := ok && schemas[typ] != nil && schemas[typ].Validate(m) == nil
		if described != (refusal == nil) {
			t.Errorf("%q: described: %v, but: %v", text, described, refusal)
		}
		if described {
			taken++
		}
	}
	if taken < 10 {
		t.Errorf("only %d of the messages are good ones", taken)
	}
}

// clientMessages are the inputs kept for FuzzClientMessage, and each of some good messages
// with each of some values in place of each of its fields.
func clientMessages(t *testing.T) (all [][]byte) {
	t.Helper()
	files, err := filepath.Glob("testdata/fuzz/FuzzClientMessage/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no inputs: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		quoted := regexp.MustCompile(`(?m)^\[\]byte\((.*)\)$`).FindSubmatch(data)
		text, err := strconv.Unquote(string(quoted[1]))
		if err != nil {
			t.Fatal(err)
		}
		// A number in another form than digits is one to JSON Schema, and none to us; what is
		// not UTF-8 closes the connection.
		if !regexp.MustCompile(`\d[.eE]`).MatchString(text) && strings.ToValidUTF8(text, "") == text {
			all = append(all, []byte(text))
		}
	}
	for _, good := range []string{
		`{"type":"run","ref":"r","code":"a","cwd":"/","env":{"A":"b"},"timeout_ms":5,"stdin":true,"run_id":"x"}`,
		`{"type":"run","code":"a","stdin":"in"}`,
		`{"type":"stdin","text":"t","run_id":"x","offset":5}`,
		`{"type":"stdin","base64":"/w=="}`,
		`{"type":"stdin.close","run_id":"x"}`,
		`{"type":"interrupt","run_id":"x","force":true}`,
		`{"type":"signal","signal":"TERM","run_id":"x"}`,
		`{"type":"cancel","run_id":"x"}`,
		`{"type":"complete","line":"l","point":1}`,
		`{"type":"ack","pos":1}`,
		`{"type":"ping","ref":"r","more":[]}`,
	} {
		var m map[string]json.RawMessage
		if err := json.Unmarshal([]byte(good), &m); err != nil {
			t.Fatal(err)
		}
		all = append(all, []byte(good))
		for name, was := range m {
			for _, other := range []string{"", "null", "true", "5", "-5", "18446744073709551615", "18446744073709551616", "1.5", `"s"`, "[]", "{}", `{"A":"b"}`, `{"A":1}`} {
				m[name] = json.RawMessage(other)
				if other == "" {
					delete(m, name)
				}
				text, err := json.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, text)
			}
			m[name] = was
		}
	}
	return all
}

func withoutNulls(text []byte) (map[string]any, bool) {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	m, ok := v.(map[string]any)
	for name, value := range m {
		if value == nil {
			delete(m, name)
		}
	}
	return m, ok && err == nil
}
