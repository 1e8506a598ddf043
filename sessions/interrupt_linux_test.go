package sessions

import (
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
			sh := heldShell{cmd.Process.Pid, "bash"}
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
