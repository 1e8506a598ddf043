package sessions

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestFindCgroup(t *testing.T) {
	t.Parallel()
	const unified = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
	for name, c := range map[string]struct{ mounts, in, want string }{
		"unified":      {"22 1 8:1 / / rw - ext4 /dev/sda rw\n" + unified, "0::/system.slice/tandem.service\n", "/sys/fs/cgroup/system.slice/tandem.service"},
		"root":         {unified, "0::/\n", "/sys/fs/cgroup"},
		"hybrid":       {"31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", "4:cpu:/a\n0::/b\n", "/sys/fs/cgroup/unified/b"},
		"bind mount":   {"40 1 0:26 /docker/c1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n", "0::/docker/c1/inner\n", "/sys/fs/cgroup/inner"},
		"out of mount": {"40 1 0:26 /docker/c1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n", "0::/docker/c2\n", ""},
		"version 1":    {"31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n", "4:cpu:/a\n", ""},
		"empty":        {"", "", ""},
		"torn":         {"29 23\n", "0::\n", ""},
	} {
		if got, err := findCgroup(c.mounts, c.in); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
}

// Where the machine has cgroups for us, sessions live in them, and none stays.
func TestSessionsLiveInCgroups(t *testing.T) {
	t.Parallel()
	m, err := New(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.Create(Options{})
	if err != nil {
		t.Fatal(err)
	}
	path := m.cgroup.dir()
	if m.cgroup == nil {
		if _, err := newCgroup(1); err == nil {
			t.Error("there are cgroups, and they are not used")
		}
	} else {
		in, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(s.shellPid()), "cgroup"))
		if !strings.Contains(string(in), filepath.Base(path)+"/1\n") {
			t.Errorf("the shell is in %s", in)
		}
	}
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if path == "" {
		return
	}
	if _, err := os.Stat(path); err == nil {
		t.Errorf("%s is left behind", path)
	}
}

func FuzzFindCgroup(f *testing.F) {
	f.Add("29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/a\n")
	f.Add("40 1 0:26 /docker/c1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n", "4:cpu:/b\n0::/docker/c1/inner\n")
	f.Fuzz(func(t *testing.T, mounts, in string) {
		if dir, err := findCgroup(mounts, in); (dir == "") == (err == nil) {
			t.Errorf("%q, %v", dir, err)
		}
	})
}
