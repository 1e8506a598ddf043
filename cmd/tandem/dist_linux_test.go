package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestDist makes what is handed out in two places, by users with other habits, which must give
// the same to the bit, and looks at what it is.
func TestDist(t *testing.T) {
	t.Parallel()
	const version, plain = "v9.8.7-rc.1", "9.8.7~rc.1"
	var outs, sums []string
	for i, umask := range []string{"022", "077"} {
		place := filepath.Join(t.TempDir(), strings.Repeat("deeper ", i), "src")
		runScript(t, nil, `mkdir -p "$1"
			tar -C ../.. --exclude=./.git --exclude=node_modules --exclude=./bin --exclude=./dist -cf - . | tar -C "$1" -xf -`, place)
		runScript(t, []string{"VERSION=" + version, "SOURCE_DATE_EPOCH=1700000000", "TZ=UTC-" + umask[1:2]},
			`umask "$1"; "$2/cmd/tandem/dist/build.sh" "$2/out" "$3"`, umask, place, runtime.GOARCH)
		b, err := os.ReadFile(filepath.Join(place, "out", "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		outs, sums = append(outs, filepath.Join(place, "out")), append(sums, string(b))
	}
	if sums[0] != sums[1] {
		t.Errorf("the same sources give\n%s and\n%s", sums[0], sums[1])
	}
	if got := runScript(t, nil, `cd "$1" && sha256sum --quiet -c SHA256SUMS && wc -l <SHA256SUMS`, outs[0]); got != "4\n" {
		t.Errorf("checksums of %s files, want those of the program, the archive and two packages", got)
	}

	bin := filepath.Join(outs[0], "tandem_linux_"+runtime.GOARCH)
	if got, want := runScript(t, nil, `"$1" version`, bin), "tandem "+version+" "; !strings.HasPrefix(got, want) {
		t.Errorf("the program says %q, want %q", got, want)
	}
	f, err := elf.Open(bin)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if libraries, err := f.ImportedLibraries(); err != nil || len(libraries) > 0 {
		t.Errorf("it needs %v, %v", libraries, err)
	}
	deb := filepath.Join(outs[0], "tandem_"+plain+"_"+runtime.GOARCH+".deb")
	checkDeb(t, readAr(t, deb), plain)
	archive := readTar(t, must(os.ReadFile(filepath.Join(outs[0], "tandem_"+version[1:]+"_linux_"+runtime.GOARCH+".tar.gz"))))
	top := "tandem_" + version[1:] + "_linux_" + runtime.GOARCH + "/"
	for _, name := range []string{"tandem", "README.md", "LICENSES", "tandem.py"} {
		if len(archive[top+name].data) == 0 {
			t.Errorf("the archive has no %s", name)
		}
	}
}

func checkDeb(t *testing.T, members map[string][]byte, version string) {
	t.Helper()
	files, control := readTar(t, members["data.tar.gz"]), readTar(t, members["control.tar.gz"])
	for name, mode := range map[string]int64{
		"./usr/bin/tandem": 0o755, "./etc/default/tandem": 0o644, "./usr/share/doc/tandem/LICENSES": 0o644,
		"./usr/lib/systemd/system/tandem.service": 0o644, "./usr/lib/systemd/system/tandem.socket": 0o644,
		"./usr/share/bash-completion/completions/tandem": 0o644, "./usr/share/zsh/vendor-completions/_tandem": 0o644,
	} {
		if f, ok := files[name]; !ok || f.Mode&0o7777 != mode || len(f.data) == 0 {
			t.Errorf("%s: %+v, %d bytes, want it with mode %o", name, f.Header, len(f.data), mode)
		}
	}
	for name, f := range files {
		if f.Uid != 0 || f.Gid != 0 || f.Mode&0o022 != 0 || !f.ModTime.Equal(time.Unix(1700000000, 0)) {
			t.Errorf("%s: of %d:%d, mode %o, time %v", name, f.Uid, f.Gid, f.Mode, f.ModTime)
		}
	}
	unit := string(files["./usr/lib/systemd/system/tandem.service"].data)
	if !strings.Contains(unit, "ExecStart=/usr/bin/tandem serve\n") || strings.Contains(unit, "@") {
		t.Errorf("unit: %s", unit)
	}
	if got := string(control["./conffiles"].data); got != "/etc/default/tandem\n" {
		t.Errorf("conffiles: %q", got)
	}
	for _, want := range []string{"Version: " + version + "\n", "Depends: bash (>= 5.0)", "Architecture: " + runtime.GOARCH + "\n"} {
		if !bytes.Contains(control["./control"].data, []byte(want)) {
			t.Errorf("no %q in %s", want, control["./control"].data)
		}
	}
	for _, script := range []string{"./postinst", "./prerm", "./postrm"} {
		if out, err := exec.CommandContext(t.Context(), "sh", "-nc", string(control[script].data)).CombinedOutput(); err != nil || len(control[script].data) == 0 {
			t.Errorf("%s: %v: %s", script, err, out)
		}
	}
}

// TestVersionOfSources sees what the build calls sources of different kinds.
func TestVersionOfSources(t *testing.T) {
	t.Parallel()
	repo := t.TempDir()
	git := func(script string) string {
		t.Helper()
		return strings.TrimSpace(runScript(t, []string{
			"GIT_AUTHOR_NAME=test", "GIT_AUTHOR_EMAIL=t@localhost", "GIT_COMMITTER_NAME=test", "GIT_COMMITTER_EMAIL=t@localhost",
			"GIT_COMMITTER_DATE=2030-01-02T03:04:05+0200", "GIT_CONFIG_GLOBAL=/dev/null", "SCRIPT=cmd/tandem/dist/version.sh",
		}, `cd "$1"; eval "$2"`, repo, script))
	}
	runScript(t, nil, `mkdir -p "$1/cmd/tandem/dist"; cp dist/version.sh "$1/cmd/tandem/dist"`, repo)
	if got := git("$SCRIPT"); got != "" {
		t.Errorf("a tarball: %q", got)
	}
	hash := git("git init -q; git add .; git commit -qm one; git rev-parse --short=12 HEAD")
	pseudo := "20300102010405-" + hash
	for _, c := range []struct{ what, script, want string }{
		{"a commit", "$SCRIPT", "v0.0.0-" + pseudo},
		{"a worktree", "git worktree add -q --detach tree; tree/$SCRIPT; git worktree remove tree", "v0.0.0-" + pseudo},
		{"with a new file", "touch new; $SCRIPT; rm new", "v0.0.0-" + pseudo + "+dirty"},
		{"with a change", "echo '#' >>$SCRIPT; $SCRIPT; git checkout -q .", "v0.0.0-" + pseudo + "+dirty"},
		{"within another repository", "mkdir in; cp -r cmd in; in/$SCRIPT; rm -r in", ""},
		{"a tag", "git tag v1.2.3; $SCRIPT", "v1.2.3"},
		{"a tag, with a change", "touch new; $SCRIPT; rm new", "v1.2.3+dirty"},
	} {
		if got := git(c.script); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
	next := git("git commit -q --allow-empty -m two; git rev-parse --short=12 HEAD")
	if got, want := git("$SCRIPT"), "v1.2.4-0.20300102010405-"+next; got != want {
		t.Errorf("after a tag: %q, want %q", got, want)
	}
	if got, want := git("git tag -d v1.2.3 >/dev/null; git tag v1.2.3-rc.1 HEAD~; $SCRIPT"), "v1.2.3-rc.1.0.20300102010405-"+next; got != want {
		t.Errorf("after a tag before a version: %q, want %q", got, want)
	}
}

// runScript runs a shell script, which must succeed, and returns what it printed.
func runScript(t *testing.T, env []string, code string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", append([]string{"-euc", code, "bash"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s%s", code, err, out, &stderr)
	}
	return string(out)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// readAr returns the members of an archive of ar, as a Debian package is one.
func readAr(t *testing.T, name string) map[string][]byte {
	t.Helper()
	b, ok := bytes.CutPrefix(must(os.ReadFile(name)), []byte("!<arch>\n"))
	if !ok {
		t.Fatalf("%s is none", name)
	}
	members := map[string][]byte{}
	for len(b) > 60 {
		size := must(strconv.Atoi(strings.TrimSpace(string(b[48:58]))))
		members[strings.TrimRight(string(b[:16]), " /")] = b[60 : 60+size]
		b = b[min(len(b), 60+size+size%2):]
	}
	return members
}

type tarFile struct {
	tar.Header
	data []byte
}

func readTar(t *testing.T, gz []byte) map[string]tarFile {
	t.Helper()
	r := tar.NewReader(must(gzip.NewReader(bytes.NewReader(gz))))
	files := map[string]tarFile{}
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = tarFile{*h, must(io.ReadAll(r))}
	}
	return files
}
