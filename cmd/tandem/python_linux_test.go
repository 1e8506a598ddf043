package main

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestPythonClient runs the tests of the client in httpapi/python against the built program,
// and sees that they leave no process and no file behind.
func TestPythonClient(t *testing.T) {
	t.Parallel()
	p := &program{t: t, tmp: t.TempDir(), mark: "PROGRAM_TEST=" + strconv.Itoa(os.Getpid()) + "/" + t.Name()}
	t.Cleanup(func() {
		for _, pr := range p.processes() {
			_ = syscall.Kill(pr.pid, syscall.SIGKILL)
		}
	})
	cert, key := certify(t, t.TempDir(), 1)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "python3", "-B", "-W", "error", "test_tandem.py")
	cmd.Dir = "../../httpapi/python"
	cmd.Env = append(os.Environ(), p.mark, "TMPDIR="+p.tmp, "TANDEM_BIN="+buildProgram(t), "TLS_CERT="+cert, "TLS_KEY="+key)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p.nothingIsLeft()
}
