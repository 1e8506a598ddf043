package httpapi_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// A description is openapi.json. All that passes through a door of these tests is held
// against it, and it remembers what it has seen of what it describes.
type description struct {
	doc map[string]any

	mu       sync.Mutex
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema // by where they are in the document
	seen     map[string]bool
}

var described = sync.OnceValue(func() *description {
	text, err := os.ReadFile("openapi.json")
	if err != nil {
		panic(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		panic(fmt.Errorf("openapi.json: %w", err))
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("openapi.json", doc); err != nil {
		panic(err)
	}
	return &description{doc: doc.(map[string]any), compiler: c, schemas: map[string]*jsonschema.Schema{}, seen: map[string]bool{}}
})

// kept is how much of a body is looked at.
const kept = 1 << 20

// An exchange is a request and its answer, as far as they are kept.
type exchange struct {
	http.ResponseWriter
	method, route string // as the document has them; "" where it has none
	request       *http.Request
	sent          keptBody
	status        int
	got           keptBody
}

// A keptBody is the beginning of a body.
type keptBody struct {
	io.ReadCloser
	bytes.Buffer
	cut bool // there was more, or it was broken off
}

func (b *keptBody) keep(p []byte, err error) {
	room := kept - b.Len()
	b.Buffer.Write(p[:min(len(p), room)])
	b.cut = b.cut || len(p) > room || err != nil
}

func (b *keptBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.keep(p[:n], nil)
	return n, err
}

func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

func (x *exchange) WriteHeader(status int) {
	if x.status == 0 {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

func (x *exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	n, err := x.ResponseWriter.Write(p)
	x.got.keep(p, err)
	return n, err
}

// witness holds all that passes through next against the description.
func (d *description) witness(t *testing.T, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{ResponseWriter: w, request: r, sent: keptBody{ReadCloser: r.Body}}
		x.method, x.route = d.find(r)
		own := r.Clone(r.Context())
		own.Body = &x.sent
		if r.Body == http.NoBody {
			own.Body = r.Body
		}
		next.ServeHTTP(x, own) // one that panics breaks its answer off
		x.status = max(x.status, http.StatusOK)
		if err := d.check(x); err != nil {
			t.Errorf("%s %.200s was answered with %d %.300q: openapi.json: %v", r.Method, r.URL, x.status, x.got.Bytes(), err)
		}
	})
}

// find returns the method and the route of the document that are a request's.
func (d *description) find(r *http.Request) (method, route string) {
	method = strings.ToLower(r.Method)
	if method == "head" {
		method = "get"
	}
	for route := range d.at("paths") {
		if matches(route, r.URL.EscapedPath()) {
			if d.at("paths", route)[method] == nil {
				return "", route
			}
			return method, route
		}
	}
	return "", ""
}

func matches(route, path string) bool {
	if rest, ok := strings.CutPrefix(path, "/assets/"); ok {
		return route == "/assets/{file}" && rest != ""
	}
	have, want := strings.Split(path, "/"), strings.Split(route, "/")
	return slices.EqualFunc(have, want, func(have, want string) bool {
		return have == want || strings.HasPrefix(want, "{") && have != ""
	})
}

// at returns an object of the document, with the references on the way followed. It is nil
// where there is none.
func (d *description) at(steps ...string) map[string]any {
	v, _ := d.follow("#/" + strings.Join(escaped(steps), "/"))
	return v
}

func escaped(steps []string) (out []string) {
	for _, s := range steps {
		out = append(out, strings.NewReplacer("~", "~0", "/", "~1").Replace(s))
	}
	return out
}

// follow returns the object at a pointer and where it really is.
func (d *description) follow(pointer string) (v map[string]any, where string) {
	v = d.doc
	for step := range strings.SplitSeq(strings.TrimPrefix(pointer, "#/"), "/") {
		v, _ = v[strings.NewReplacer("~1", "/", "~0", "~").Replace(step)].(map[string]any)
		if ref, ok := v["$ref"].(string); ok && !strings.HasPrefix(ref, "#/components/schemas/") {
			v, pointer = d.follow(ref)
		}
	}
	return v, pointer
}

// schema returns the schema at a pointer.
func (d *description) schema(pointer string) (*jsonschema.Schema, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.schemas[pointer]; s != nil {
		return s, nil
	}
	s, err := d.compiler.Compile("openapi.json" + pointer)
	if err == nil {
		d.schemas[pointer] = s
	}
	return s, err
}

// valid checks data, a JSON text, against the schema at a pointer.
func (d *description) valid(pointer string, data []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return err
	}
	s, err := d.schema(pointer)
	if err != nil {
		return err
	}
	return s.Validate(v)
}

// isMounted reports whether a route is served by what these tests mount in its place.
func isMounted(route string) bool {
	return slices.Contains([]string{"/", "/docs", "/favicon.ico", "/assets/{file}", "/ws", "/session/{id}/ws", "/metrics"}, route)
}

// statusUnseen is what the log has for a client that left: nobody gets such an answer.
const statusUnseen = 499

func (d *description) check(x *exchange) error {
	if x.status == statusUnseen || x.method == "" && x.status == http.StatusNoContent {
		return nil // the latter is a preflight
	}
	if isMounted(x.route) && (x.status < 300 || x.status == http.StatusNotFound) {
		return nil
	}
	if x.Header().Get("X-Request-Id") == "" {
		return fmt.Errorf("no X-Request-Id")
	}
	if x.method == "" {
		return d.checkRefusal(x)
	}
	pointer := "#/" + strings.Join(escaped([]string{"paths", x.route, x.method, "responses", fmt.Sprint(x.status)}), "/")
	answer, where := d.follow(pointer)
	if answer == nil {
		return fmt.Errorf("%s %s has no answer %d", x.method, x.route, x.status)
	}
	if err := d.checkAnswer(x, answer, where); err != nil {
		return err
	}
	if x.status < 300 {
		return d.checkRequest(x)
	}
	return nil
}

// checkRefusal checks an answer to what is not in the document.
func (d *description) checkRefusal(x *exchange) error {
	known := []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound}
	if x.route != "" {
		known[2] = http.StatusMethodNotAllowed
	}
	if !slices.Contains(known, x.status) {
		return fmt.Errorf("it has no such path and method, and they were not refused as such")
	}
	if x.request.Method == http.MethodHead {
		return nil
	}
	return d.valid("#/components/schemas/Error", x.got.Bytes())
}

