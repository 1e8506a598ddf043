package sessions

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Bash is never held where an interrupt would have it interrupt itself for ever: stopped at just
// any moment of these loops, one time of fifty.
func TestHold(t *testing.T) {
	t.Parallel()
	for _, loop := range []string{"(:)", "/bin/true"} {
		t.Run(loop, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command("bash", "--norc", "--noediting", "-i")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			cmd.Stdin = strings.NewReader("set +m\nwhile :; do " + loop + "; done\n")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
				_ = cmd.Wait()
			}()
			for end := time.Now().Add(20 * time.Second); reapedBy(cmd.Process.Pid) < 5000; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("there is no loop")
				}
			}
			sh := heldShell{cmd.Process.Pid, "bash", func() bool { return false }}
			for range 400 {
				sh.hold()
				if sh.stage() == stageHandler {
					t.Error("held while it sets its handler")
				}
				sh.goOn()
			}
		})
	}
}

// A child that has ended and was not waited for yet shows that the shell has not come to do that.
func TestWaitsForTurn(t *testing.T) {
	t.Parallel()
	const untilAlone = "until read -r comm </proc/$$/comm && [ $comm = sleep ]; do sleep 0.01; done" // bash would wait for it
	for code, want := range map[string]bool{untilAlone + " & exec sleep 1000": true, "sleep 1000 & exec sleep 1000": false} {
		set := procSet{newLabel(1238, uint64(len(code)), 0), wholeSession, &census{}}
		cmd := exec.Command("bash", "-c", code)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		pid := cmd.Process.Pid
		t.Cleanup(func() { _ = unix.Kill(-pid, unix.SIGKILL); _ = cmd.Wait() })
		if err := set.want.attach(pid); err != nil {
			t.Fatal(err)
		}
		sh := heldShell{pid: pid, comm: "sleep"}
		settled := func() bool {
			st, _ := readStat(pid)
			return st.comm == "sleep" && st.state == 'S' && len(childrenOf(pid)) == 1 && sh.waitsForTurn() == want
		}
		if poll(10*time.Second, settled); !settled() {
			t.Errorf("%q: not %t", code, want)
		}
	}
}

// A shell that has said that it is leaving is let go on without an interrupt, which would keep it
// from telling its state.
func TestInterruptLetsGoOfAShellThatLeaves(t *testing.T) {
	t.Parallel()
	set := procSet{newLabel(1237, 1, 0), wholeSession, &census{}}
	pid := startLabelled(t, set.want, "sleep", "1000").Process.Pid // an interrupt would end it
	asked := 0
	sh := heldShell{pid, "sleep", func() bool {
		asked++
		if st, _ := readStat(pid); st.state != 'T' {
			t.Errorf("asked while the shell is in state %c", st.state)
		}
		return true
	}}
	for _, hits := range []hitList{{}, {pid: hit{comm: "sleep"}}} {
		if sent := hits.interruptForeground(set, set, sh, false); !sent.IsZero() {
			t.Error("an interrupt was sent")
		}
	}
	poll(10*time.Second, func() bool { st, _ := readStat(pid); return st.state == 'S' })
	if st, _ := readStat(pid); st.state != 'S' || asked != 2 {
		t.Errorf("in state %c afterwards, asked %d times", st.state, asked)
	}
}

// A shell throws an interrupt away that comes when the command it waits for has ended by itself. Where
// it may have a trap that is only said of one that is sure to: not where what has ended was in the
// background, or had ways of its own.
func TestLost(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, code string
		sig        syscall.Signal // what ends it; 0: it does so by itself
		want       bool
	}{
		{"by itself", "sleep 1000 & cat FIFO", 0, true},
		{"of another signal", "sleep 1000 & cat FIFO", unix.SIGTERM, true},
		{"of the interrupt", "sleep 1000 & cat FIFO", unix.SIGINT, false},
		{"in the background", "cat FIFO & wait", 0, false},
		{"a subshell", "(read <FIFO)", 0, false},
		{"with a handler", `bash -c 'trap "exit 3" INT; read <FIFO'`, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			fifo := t.TempDir() + "/fifo"
			if err := unix.Mkfifo(fifo, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("bash", "--norc", "--noediting", "-i")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			cmd.Stdin = strings.NewReader("set +m\ntrap : INT\n" + strings.ReplaceAll(c.code, "FIFO", fifo) + "\n")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			pid := cmd.Process.Pid
			defer func() {
				_ = unix.Kill(-pid, unix.SIGKILL)
				_ = cmd.Wait()
			}()
			w, err := os.OpenFile(fifo, os.O_WRONLY, 0) // once it is being read
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			sh := heldShell{pid, "bash", func() bool { return false }}
			poll(10*time.Second, func() bool { st, _ := readStat(pid); return st.state == 'S' })
			waits, mortal, _ := sh.hold()
			if sh.stage() != stageWait || sh.lost(waits, mortal, true) {
				t.Fatalf("in stage %d, lost %t", sh.stage(), sh.lost(waits, mortal, true))
			}
			children := childrenOf(pid)
			last := children[len(children)-1]
			if c.sig != 0 {
				_ = unix.Kill(last, c.sig)
			}
			w.Close()
			poll(10*time.Second, func() bool { return !alive(last) })
			if got := sh.lost(waits, mortal, true); got != c.want {
				t.Errorf("lost %t, want %t", got, c.want)
			}
		})
	}
}
