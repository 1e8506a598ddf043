package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"tandem/httpapi"
	"tandem/sessions"
)

// TestEveryRouteIsDescribed: what is served is described, and nothing else.
func TestEveryRouteIsDescribed(t *testing.T) {
	t.Parallel()
	d := described()
	described := map[string]bool{}
	for route := range d.at("paths") {
		for method := range d.at("paths", route) {
			if method != "parameters" {
				described[strings.ToUpper(method)+" "+route] = true
			}
		}
	}
	routes, ok := httpapi.New(httpapi.Config{Root: http.NotFoundHandler(), WebSocket: http.NotFoundHandler(), Metrics: http.NotFoundHandler(), AsyncAPI: "{}"}).(chi.Routes)
	if !ok {
		t.Fatal("the door does not tell its routes")
	}
	err := chi.Walk(routes, func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		name := method + " " + strings.Replace(route, "*", "{file}", 1)
		if !described[name] {
			t.Errorf("%s is served and not in openapi.json", name)
		}
		delete(described, name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range described {
		t.Errorf("%s is in openapi.json and not served", name)
	}
}

// TestDescriptionIsSound: every reference leads somewhere, every schema is one, and every
// example is what it is an example of.
func TestDescriptionIsSound(t *testing.T) {
	t.Parallel()
	d := described()
	walk(d.doc, "#", func(at string, v map[string]any) {
		if ref, ok := v["$ref"].(string); ok {
			if target, _ := d.follow(ref); target == nil {
				t.Errorf("%s: nothing is at %s", at, ref)
			}
		}
		if schema, ok := v["schema"]; ok {
			if _, err := d.schema(at + "/schema"); err != nil {
				t.Errorf("%s: %v", at, err)
			}
			if example, ok := v["example"]; ok {
				checkExample(t, d, at, schema.(map[string]any), example)
			}
		}
	})
	for name := range d.at("components", "schemas") {
		if _, err := d.schema("#/components/schemas/" + name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func checkExample(t *testing.T, d *description, at string, schema map[string]any, example any) {
	t.Helper()
	if schema["contentSchema"] == nil {
		if err := d.valid(at+"/schema", encoded(example)); err != nil {
			t.Errorf("%s: the example: %v", at, err)
		}
		return
	}
	by, before := "\n\n", "data: " // events
	if schema["contentMediaType"] != "text/event-stream" {
		by, before = "\n", ""
	}
	for piece := range strings.SplitSeq(strings.TrimSuffix(example.(string), by), by) {
		if err := d.valid(at+"/schema/contentSchema", []byte(piece[strings.Index(piece, before)+len(before):])); err != nil {
			t.Errorf("%s: the example %q: %v", at, piece, err)
		}
	}
}

// walk visits every object.
func walk(v any, at string, visit func(at string, v map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		visit(at, v)
		for k, child := range v {
			walk(child, at+"/"+escaped([]string{k})[0], visit)
		}
	case []any:
		for i, child := range v {
			walk(child, fmt.Sprintf("%s/%d", at, i), visit)
		}
	}
}

// TestDocuments: they come as they are, and to whoever has a token.
func TestDocuments(t *testing.T) {
	t.Parallel()
	d := open(t, sessions.Config{}, httpapi.Config{Tokens: httpapi.NewTokens(httpapi.Token{Secret: "guest", View: true})})
	for path, want := range map[string]string{"/openapi.json": `"openapi": "3.1.1"`, "/asyncapi.json": `"asyncapi":"3.0.0"`} {
		if a := d.do("GET", path, ""); a.status != 401 {
			t.Errorf("%s without a token: %d", path, a.status)
		}
		a := d.do("GET", path, "", "Authorization", "Bearer guest")
		if a.status != 200 || !strings.Contains(string(a.body), want) || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %v %.100s", path, a.status, a.header, a.body)
		}
		if a := d.do("HEAD", path, "", "Authorization", "Bearer guest"); a.status != 200 || len(a.body) > 0 {
			t.Errorf("HEAD %s: %d", path, a.status)
		}
	}
}
