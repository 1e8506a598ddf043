package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func doctorTests() map[string]func(*testing.T, shell) {
	return map[string]func(*testing.T, shell){
		"doctor: this machine":      testDoctor,
		"doctor: what is not right": testDoctorUnwell,
		"doctor: a server":          testDoctorServer,
	}
}

// doctor returns what it finds by the names of the checks, and its exit code.
func (s shell) doctor(t *testing.T, args ...string) (found map[string]finding, code int) {
	t.Helper()
	d := s.call(t, append([]string{"doctor", "--json"}, args...)...)
	if d.stderr != "" {
		t.Errorf("stderr: %s", d.stderr)
	}
	found = map[string]finding{}
	for _, f := range unmarshal[[]finding](t, d.stdout) {
		if found[f.Check] = f; f.Found == "" || (f.Status == statusOK) != (f.Advice == "") {
			t.Errorf("%+v", f)
		}
	}
	return found, d.code
}

func is(t *testing.T, found map[string]finding, check, status, says string) {
	t.Helper()
	if f := found[check]; f.Status != status || !strings.Contains(f.Found, says) {
		t.Errorf("%s: %+v, want %s, %q", check, f, status, says)
	}
}

// here is a shell that names no server, with a directory of its own for what doctor starts.
func here(t *testing.T, s shell, env ...string) shell {
	return shell{s.bin, s.server, append([]string{"TANDEM_URL=", "TMPDIR=" + t.TempDir()}, env...)}
}

func testDoctor(t *testing.T, s shell) {
	tmp := t.TempDir()
	found, code := here(t, s, "TMPDIR="+tmp, "TANDEM_TOKEN=none-of-its-business").doctor(t)
	if code != exitOK {
		t.Errorf("exit code %d: %+v", code, found)
	}
	for _, check := range []string{"bash", "server", "version", "interrupt", "session", "end"} {
		is(t, found, check, statusOK, "")
	}
	for _, check := range []string{"private directory", "address", "cgroups", "descriptors", "processes", "memory", "run"} {
		if f := found[check]; f.Status != statusOK && f.Status != statusWarn {
			t.Errorf("%s: %+v", check, f)
		}
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	d := here(t, s).call(t, "doctor")
	if d.code != 0 || d.stderr != "" || !strings.Contains(d.stdout, "ok    bash ") && !strings.Contains(d.stdout, "ok  bash ") {
		t.Errorf("%+v", d)
	}
}

func testDoctorUnwell(t *testing.T, s shell) {
	old := standIn(t, "echo 3.2")
	found, code := here(t, s, "PATH="+filepath.Dir(old)).doctor(t)
	is(t, found, "bash", statusFail, "is bash 3.2")
	is(t, found, "server", statusFail, "is bash 3.2")
	if code != exitRuntime {
		t.Errorf("exit code %d", code)
	}

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	found, code = here(t, s, "TMPDIR="+file).doctor(t)
	is(t, found, "private directory", statusFail, file)
	is(t, found, "server", statusFail, "not a directory")
	is(t, found, "bash", statusOK, "")
	if code != exitRuntime {
		t.Errorf("exit code %d", code)
	}

	found, code = here(t, s, "TANDEM_LISTEN="+strings.TrimPrefix(s.server.url, "http://")).doctor(t)
	if is(t, found, "address", statusWarn, "something listens at 127.0.0.1"); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	found, code = here(t, s, "TANDEM_LISTEN=192.0.2.1:80", "TANDEM_TOKEN=x").doctor(t)
	if is(t, found, "address", statusFail, "192.0.2.1:80"); code != exitRuntime {
		t.Errorf("exit code %d", code)
	}
	found, code = here(t, s, "TANDEM_LISTEN=0.0.0.0:0").doctor(t)
	if is(t, found, "address", statusFail, "without a token only loopback"); code != exitRuntime {
		t.Errorf("exit code %d", code)
	}

	few := here(t, s)
	few.bin = filepath.Join(t.TempDir(), "few")
	if err := os.WriteFile(few.bin, []byte("#!/bin/bash\nulimit -n 128; exec "+s.bin+" \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	found, code = few.doctor(t)
	is(t, found, "descriptors", statusFail, "at most 128")
	if code != exitRuntime {
		t.Errorf("exit code %d", code)
	}
}

func testDoctorServer(t *testing.T, s shell) {
	found, code := s.doctor(t) // TANDEM_URL names it
	for _, check := range []string{"server", "version", "interrupt", "session"} {
		is(t, found, check, statusOK, "")
	}
	if _, ok := found["bash"]; ok || code != exitOK {
		t.Errorf("exit code %d: %+v", code, found)
	}
	if all := s.must(t, "ls"); strings.Contains(all, "doctor") {
		t.Errorf("left behind:\n%s", all)
	}
	found, code = s.doctor(t, "--url", "http://127.0.0.1:1")
	if is(t, found, "server", statusFail, "no connection to the server at http://127.0.0.1:1: connect: connection refused"); code != exitRuntime {
		t.Errorf("exit code %d", code)
	}
	found, code = s.doctor(t, "--url", otherServer(t))
	if is(t, found, "server", statusFail, "is it a tandem server?"); code != exitRuntime {
		t.Errorf("exit code %d", code)
	}

	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("working-secret\nview looking-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	guarded := startProgram(t, "env", "TANDEM_TOKEN_FILE="+file, s.bin)
	for token, want := range map[string]struct {
		check, status, says string
		code                int
	}{
		"":               {"server", statusFail, "a token is needed", exitRuntime},
		"wrong-secret":   {"server", statusFail, "the token is wrong", exitRuntime},
		"looking-secret": {"token", statusWarn, "viewing", exitOK},
		"working-secret": {"interrupt", statusOK, "", exitOK},
	} {
		found, code := shell{s.bin, guarded, []string{"TANDEM_TOKEN=" + token}}.doctor(t)
		is(t, found, want.check, want.status, want.says)
		says := slices.Collect(func(yield func(string) bool) {
			for _, f := range found {
				if !yield(f.Found + f.Advice) {
					return
				}
			}
		})
		if code != want.code || token != "" && strings.Contains(strings.Join(says, " "), token) {
			t.Errorf("%q: exit code %d, %q", token, code, says)
		}
	}
}
