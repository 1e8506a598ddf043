package ws_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// A description is asyncapi.json. Every text message of these tests is held against it, and
// it remembers what it has seen of what it describes.
type description struct {
	doc      map[string]any
	ours     map[string]*jsonschema.Schema // what the server sends, by type
	theirs   map[string]*jsonschema.Schema // what clients send
	schemaOf func(name string) *jsonschema.Schema

	mu   sync.Mutex
	seen map[string]bool
}

var described = sync.OnceValue(func() *description {
	text, err := os.ReadFile("asyncapi.json")
	if err != nil {
		panic(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		panic(fmt.Errorf("asyncapi.json: %w", err))
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7) // as AsyncAPI has it
	if err := c.AddResource("asyncapi.json", doc); err != nil {
		panic(err)
	}
	d := &description{doc: doc.(map[string]any), seen: map[string]bool{}}
	d.schemaOf = func(name string) *jsonschema.Schema {
		return c.MustCompile("asyncapi.json#/components/messages/" + name + "/payload")
	}
	d.ours, d.theirs = d.messages("tellOfNew"), d.messages("takeOnNew")
	return d
})

// messages returns the schemas of the text messages of an operation.
func (d *description) messages(operation string) map[string]*jsonschema.Schema {
	of := map[string]*jsonschema.Schema{}
	for _, m := range object(d.doc, "operations", operation)["messages"].([]any) {
		name := last(m.(map[string]any)["$ref"].(string))
		message := object(d.doc, "components", "messages", name)
		if message["contentType"] == "application/json" {
			of[message["name"].(string)] = d.schemaOf(name)
		}
	}
	return of
}

func object(v map[string]any, steps ...string) map[string]any {
	for _, step := range steps {
		v, _ = v[step].(map[string]any)
	}
	return v
}

func last(pointer string) string { return pointer[strings.LastIndexByte(pointer, '/')+1:] }

// check holds a message against those there are, and remembers it.
func (d *description) check(side string, known map[string]*jsonschema.Schema, text []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	m, _ := v.(map[string]any)
	typ, _ := m["type"].(string)
	schema := known[typ]
	if schema == nil {
		return fmt.Errorf("no message of this type is in the document")
	}
	if err := schema.Validate(v); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen[side+" "+typ] = true
	for _, name := range []string{"code", "reason", "cause", "restored"} {
		if value, ok := m[name].(string); ok && typ != "run" && typ != "run.started" {
			d.seen[fmt.Sprintf("%s %s %s %s", side, typ, name, value)] = true
		}
	}
	return nil
}

// allSeen reports whether all that is described was seen, where the tests that were run are
// all there are, and says what was not.
func (d *description) allSeen() bool {
	for _, name := range []string{"test.run", "test.skip", "test.list", "test.fuzz"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" {
			return true
		}
	}
	all := true
	for _, what := range d.all() {
		if !d.seen[what] {
			fmt.Fprintf(os.Stderr, "asyncapi.json describes what no test has seen: %s\n", what)
			all = false
		}
	}
	return all
}

// all lists what must be seen: every message, and every value of what tells how things
// ended or went wrong. Left out is what only a machine in distress or chance would say.
func (d *description) all() (all []string) {
	for typ := range d.ours {
		all = append(all, "server "+typ)
	}
	for typ := range d.theirs {
		all = append(all, "client "+typ)
	}
	schemas := object(d.doc, "components", "schemas")
	for what, enum := range map[string]any{
		"error code":               object(schemas, "Error", "properties", "code")["enum"],
		"run.finished reason":      object(schemas, "Reason")["enum"],
		"session.closed reason":    object(schemas, "SessionClosed", "properties", "reason")["enum"],
		"shell.restarted cause":    object(schemas, "ShellRestarted", "properties", "cause")["enum"],
		"shell.restarted restored": object(schemas, "ShellRestarted", "properties", "restored")["enum"],
	} {
		for _, value := range enum.([]any) {
			all = append(all, fmt.Sprintf("server %s %s", what, value))
		}
	}
	rare := []string{
		"server error code RUNTIME_ERROR", "server error code CONTEXT_NOT_FOUND",
		"server shell.restarted cause lost", "server shell.restarted restored nothing",
		"server session.closed reason idle", // nobody is attached then, but one who comes in that moment
	}
	all = slices.DeleteFunc(all, func(what string) bool { return slices.Contains(rare, what) })
	slices.Sort(all)
	return all
}

// witness makes connections whose text messages are held against the description, in both
// directions; those of a client may be wrong if they are answered with an error.
func witness(t testing.TB) *http.Transport {
	if _, ok := t.(*testing.T); !ok {
		return &http.Transport{} // a benchmark
	}
	return &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		var dialer net.Dialer
		nc, err := dialer.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return watch(t, nc), nil
	}}
}

// A watched is a connection of a client whose messages are looked at.
type watched struct {
	net.Conn
	mu       sync.Mutex
	in, out  frames
	wrong    []string // that the client has sent
	refusals int
}