// checkAnswer checks an answer against what is at where in the document.
func (d *description) checkAnswer(x *exchange, answer map[string]any, where string) error {
	media, _ := answer["content"].(map[string]any)
	if len(media) == 0 {
		d.saw(x.method, x.route, x.status, "")
		if x.got.Len() > 0 {
			return fmt.Errorf("this answer has no body")
		}
		return nil
	}
	kind, _, err := mime.ParseMediaType(x.Header().Get("Content-Type"))
	if err != nil || media[kind] == nil {
		return fmt.Errorf("this answer is none of %q: %q", slices.Sorted(maps.Keys(media)), x.Header().Get("Content-Type"))
	}
	if x.request.Method == http.MethodHead {
		return nil
	}
	schema := where + "/content/" + strings.ReplaceAll(kind, "/", "~1") + "/schema"
	switch kind {
	case "text/event-stream":
		d.saw(x.method, x.route, x.status, kind)
		return d.checkEvents(x, schema+"/contentSchema")
	case "application/x-asciicast":
		d.saw(x.method, x.route, x.status, kind)
		return d.checkLines(x, schema+"/contentSchema")
	}
	if x.got.cut {
		return nil
	}
	var refusal struct{ Code string }
	if x.status >= 400 {
		kind = ""
		if err := json.Unmarshal(x.got.Bytes(), &refusal); err != nil {
			return err
		}
	}
	d.saw(x.method, x.route, x.status, kind+refusal.Code)
	return d.valid(schema, x.got.Bytes())
}

// checkEvents checks the whole events of a stream. What a session's journal is told as is
// another package's, which these tests have a stand-in for.
func (d *description) checkEvents(x *exchange, schema string) error {
	text, events := x.got.String(), 0
	for len(text) > 0 {
		event, rest, whole := strings.Cut(text, "\n\n")
		text = rest
		if !whole && x.got.cut {
			return nil
		}
		if event == ":" {
			continue
		}
		id, data, ok := strings.Cut(event, "\n")
		if !whole || !ok || strings.Trim(strings.TrimPrefix(id, "id: "), "0123456789") != "" || !strings.HasPrefix(data, "data: ") || strings.Contains(data, "\n") {
			return fmt.Errorf("not an event: %.300q", event)
		}
		// A flood is lines of one kind.
		if events++; x.route == "/session/{id}/events" || events > 1000 && strings.HasPrefix(data, `data: {"type":"std`) {
			continue
		}
		if err := d.valid(schema, []byte(data[len("data: "):])); err != nil {
			return fmt.Errorf("event %.300q: %w", data, err)
		}
		d.sawEvent([]byte(data[len("data: "):]))
	}
	return nil
}

// checkLines checks the whole lines of a recording, but for those of a flood.
func (d *description) checkLines(x *exchange, schema string) error {
	lines := 0
	for line := range bytes.Lines(x.got.Bytes()) {
		if lines++; lines > 1000 || x.got.cut && !bytes.HasSuffix(line, []byte("\n")) {
			return nil
		}
		if err := d.valid(schema, line); err != nil {
			return fmt.Errorf("line %.300q: %w", line, err)
		}
	}
	return nil
}

