package sessions_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tandem/sessions"
	"tandem/sessions/sessionstest"
)

// A session whose shell was started ahead of need cannot be told from another.
func TestWarmSessionsAreLikeOthers(t *testing.T) {
	t.Parallel()
	warm := sessionstest.New(t, sessions.Config{Warm: 2})
	cold := sessionstest.New(t, sessions.Config{})
	const look = `declare -p | grep -Ev '^declare -[^ ]* (BASHPID|EPOCH|RANDOM|SRANDOM|PPID|BASH_ARGV|SHELLOPTS|_|HISTCMD|LINENO|BASH_LINENO|BASH_SOURCE|BASH_ARGC|SECONDS|TANDEM)';
		pwd; cd - >/dev/null 2>&1; echo $? $((SECONDS < 2)); umask; shopt; set -o; fds=(/proc/$$/fd/*); echo "${#fds[@]}"; ulimit -a | grep -v real-time`
	link := filepath.Join(t.TempDir(), "link to")
	target := t.TempDir()
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", "/", link, target, filepath.Join(target, "new", "it's")} {
		time.Sleep(1100 * time.Millisecond) // so that SECONDS would tell
		outs := map[string]string{}
		for name, m := range map[string]*sessions.Manager{"warm": warm, "cold": cold} {
			s, err := m.Create(sessions.Options{Cwd: dir, Name: "n"})
			if err != nil {
				t.Fatal(err)
			}
			if info := s.Info(); info.Name != "n" || time.Since(info.CreatedAt) > time.Second || dir != "" && info.Cwd != dir {
				t.Errorf("%s in %q: %+v", name, dir, info)
			}
			outs[name] = sessionstest.Run(t, s, look).Stdout
			if err := m.Delete(s.ID()); err != nil {
				t.Error(err)
			}
		}
		if outs["warm"] != outs["cold"] {
			t.Errorf("in %q:\n%s", dir, difference(outs["warm"], outs["cold"]))
		}
	}
}

func difference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("line %d: %q and %q", i, x[i], y[i])
		}
	}
	return fmt.Sprintf("%d and %d lines", len(x), len(y))
}

// Warm sessions are nobody's: they are in no list and count against no limit, and one that
// has died, or lost its directory, is not given to anybody.
func TestWarmSessionsAreNobodys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	m := sessionstest.New(t, sessions.Config{Dir: dir, Warm: 3, MaxSessions: 1})
	private := func() []string {
		dirs, _ := filepath.Glob(filepath.Join(dir, "*", "[0-9]*", "c"))
		return dirs
	}
	for end := time.Now().Add(sessionstest.Patience); len(private()) < 3; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("warm: %q", private())
		}
	}
	if n := len(m.List()); n != 0 {
		t.Errorf("%d are listed", n)
	}
	for _, c := range private() {
		if err := os.RemoveAll(filepath.Dir(c)); err != nil {
			t.Fatal(err)
		}
	}
	s := sessionstest.Session(t, m)
	if got := sessionstest.Run(t, s, "echo well").Stdout; got != "well\n" {
		t.Errorf("got %q", got)
	}
	if got := sessionstest.Restarts(t, s); len(got) != 0 {
		t.Errorf("it was restarted: %q", got)
	}
	if _, err := m.Create(sessions.Options{}); err == nil {
		t.Error("there are more than the limit allows")
	}
	if err := m.Delete(s.ID()); err != nil {
		t.Error(err)
	}
}
