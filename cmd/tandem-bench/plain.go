package main

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
)

// plainVariable makes this program, started by itself, a plain server.
const plainVariable = "TANDEM_BENCH_PLAIN"

// A plain server is the standard library's HTTP server with a bash behind it: what is left of
// a session server when all that sessions are for is left out. Over REST it gives each run a
// stdin, stdout and stderr of its own, and tells what came out and the status; over a WebSocket
// it is a bare bash. It shares nothing and records nothing. So it is the second floor, which no
// server that is written like ours gets below.
type plain struct{ place }

// openPlain starts one, which ends with ctx or stop.
func openPlain(ctx context.Context) (p *plain, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), plainVariable+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	in, err := cmd.StdinPipe() // it ends when this does
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop = func() { _ = in.Close(); _ = cmd.Wait() }
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return nil, nil, fmt.Errorf("start plain server: %w", err)
	}
	return &plain{place{strings.TrimSpace(addr), cmd.Process.Pid}}, stop, nil
}

func (*plain) name() string { return "plain" }

func (*plain) linesOfEvent() int { return 3 }

func (*plain) garbles(error) bool { return false }

func (*plain) idleShells(int) (func() error, error) { return nil, errors.ErrUnsupported }

func (p *plain) shell() (shell, error) {
	ws, err := dialWS(p.host, "/ws", "", bigBuffer)
	return &plainShell{ws}, err
}

// A plainShell is a bash whose stdin and stdout are the two directions of a WebSocket.
type plainShell struct{ ws *wsConn }

func (s *plainShell) command(code string, _ bool) error { return s.stdin([]byte(code + "\n")) }

func (s *plainShell) stdin(p []byte) error { return s.ws.send(opBinary, nil, p) }

func (s *plainShell) read() ([]byte, error) {
	_, p, err := s.ws.next()
	return p, err
}

func (s *plainShell) settle() error { return nil }

func (s *plainShell) close() { s.ws.close() }

// servePlain serves until its stdin ends.
func servePlain(stdin io.Reader, stdout io.Writer) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &plainServer{shells: map[string]*apart{}}
	web := &http.Server{Handler: s.handler()}
	done := make(chan error, 1)
	go func() { done <- web.Serve(ln) }()
	_, _ = fmt.Fprintln(stdout, ln.Addr())
	_, _ = io.Copy(io.Discard, stdin)
	_ = web.Close()
	<-done
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sh := range s.shells {
		sh.kill()
	}
	return nil
}

type plainServer struct {
	mu     sync.Mutex
	last   int
	shells map[string]*apart
}

func (s *plainServer) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ping", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /session", s.create)
	mux.HandleFunc("POST /session/{id}/run", s.run)
	mux.HandleFunc("DELETE /session/{id}", s.remove)
	mux.HandleFunc("GET /ws", serveShell)
	return mux
}

func (s *plainServer) create(w http.ResponseWriter, _ *http.Request) {
	sh, err := startApart()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.mu.Lock()
	s.last++
	id := strconv.Itoa(s.last)
	s.shells[id] = sh
	s.mu.Unlock()
	_, _ = fmt.Fprintf(w, `{"session_id":%q}`, id)
}

func (s *plainServer) run(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Command string `json:"command"`
	}
	err := json.NewDecoder(r.Body).Decode(&in)
	s.mu.Lock()
	sh := s.shells[r.PathValue("id")]
	s.mu.Unlock()
	var stdout, stderr []byte
	var status string
	if err == nil && sh != nil {
		stdout, stderr, status, err = sh.run(in.Command)
	}
	if err != nil || sh == nil {
		http.Error(w, fmt.Sprint(err), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for kind, text := range map[string][]byte{"stdout": stdout, "stderr": stderr} {
		if len(text) > 0 {
			_, _ = fmt.Fprintf(w, "data: {\"type\":%q,\"text\":%q}\n\n", kind, text)
		}
	}
	_, _ = io.WriteString(w, "data: {\"type\":\"execution_complete\",\"exit_code\":"+status+"}\n\n")
}

func (s *plainServer) remove(_ http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	s.mu.Lock()
	sh := s.shells[id]
	delete(s.shells, id)
	s.mu.Unlock()
	if sh != nil {
		sh.kill()
	}
}

// serveShell joins a bash and a WebSocket until either ends.
func serveShell(w http.ResponseWriter, r *http.Request) {
	// RFC 6455, section 4.2.2.
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	sh, err := startBash()
	if err != nil {
		return
	}
	if _, err := fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:])); err != nil {
		sh.kill()
		return
	}
	var copying sync.WaitGroup
	copying.Go(func() { sendOutput(c, sh.out); c.Close() })
	_, _ = io.Copy(sh.in, &frames{r: rw.Reader})
	sh.kill()
	copying.Wait()
}

// sendOutput sends what is read, each read as a frame.
func sendOutput(w io.Writer, out *os.File) {
	const header = 10
	buf := make([]byte, header+64<<10)
	for {
		n, err := out.Read(buf[header:])
		if err != nil {
			return
		}
		start := 0
		switch {
		case n < 126:
			start = header - 2
			buf[start+1] = byte(n)
		case n < 1<<16:
			start = header - 4
			buf[start+1] = 126
			binary.BigEndian.PutUint16(buf[start+2:], uint16(n))
		default:
			buf[1] = 127
			binary.BigEndian.PutUint64(buf[2:], uint64(n))
		}
		buf[start] = finBit | opBinary
		if _, err := w.Write(buf[start : header+n]); err != nil {
			return
		}
	}
}

// frames reads the payload of frames that our own client has masked with zeros and that are
// shorter than 64 KiB.
type frames struct {
	r    *bufio.Reader
	left int
}

func (f *frames) Read(p []byte) (int, error) {
	if f.left == 0 {
		var h [4]byte
		if _, err := io.ReadFull(f.r, h[:2]); err != nil {
			return 0, err
		}
		if f.left = int(h[1] &^ maskBit); f.left == 126 {
			if _, err := io.ReadFull(f.r, h[:2]); err != nil {
				return 0, err
			}
			f.left = int(binary.BigEndian.Uint16(h[:2]))
		}
		if _, err := f.r.Discard(4); err != nil {
			return 0, err
		}
	}
	n, err := f.r.Read(p[:min(len(p), f.left)])
	f.left -= n
	return n, err
}