// checkRequest checks that what was answered well is described too.
func (d *description) checkRequest(x *exchange) error {
	steps := []string{"paths", x.route, x.method}
	query := x.request.URL.Query()
	for i := range d.list(append(steps, "parameters")...) {
		pointer := "#/" + strings.Join(escaped(append(steps, "parameters", fmt.Sprint(i))), "/")
		p, where := d.parameter(pointer)
		name := p["name"].(string)
		value, given := query.Get(name), query.Has(name)
		if p["in"] == "header" {
			value = x.request.Header.Get(name)
			given = value != ""
		}
		if !given {
			if p["required"] == true {
				return fmt.Errorf("the parameter %s is missing", name)
			}
			continue
		}
		if p["schema"].(map[string]any)["type"] != "integer" {
			value = string(encoded(value))
		}
		if err := d.valid(where+"/schema", []byte(value)); err != nil {
			return fmt.Errorf("the parameter %s: %w", name, err)
		}
	}
	body := d.at(append(steps, "requestBody")...)
	content, _ := body["content"].(map[string]any)
	if content["application/json"] == nil || x.sent.cut {
		return nil
	}
	text := bytes.TrimSpace(x.sent.Bytes())
	if len(text) == 0 && body["required"] != true {
		return nil
	}
	if err := d.valid("#/"+strings.Join(escaped(append(steps, "requestBody", "content", "application/json", "schema")), "/"), text); err != nil {
		return fmt.Errorf("the request %.300q: %w", text, err)
	}
	return nil
}

func encoded(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// list returns an array of the document.
func (d *description) list(steps ...string) []any {
	list, _ := d.at(steps[:len(steps)-1]...)[steps[len(steps)-1]].([]any)
	return list
}

// parameter is follow for an element of an array.
func (d *description) parameter(pointer string) (map[string]any, string) {
	cut := strings.LastIndexByte(pointer, '/')
	owner, _ := d.follow(pointer[:strings.LastIndexByte(pointer[:cut], '/')])
	var i int
	if _, err := fmt.Sscan(pointer[cut+1:], &i); err != nil {
		panic(err)
	}
	p := owner["parameters"].([]any)[i].(map[string]any)
	if ref, ok := p["$ref"].(string); ok {
		return d.follow(ref)
	}
	return p, pointer
}

// saw remembers an answer: its media type, or its error's code.
func (d *description) saw(method, route string, status int, what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen[fmt.Sprintf("%s %s: %d %s", method, route, status, what)] = true
	d.seen[fmt.Sprintf("anywhere: %d %s", status, what)] = true
}

func (d *description) sawEvent(data []byte) {
	var e struct {
		Type  string
		Error struct{ EName string }
	}
	if json.Unmarshal(data, &e) != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen[strings.TrimSpace("event "+e.Type+" "+e.Error.EName)] = true
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
			fmt.Fprintf(os.Stderr, "openapi.json describes what no test has seen: %s\n", what)
			all = false
		}
	}
	return all
}

// all lists what must be seen. What any request can be answered is asked for once.
func (d *description) all() (all []string) {
	for route := range d.at("paths") {
		for method := range d.at("paths", route) {
			if method == "parameters" || isMounted(route) {
				continue
			}
			for status := range d.at("paths", route, method, "responses") {
				all = append(all, d.allOf(method, route, status)...)
			}
		}
	}
	for _, name := range []string{"init", "ping", "stdout", "stderr", "gap", "execution_complete"} {
		all = append(all, "event "+name)
	}
	errors := d.at("components", "schemas", "ErrorEvent", "properties", "error", "properties", "ename")
	for _, name := range errors["enum"].([]any) {
		all = append(all, fmt.Sprint("event error ", name))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// allOf lists what must be seen of one answer.
func (d *description) allOf(method, route, status string) (all []string) {
	answer, where := d.follow("#/" + strings.Join(escaped([]string{"paths", route, method, "responses", status}), "/"))
	at := method + " " + route
	if slices.Contains([]string{"401", "403", "408", "413", "500", "503"}, status) && strings.HasPrefix(where, "#/components/") {
		at = "anywhere"
	}
	media, _ := answer["content"].(map[string]any)
	if len(media) == 0 {
		return []string{fmt.Sprintf("%s: %s ", at, status)}
	}
	for kind := range media {
		if status < "400" {
			all = append(all, fmt.Sprintf("%s: %s %s", at, status, kind))
			continue
		}
		schema, _ := d.follow(where + "/content/" + strings.ReplaceAll(kind, "/", "~1") + "/schema")
		codes := schema["allOf"].([]any)[1].(map[string]any)["properties"].(map[string]any)["code"].(map[string]any)["enum"].([]any)
		for _, code := range codes {
			all = append(all, fmt.Sprintf("%s: %s %s", at, status, code))
		}
	}
	return all
}
