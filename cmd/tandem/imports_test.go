package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// arrows says which of our packages each may import. They never turn round, and the two
// doors never meet.
var arrows = map[string][]string{
	"tandem/sessions":              {},
	"tandem/sessions/sessionstest": {"tandem/sessions"},
	"tandem/httpapi":               {"tandem/sessions"},
	"tandem/ws":                    {"tandem/sessions"},
	"tandem/web":                   {},
	"tandem/cmd/tandem-bench":      {"tandem/ws"},
	"tandem/cmd/tandem-soak":       {"tandem/sessions", "tandem/ws"},
	"tandem/cmd/tandem":            {"tandem/httpapi", "tandem/sessions", "tandem/web", "tandem/ws"},
}

// forbidden are the packages of others that one of ours must not know: an engine that does
// not know how it is talked to can be given another door. A name stands for all below it.
var forbidden = map[string][]string{
	"tandem/sessions": {"encoding/json", "net/http", "github.com/coder/websocket", "github.com/prometheus", "go.opentelemetry.io"},
	"tandem/httpapi":  {"github.com/coder/websocket", "github.com/prometheus", "go.opentelemetry.io"},
	"tandem/ws":       {"github.com/prometheus", "go.opentelemetry.io"},
	"tandem/web":      {"github.com/coder/websocket", "github.com/prometheus", "go.opentelemetry.io"},
}

func TestImports(t *testing.T) {
	t.Parallel()
	for _, goos := range []string{"linux", "darwin"} {
		for _, p := range listPackages(t, goos) {
			checkArrows(t, goos, p.ImportPath, p.Imports, arrows[p.ImportPath])
			// An external test may also see the package it tests, and the tests' helpers.
			ours := append([]string{p.ImportPath, "tandem/sessions/sessionstest"}, arrows[p.ImportPath]...)
			checkArrows(t, goos, p.ImportPath, slices.Concat(p.TestImports, p.XTestImports), ours)
			for _, imp := range p.Imports {
				for _, f := range forbidden[p.ImportPath] {
					if imp == f || strings.HasPrefix(imp, f+"/") {
						t.Errorf("%s: %s imports %s", goos, p.ImportPath, imp)
					}
				}
			}
		}
	}
}

type goPackage struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func listPackages(t *testing.T, goos string) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "tandem/...")
	cmd.Env = append(cmd.Environ(), "GOOS="+goos)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderrOf(err))
	}
	var list []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		if _, ok := arrows[p.ImportPath]; !ok {
			t.Errorf("%s is a new package: say in the table of arrows what it may import", p.ImportPath)
		}
		list = append(list, p)
	}
}

func stderrOf(err error) []byte {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.Stderr
	}
	return nil
}

func checkArrows(t *testing.T, goos, from string, imports, allowed []string) {
	t.Helper()
	for _, imp := range imports {
		if strings.HasPrefix(imp, "tandem/") && !slices.Contains(allowed, imp) {
			t.Errorf("%s: %s imports %s, which no arrow leads to", goos, from, imp)
		}
	}
}
