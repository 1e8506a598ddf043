package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// standIn writes an executable that prints what it is asked to as its version.
func standIn(t *testing.T, script string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "bash")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	// A test that forked while the file was open has a child which holds it until it is
	// another program; nobody can execute it as long.
	for errors.Is(exec.CommandContext(t.Context(), name).Run(), syscall.ETXTBSY) {
		time.Sleep(time.Millisecond)
	}
	return name
}

func TestFindBash(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, bash string
		want       []string // what the message names; nil: it is accepted
	}{
		{"the real one", "bash", nil},
		{"5.0", standIn(t, "echo 5.0"), nil},
		{"6.1", standIn(t, "echo 6.1"), nil},
		{"too old", standIn(t, "echo 4.4"), []string{"bash 4.4", "5.0 or newer"}},
		{"much too old", standIn(t, "echo 3.2"), []string{"bash 3.2", "5.0 or newer"}},
		{"none", filepath.Join(t.TempDir(), "bash"), []string{"cannot find bash", "5.0"}},
		{"another program", standIn(t, "echo hello"), []string{"hello"}},
		{"broken", standIn(t, "exit 3"), []string{"exit status 3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path, err := findBash(t.Context(), c.bash)
			if (err != nil) != (c.want != nil) {
				t.Fatalf("got %q, %v, want %v", path, err, c.want)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not name %q", err, want)
				}
			}
		})
	}
}
