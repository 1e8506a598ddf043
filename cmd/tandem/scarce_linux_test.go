package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
)

var asJSON = http.Header{"Accept": {"application/json"}}

// Where there are no descriptors left, sessions and connections are refused or wait, with an
// error that says so; those that are there go on, and with the shortage the errors end.
func TestNoDescriptorsLeft(t *testing.T) {
	t.Parallel()
	p := startProgram(t, "bash", "-c", `ulimit -n 64; exec "$0" "$@"`, buildProgram(t))
	kept := p.session()
	var others []string
	refused := ""
	for range 20 {
		status, answer := request(t, "POST", p.url+"/session", "", nil)
		if status != http.StatusOK {
			refused = fmt.Sprint(status, " ", answer)
			break
		}
		_, rest, _ := strings.Cut(answer, `"session_id":"`)
		id, _, _ := strings.Cut(rest, `"`)
		others = append(others, id)
	}
	if !strings.Contains(refused, "500") || !strings.Contains(refused, "too many open files") {
		t.Errorf("refused with %q", refused)
	}
	for _, id := range others {
		if status, answer := request(t, "DELETE", p.url+"/session/"+id, "", nil); status != http.StatusOK {
			t.Fatalf("%d %s", status, answer)
		}
	}
	if status, answer := request(t, "POST", p.url+"/session/"+kept+"/run", `{"code":"echo here"}`, asJSON); status != http.StatusOK || !strings.Contains(answer, `"stdout":"here\n"`) {
		t.Errorf("afterwards: %d %s", status, answer)
	}
	// As many silent connections as there are descriptors, and more.
	var silent []net.Conn
	defer func() {
		for _, nc := range silent {
			_ = nc.Close()
		}
	}()
	for range 200 {
		nc, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, nc)
	}
	if status, answer := request(t, "POST", p.url+"/session/"+kept+"/run", `{"code":"echo here"}`, asJSON); status != http.StatusOK || !strings.Contains(answer, `"stdout":"here\n"`) {
		t.Errorf("among silent connections: %d %s", status, answer)
	}
}

// A full disk fails what needs room on it, says so, and leaves the rest alone.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	p := startProgram(t, "bash", "-c", `ulimit -f 64; exec "$0" "$@"`, buildProgram(t))
	id := p.session()
	long := strings.Repeat("x", 200<<10)
	status, answer := request(t, "POST", p.url+"/session/"+id+"/run", `{"code":": `+long+`"}`, asJSON)
	if status != http.StatusInternalServerError || !strings.Contains(answer, "file too large") {
		t.Errorf("%d %.200s", status, answer)
	}
	if status, answer := request(t, "POST", p.url+"/session/"+id+"/run", `{"code":"echo here"}`, asJSON); status != http.StatusOK || !strings.Contains(answer, `"stdout":"here\n"`) {
		t.Errorf("afterwards: %d %s", status, answer)
	}
}

// Ten thousand connections that say nothing cost little, and nobody notices them.
func TestManySilentConnections(t *testing.T) {
	t.Parallel()
	p := startProgram(t, buildProgram(t))
	id := p.session()
	rss := func() (kib int) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), "VmRSS:")
		_, _ = fmt.Sscan(rest, &kib)
		return kib
	}
	before := rss()
	const many = 10000
	next, opened := make(chan int, many), make(chan error, many)
	for i := range many {
		next <- i
	}
	close(next)
	stop := make(chan struct{})
	for range 8 {
		go func() {
			var held []net.Conn
			for range next {
				nc, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
				if err == nil {
					held = append(held, nc)
				}
				if len(held) > 500 { // this process has a limit too
					_ = held[0].Close()
					held = held[1:]
				}
				opened <- err
			}
			<-stop
			for _, nc := range held {
				_ = nc.Close()
			}
		}()
	}
	for range many {
		if err := <-opened; err != nil {
			t.Error(err)
		}
	}
	for range 20 {
		if status, answer := request(t, "POST", p.url+"/session/"+id+"/run", `{"code":"echo here"}`, asJSON); status != http.StatusOK || !strings.Contains(answer, `"stdout":"here\n"`) {
			t.Errorf("%d %s", status, answer)
		}
	}
	if after := rss(); after-before > 150<<10 {
		t.Errorf("from %d to %d KiB", before, after)
	}
	close(stop)
}
