package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hostile starts whatever gets away from a process that ends what it has started. TAG is in
// the command line of each, and PROGRAM is this program. The storm is bounded: each of its
// chains ends by itself after so many links.
const hostile = `
	setsid sleep 1000.TAG &
	( ( sleep 1000.TAG & ) & )
	bash -c 'trap "" TERM INT HUP QUIT USR1; while :; do sleep 1000.TAG; done' &
	bash -c 'kill -STOP $$; : 1000.TAG' &
	(set -m; sleep 1000.TAG & disown)
	env -i setsid bash -c 'exec 0<&- 1>&- 2>&-; exec sleep 1000.TAG' &
	nohup sleep 1000.TAG >/dev/null 2>&1 & disown
	coproc sleep 1000.TAG
	cat <(sleep 1000.TAG) &
	TMPDIR=$PWD PROGRAM serve --listen unix:$PWD/1000.TAG >/dev/null 2>&1 &
	for i in 1 2 3; do
		bash -c 'trap "" TERM INT; link() { (($1)) && { link $(($1 - 1)) & }; }; link 20000; : 1000.TAG' &
	done
	echo started
`

// hostiles is how many of them there are at least, beside the storm.
const hostiles = 11

// TestLeftover ends sessions in every way there is, with everything in them that gets away,
// and looks from outside whether anything is left.
func TestLeftover(t *testing.T) {
	t.Parallel()
	bin := buildProgram(t)
	for name, c := range map[string]struct {
		vars  []string
		end   func(p *program, id string)
		lives bool // the server does
	}{
		"delete": {end: func(p *program, id string) {
			if status, answer := request(p.t, "DELETE", p.url+"/session/"+id, "", nil); status != http.StatusOK {
				p.t.Errorf("delete: %d %s", status, answer)
			}
			if left := p.tagged(id); len(left) > 0 {
				p.t.Errorf("deleted, and there is still %q", left)
			}
		}, lives: true},
		"idle":                   {vars: []string{"TANDEM_IDLE_TIMEOUT=500ms"}, end: func(*program, string) {}, lives: true},
		"SIGTERM":                {end: func(p *program, _ string) { p.signal(syscall.SIGTERM) }},
		"SIGINT":                 {end: func(p *program, _ string) { p.signal(syscall.SIGINT) }},
		"SIGKILL":                {end: func(p *program, _ string) { p.signal(syscall.SIGKILL) }},
		"at once":                {end: func(p *program, _ string) { p.signal(syscall.SIGTERM); p.signal(syscall.SIGINT) }},
		"guardian, then SIGKILL": {end: func(p *program, _ string) { p.killGuardian(); p.signal(syscall.SIGKILL) }},
		"SIGABRT":                {end: func(p *program, _ string) { p.signal(syscall.SIGABRT) }}, // as by a panic that nobody recovers
		"no output":              {end: func(p *program, _ string) { p.signal(syscall.SIGPIPE); p.signal(syscall.SIGTERM) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProgram(t, append([]string{"env"}, append(c.vars, bin)...)...)
			id := p.session()
			p.startHostile(bin, id)
			p.privateDirIsPrivate()
			c.end(p, id)
			p.eventually("left behind", func() string { return strings.Join(p.tagged(id), "\n") })
			if c.lives {
				p.eventually("zombies", p.zombies)
				p.signal(syscall.SIGTERM)
			}
			<-p.exited
			p.nothingIsLeft()
		})
	}
}

// The time limit of a run ends what it started, and neither the shell nor what earlier runs
// started.
func TestLeftoverOfTimedOutRun(t *testing.T) {
	t.Parallel()
	bin := buildProgram(t)
	p := startProgram(t, bin)
	id := p.session()
	ask := func(code string, ms int) string {
		body := fmt.Sprintf(`{"code":%s,"timeout_ms":%d}`, strconv.Quote(code), ms)
		_, answer := request(t, "POST", p.url+"/session/"+id+"/run", body, asJSON)
		return answer
	}
	ask("kept=yes; sleep 999."+tagOf(id)+" & disown", 0)
	if answer := ask(p.hostile(bin, id)+"\nsleep 1000."+tagOf(id), 1500); !strings.Contains(answer, `"reason":"timed_out"`) || !strings.Contains(answer, "started") {
		t.Errorf("answer %s", answer)
	}
	p.eventually("left behind", func() string { return strings.Join(p.tagged(id), "\n") })
	if answer := ask("echo $kept; pgrep -cf 'sleep [9]99."+tagOf(id)+"'", 0); !strings.Contains(answer, `"stdout":"yes\n1\n"`) {
		t.Errorf("afterwards %s", answer)
	}
	p.eventually("zombies", p.zombies)
}

// killGuardian returns when another has taken its place.
func (p *program) killGuardian() {
	p.t.Helper()
	guardian := func() (pid int) {
		for _, pr := range p.processes() {
			if strings.Contains(pr.command, " guard ") && parentOf(pr.pid) == p.cmd.Process.Pid {
				return pr.pid
			}
		}
		return 0
	}
	first := guardian()
	_ = syscall.Kill(first, syscall.SIGKILL)
	p.eventually("another guardian", func() string {
		if now := guardian(); now == 0 || now == first {
			return "there is none"
		}
		return ""
	})
}

// tagOf is a number that is in no other command line.
func tagOf(id string) string {
	n, _ := strconv.ParseUint(strings.ReplaceAll(id, "-", "")[:12], 16, 64)
	return strconv.FormatUint(n, 10)
}

func (p *program) hostile(bin, id string) string {
	return strings.NewReplacer("TAG", tagOf(id), "PROGRAM", bin).Replace("cd " + p.t.TempDir() + "\n" + hostile)
}

// startHostile returns once all of them are there.
func (p *program) startHostile(bin, id string) {
	p.t.Helper()
	p.t.Cleanup(func() {
		for _, command := range p.tagged(id) {
			pid, _, _ := strings.Cut(command, " ")
			n, _ := strconv.Atoi(pid)
			_ = syscall.Kill(n, syscall.SIGKILL)
		}
	})
	body := fmt.Sprintf(`{"code":%s}`, strconv.Quote(p.hostile(bin, id)))
	if status, answer := request(p.t, "POST", p.url+"/session/"+id+"/run", body, asJSON); status != http.StatusOK || !strings.Contains(answer, "started") {
		p.t.Fatalf("%d %s", status, answer)
	}
	for end := time.Now().Add(deadline); len(p.tagged(id)) < hostiles; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("only %q", p.tagged(id))
		}
	}
}

// tagged finds by their command lines what hostile has started.
func (p *program) tagged(id string) (found []string) {
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range names {
		command, _ := os.ReadFile(name)
		if bytes.Contains(command, []byte("1000."+tagOf(id))) {
			found = append(found, filepath.Base(filepath.Dir(name))+" "+string(bytes.ReplaceAll(command, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// zombies complains of dead children that the program has not buried.
func (p *program) zombies() string {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		b, _ := os.ReadFile(name)
		if f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])); len(f) > 1 && f[0] == "Z" && f[1] == strconv.Itoa(p.cmd.Process.Pid) {
			return string(b)
		}
	}
	return ""
}

func (p *program) privateDirIsPrivate() {
	p.t.Helper()
	dirs, _ := filepath.Glob(filepath.Join(p.tmp, "tandem-*"))
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			p.t.Errorf("%s: %v, %v", dir, info.Mode(), err)
		}
	}
	if len(dirs) == 0 {
		p.t.Error("no private directory")
	}
}