func watch(t testing.TB, nc net.Conn) net.Conn {
	w, d := &watched{Conn: nc}, described()
	outputs := 0
	w.in.message = func(text []byte) {
		if bytes.HasPrefix(text, []byte(`{"type":"std`)) {
			if outputs++; outputs > 1000 {
				return // a flood is messages of one kind
			}
		}
		if err := d.check("server", d.ours, text); err != nil {
			t.Errorf("the server sent %.300s: asyncapi.json: %v", text, err)
		}
		if bytes.HasPrefix(text, []byte(`{"type":"error"`)) {
			w.refusals++
		}
	}
	w.out.message = func(text []byte) {
		if err := d.check("client", d.theirs, text); err != nil {
			w.wrong = append(w.wrong, fmt.Sprintf("%.300s: asyncapi.json: %v", text, err))
		}
	}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.wrong) > w.refusals {
			t.Errorf("a client sent, and got %d errors for, %s", w.refusals, strings.Join(w.wrong, "\n"))
		}
	})
	return w
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.in.feed(p[:n])
	return n, err
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.out.feed(p)
	w.mu.Unlock()
	return w.Conn.Write(p)
}

// frames takes one direction of a connection apart, from the head of its HTTP on.
type frames struct {
	message func(text []byte) // is given each whole text message of a bounded size

	begun   []byte // of a head, HTTP's or a frame's
	upgrade bool   // HTTP's is past
	left    uint64 // of a frame's payload
	final   bool   // it ends a text message
	control bool   // it is a ping, a pong or a close
	mask    [4]byte
	at      int // in the mask
	isText  bool
	text    []byte
}

// keptText is how much of a message is looked at. A longer one is not.
const keptText = 1 << 20

func (f *frames) feed(p []byte) {
	for len(p) > 0 {
		if f.left == 0 {
			f.begun, p = append(f.begun, p[0]), p[1:]
			f.head()
			continue
		}
		n := min(uint64(len(p)), f.left)
		f.payload(p[:n])
		p = p[n:]
	}
}

// head looks whether a head is whole.
func (f *frames) head() {
	if !f.upgrade {
		if bytes.HasSuffix(f.begun, []byte("\r\n\r\n")) {
			f.upgrade, f.begun = true, f.begun[:0]
		}
		return
	}
	if len(f.begun) < 2 {
		return
	}
	length, size := uint64(f.begun[1]&0x7f), 2
	switch length {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	masked := f.begun[1]&0x80 != 0
	whole := size
	if masked {
		whole += 4
	}
	if len(f.begun) < whole {
		return
	}
	if size > 2 {
		length = binary.BigEndian.Uint64(append(make([]byte, 10-size), f.begun[2:size]...))
	}
	f.mask, f.at = [4]byte{}, 0
	copy(f.mask[:], f.begun[size:whole])
	op, final := f.begun[0]&0x0f, f.begun[0]&0x80 != 0
	f.control = op >= 8
	if op == 1 || op == 2 { // not the rest of a message that has begun
		f.isText, f.text = op == 1, f.text[:0]
	}
	f.final = final && f.isText && !f.control
	f.left, f.begun = length, f.begun[:0]
	f.ended()
}

func (f *frames) payload(p []byte) {
	f.left -= uint64(len(p))
	if f.isText && !f.control && len(f.text) <= keptText {
		for _, c := range p {
			f.text = append(f.text, c^f.mask[f.at&3])
			f.at++
		}
	}
	f.ended()
}

func (f *frames) ended() {
	if f.left == 0 && f.final && len(f.text) <= keptText {
		f.final = false
		f.message(f.text)
	}
}

// TestFramesAreTakenApart: without this the witness might look at nothing.
func TestFramesAreTakenApart(t *testing.T) {
	t.Parallel()
	var got []string
	f := &frames{message: func(text []byte) { got = append(got, string(text)) }}
	long := strings.Repeat("x", 70000)
	all := "HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n" +
		"\x81\x02ok" + "\x82\x03\x01\x02\x03" + "\x89\x02hi" + // text, bytes, a ping
		"\x01\x01a" + "\x8a\x00" + "\x80\x01b" + // in two, with a pong between them
		"\x81\x85\x01\x02\x03\x04" + "i\x67oh\x6e" + // masked
		"\x81\x7f\x00\x00\x00\x00\x00\x01\x11\x70" + long + "\x81\x00"
	for i := range len(all) {
		f.feed([]byte(all[i : i+1]))
	}
	want := []string{"ok", "ab", "hello", long, ""}
	if !slices.Equal(got, want) {
		t.Errorf("got %.100q, want %.100q", got, want)
	}
}

// TestDescriptionIsSound: every reference leads somewhere, and every example is what it is an
// example of.
func TestDescriptionIsSound(t *testing.T) {
	t.Parallel()
	d := described()
	for name := range object(d.doc, "components", "messages") {
		examples, _ := object(d.doc, "components", "messages", name)["examples"].([]any)
		for _, e := range examples {
			if err := d.schemaOf(name).Validate(e.(map[string]any)["payload"]); err != nil {
				t.Errorf("%s: the example: %v", name, err)
			}
		}
	}
	var follow func(v any)
	follow = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok && object(d.doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...) == nil {
				t.Errorf("nothing is at %s", ref)
			}
			for _, child := range v {
				follow(child)
			}
		case []any:
			for _, child := range v {
				follow(child)
			}
		}
	}
	follow(d.doc)
	if b, err := json.Marshal(d.doc); err != nil || len(b) < 10000 {
		t.Errorf("the document: %d bytes, %v", len(b), err)
	}
}
