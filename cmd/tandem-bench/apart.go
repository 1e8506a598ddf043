package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// An apart is a bash that gives each run a stdin, stdout and stderr of its own and tells its
// exit status: the least that the answer about a run is made from.
type apart struct {
	sh  *bare       // its own stdout is where it tells
	dir string      // of the FIFOs
	out [2]*os.File // what runs write to
	buf []byte
}

func startApart() (a *apart, err error) {
	a = &apart{buf: make([]byte, 64<<10)}
	if a.dir, err = os.MkdirTemp("/dev/shm", "tandem-bench-"); err != nil {
		a.dir, err = os.MkdirTemp("", "tandem-bench-")
	}
	if err != nil {
		return nil, err
	}
	for i, name := range []string{"1", "2"} {
		path := filepath.Join(a.dir, name)
		if err := unix.Mkfifo(path, 0o600); err != nil {
			a.kill()
			return nil, err
		}
		// Opened for writing too, it has no end.
		if a.out[i], err = os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0); err != nil {
			a.kill()
			return nil, err
		}
	}
	// An interactive bash reads its commands in blocks, any other byte by byte.
	cmd := exec.Command("bash", "--norc", "--noprofile", "--noediting", "-i")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if a.sh, err = startPiped(cmd); err != nil {
		a.kill()
		return nil, err
	}
	return a, nil
}

// run runs code to its end.
func (a *apart) run(code string) (stdout, stderr []byte, status string, err error) {
	line := "eval '" + strings.ReplaceAll(code, "'", `'\''`) + "' </dev/null >" + a.dir + "/1 2>" + a.dir + `/2; printf '%s\0' "$?"` + "\n"
	if _, err := io.WriteString(a.sh.in, line); err != nil {
		return nil, nil, "", err
	}
	for n := 0; ; {
		got, err := a.sh.out.Read(a.buf[n:])
		if err != nil {
			return nil, nil, "", err
		}
		if n += got; a.buf[n-1] == 0 {
			status = string(a.buf[:n-1])
			break
		}
	}
	for i, to := range []*[]byte{&stdout, &stderr} {
		if *to, err = held(a.out[i], a.buf); err != nil {
			return nil, nil, "", err
		}
	}
	return stdout, stderr, status, nil
}

// held is what a pipe holds.
func held(f *os.File, buf []byte) (p []byte, err error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	cerr := rc.Control(func(fd uintptr) {
		var n int
		for n, err = unix.Read(int(fd), buf); n > 0; n, err = unix.Read(int(fd), buf) {
			p = append(p, bytes.Clone(buf[:n])...)
		}
	})
	if errors.Is(err, unix.EAGAIN) {
		err = nil
	}
	return p, errors.Join(cerr, err)
}

func (a *apart) kill() {
	if a.sh != nil {
		a.sh.kill()
	}
	for _, f := range a.out {
		if f != nil {
			_ = f.Close()
		}
	}
	_ = os.RemoveAll(a.dir)
}
