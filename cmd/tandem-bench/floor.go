package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"time"
)

// A bare is a process on two pipes with nothing between it and us: what no server can beat.
type bare struct {
	cmd *exec.Cmd
	in  *os.File
	out *os.File
	buf []byte
}

func startBash() (*bare, error) { return startBare("bash", "--norc", "--noprofile") }

func startBare(argv ...string) (*bare, error) { return startPiped(exec.Command(argv[0], argv[1:]...)) }

func startPiped(cmd *exec.Cmd) (*bare, error) {
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, inR.Close(), inW.Close())
	}
	b := &bare{cmd: cmd, in: inW, out: outR, buf: make([]byte, 4096)}
	b.cmd.Stdin, b.cmd.Stdout = inR, outW
	err = errors.Join(b.cmd.Start(), inR.Close(), outW.Close())
	if err != nil {
		return nil, errors.Join(err, inW.Close(), outR.Close())
	}
	return b, nil
}

// ask writes a line and reads an answer of want bytes.
func (b *bare) ask(line string, want int) error {
	if _, err := io.WriteString(b.in, line); err != nil {
		return err
	}
	_, err := io.ReadFull(b.out, b.buf[:want])
	return err
}

// end lets the process end by itself.
func (b *bare) end() error {
	return errors.Join(b.in.Close(), b.cmd.Wait(), b.out.Close())
}

func (b *bare) kill() {
	_ = b.cmd.Process.Kill()
	_ = b.in.Close()
	_ = b.out.Close()
	_ = b.cmd.Wait()
}

// bareProbe writes line to a bash, which answers with one character and a newline.
func bareProbe(line string) (*probe, error) {
	sh, err := startBash()
	if err != nil {
		return nil, err
	}
	return sh.probe(line, len(".\n")), nil
}

// bareKeyProbe sends single bytes through cat.
func bareKeyProbe() (*probe, error) {
	cat, err := startBare("cat")
	if err != nil {
		return nil, err
	}
	return cat.probe("k", len("k")), nil
}

func (b *bare) probe(line string, want int) *probe {
	return &probe{func() (time.Duration, error) {
		start := time.Now()
		err := b.ask(line, want)
		return time.Since(start), err
	}, b.kill}
}

// bareLifeProbe starts a bash, has it run true, and waits for its end.
func bareLifeProbe() (*probe, error) {
	return &probe{func() (time.Duration, error) {
		start := time.Now()
		sh, err := startBash()
		if err != nil {
			return 0, err
		}
		if err := sh.ask("true; echo .\n", len(".\n")); err != nil {
			sh.kill()
			return 0, err
		}
		err = sh.end()
		return time.Since(start), err
	}, func() {}}, nil
}

// bareFlood has a bash run code and reads size bytes of output from its pipe. It returns
// amount in a second.
func bareFlood(code string, size int, amount float64) (float64, error) {
	buf := make([]byte, bigBuffer)
	start := time.Now()
	sh, err := startBare("bash", "--norc", "--noprofile", "-c", code)
	if err != nil {
		return 0, err
	}
	got := 0
	for {
		n, err := sh.out.Read(buf)
		got += n
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			sh.kill()
			return 0, err
		}
	}
	took := time.Since(start)
	if err := sh.end(); err != nil {
		return 0, err
	}
	if got != size {
		return 0, fmt.Errorf("%d bytes instead of %d", got, size)
	}
	return amount / took.Seconds(), nil
}

// bareFanout sends size bytes that are in memory already to each of n readers over loopback
// TCP, and returns the MB/s of all of them.
func bareFanout(n, size int) (float64, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	readers, writers := make([]*wire, n), make([]net.Conn, n)
	for i := range n {
		if readers[i], err = dial(l.Addr().String(), viewerBuffer); err != nil {
			return 0, err
		}
		defer readers[i].c.Close()
		if writers[i], err = l.Accept(); err != nil {
			return 0, err
		}
		defer writers[i].Close()
	}
	data := make([]byte, 64<<10)
	start := time.Now()
	err = concurrently(2*n, func(i int) error {
		if i < n {
			return writeAll(writers[i], data, size)
		}
		return readAll(readers[i-n], size)
	})
	return float64(n) * float64(size) / megabyte / time.Since(start).Seconds(), err
}

func writeAll(w io.Writer, data []byte, size int) error {
	for size > 0 {
		n, err := w.Write(data[:min(size, len(data))])
		if err != nil {
			return err
		}
		size -= n
	}
	return nil
}

func readAll(w *wire, size int) error {
	for size > 0 {
		p, err := w.upTo(size)
		if err != nil {
			return err
		}
		size -= len(p)
	}
	return nil
}
