package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A server and its guardian that are killed together leave what no shell holds. The next
// server ends that, and leaves alone what a living one has.
func TestSweep(t *testing.T) {
	t.Parallel()
	bin, dir := buildProgram(t), t.TempDir()
	start := func() *program { return startProgram(t, "env", "TMPDIR="+dir, bin) }
	dead, living := start(), start()
	for p, time := range map[*program]string{dead: "4711", living: "4712"} {
		status, answer := request(t, "POST", p.url+"/session/"+p.session()+"/run", `{"code":"setsid sleep `+time+` >/dev/null 2>&1 </dev/null & disown; echo ok"}`, asJSON)
		if status != http.StatusOK {
			t.Fatalf("%d %s", status, answer)
		}
	}
	running := func(command string) (pids []int) {
		for _, pr := range dead.processes() {
			if strings.Contains(pr.command, command) {
				pids = append(pids, pr.pid)
			}
		}
		return pids
	}
	dead.eventually("the processes run", func() string {
		if len(running("sleep 4711")) != 1 || len(running("sleep 4712")) != 1 {
			return fmt.Sprint(dead.processes())
		}
		return ""
	})
	var shells []int
	for _, pid := range running("--noediting") {
		if parentOf(pid) == dead.cmd.Process.Pid {
			shells = append(shells, pid)
		}
	}
	if len(shells) == 0 {
		t.Fatal("the server has no shells")
	}
	for _, pid := range running(" guard ") {
		if parentOf(pid) == dead.cmd.Process.Pid {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	_ = dead.cmd.Process.Kill()
	<-dead.exited
	dead.eventually("the shells end by themselves", func() string {
		if left := slices.DeleteFunc(running("--noediting"), func(pid int) bool { return !slices.Contains(shells, pid) }); len(left) > 0 {
			return fmt.Sprint(left)
		}
		return ""
	})
	if len(running("sleep 4711")) != 1 {
		t.Fatal("nothing is left that could be swept")
	}
	sweeper := start()
	dead.eventually("what the dead server left", func() string {
		if left := running("sleep 4711"); len(left) > 0 {
			return fmt.Sprint(left)
		}
		return ""
	})
	if dirs, _ := filepath.Glob(filepath.Join(dir, "tandem-*")); len(dirs) != 2 {
		t.Errorf("directories: %q, want those of the two that live", dirs)
	}
	if len(running("sleep 4712")) != 1 {
		t.Error("what the living server has was ended")
	}
	for _, p := range []*program{living, sweeper} { // killed, they would leave their cgroups
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		if code := p.ended(deadline); code != exitOK {
			t.Errorf("exit code %d", code)
		}
	}
}

func parentOf(pid int) (ppid int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0 // it has ended
	}
	_, rest, _ := strings.Cut(string(b), "PPid:")
	_, _ = fmt.Sscan(rest, &ppid)
	return ppid
}
