package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func attachTests() map[string]func(*testing.T, shell) {
	return map[string]func(*testing.T, shell){
		"attach: work":             testAttachWork,
		"attach: interrupt":        testAttachInterrupt,
		"attach: end of input":     testAttachEndOfInput,
		"attach: others":           testAttachOthers,
		"attach: view":             testAttachView,
		"attach: lines":            testAttachLines,
		"attach: paste":            testAttachPaste,
		"attach: narrow":           testAttachNarrow,
		"attach: wide":             testAttachWide,
		"attach: harmless output":  testAttachHarmless,
		"attach: flood":            testAttachFlood,
		"attach: cut connection":   testAttachCut,
		"attach: end of session":   testAttachSessionEnds,
		"attach: stopped server":   testAttachServerStopped,
		"attach: without terminal": testAttachPiped,
	}
}

// attach opens a session on a terminal, and waits until it can be used.
func (s shell) attach(t *testing.T, id string, columns int, args ...string) *terminal {
	t.Helper()
	term := openTerminal(t, s.command(t, append([]string{"attach", id}, args...)...), columns, 24)
	term.until("that it is there", func(screen string) bool {
		return strings.Contains(screen, "looking at ") || strings.Contains(screen, "attached to ") && strings.HasSuffix(screen, "\n$")
	})
	return term
}

// line types a line.
func (term *terminal) line(text string) { term.t.Helper(); term.types(text + "\r") }

func testAttachWork(t *testing.T, s shell) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "something-long"), []byte("found\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	id := s.session(t, "--name", "workplace", "--cwd", dir)
	s.must(t, "run", "-s", id, "--", "echo before")
	s.must(t, "run", "-s", id, "--", "n=0\necho two lines")
	term := s.attach(t, "workplace", 80)
	term.ends("attached to workplace: Ctrl-] detaches", "run 1 by ws: echo before", "before", "run 2 by ws: n=0 …", "two lines", "$")
	term.line("echo hello $((++n))")
	term.ends("$ echo hello $((++n))", "hello 1", "$")
	term.types("\x1b[A\r") // Up
	term.ends("$ echo hello $((++n))", "hello 2", "$")
	term.types("\x1b[A\x1b[A\r") // what was run before, as one line
	term.ends("$ n=0␊echo two lines", "two lines", "$")
	term.line("cat some\t")
	term.ends("$ cat something-long", "found", "$")
	term.line("(exit 3)")
	term.until("the exit code", func(screen string) bool { return strings.Contains(screen, "\nexited 3 after ") })
	term.line("no-such-thing 2>/dev/null; kill -9 $$")
	term.until("the new shell", func(screen string) bool { return strings.Contains(screen, "\nthe shell was replaced (signal)\n$") })
	// What is typed is not run before Enter, and Ctrl-C takes it away.
	term.types("echo this is dropped\x03echo kept\r")
	term.ends("$ echo kept", "kept", "$")
	term.types("\x1d")
	term.ended(0)
	term.ends("detached; the session goes on")
}

func testAttachInterrupt(t *testing.T, s shell) {
	id := s.session(t)
	term := s.attach(t, id, 80)
	for n := range 3 { // perhaps before it has begun, or before anybody has heard of it
		term.types("sleep 1000\r\x03")
		term.until("the end", func(screen string) bool {
			return strings.Count(screen, "$ sleep 1000\n") == n+1 && strings.HasSuffix(screen, "\n$")
		})
		term.line("echo between")
		term.ends("between", "$")
	}
	term.line("echo on; sleep 1000")
	term.ends("on", "»")
	term.types("\x03")
	term.until("the interrupt", func(screen string) bool {
		return strings.Contains(screen, "\ninterrupted 130 after ") && strings.HasSuffix(screen, "\n$")
	})
	term.line(`bash -c 'trap "echo no" INT; echo on; while :; do sleep 0.02; done'`)
	term.ends("on", "»")
	term.types("\x03")
	term.ends("no", "»")
	term.types("\x03")
	term.until("the end", func(screen string) bool { return strings.HasSuffix(screen, "\n$") })
	// A real SIGINT too, and SIGTERM to go.
	term.line("echo again; sleep 1000")
	term.ends("again", "»")
	_ = term.cmd.Process.Signal(syscall.SIGINT)
	term.until("the interrupt", func(screen string) bool { return strings.HasSuffix(screen, "\n$") })
	_ = term.cmd.Process.Signal(syscall.SIGTERM)
	term.ended(0)
}

func testAttachEndOfInput(t *testing.T, s shell) {
	id := s.session(t)
	term := s.attach(t, id, 30)
	term.line("printf 'x? '; cat; echo end")
	term.ends("x? »")
	term.line("a line that is longer than thirty columns are")
	term.ends("x? » a line that is longer tha", "n thirty columns are", "a line that is longer than thi", "rty columns are", "»")
	term.types("\x04")
	term.ends("rty columns are", "end", "$")
	term.types("\x1b[A") // input is not found by Up; what was run is
	term.ends("$ printf 'x? '; cat; echo end")
	term.types("\x03")
	term.line(`printf 'name: '; read x; echo "got $x"`)
	term.ends("name: »")
	term.line("bob")
	term.ends("name: » bob", "got bob", "$")
	term.types("\x1b[A\x15echo end\r")
	term.ends("$ echo end", "end", "$")
	term.types("\x04")
	term.ended(0)
}

func testAttachOthers(t *testing.T, s shell) {
	id := s.session(t, "--name", "shared")
	one, two := s.attach(t, id, 80), s.attach(t, id, 40)
	s.must(t, "run", "-s", id, "--", "echo from a program")
	for _, term := range []*terminal{one, two} {
		term.ends("run 1 by ws: echo from a program", "from a program", "$")
	}
	one.types("half a li")
	two.line("echo from two; sleep 0.1; echo bad >&2; read x")
	one.ends("run 2 by ws: echo from two; sleep 0.1; echo bad >&2; read x", "from two", "bad", "» half a li")
	one.types("ne\r") // input of what the other one runs
	two.ends("from two", "bad", "$")
	one.ends("» half a line", "$")
	two.types("\x1d")
	two.ended(0)
	one.line("echo on")
	one.ends("on", "$")
	// One that waits and is taken away is not the one that is on.
	one.line("echo there; cat; echo end")
	one.ends("there", "»") // that alone shows before it is on
	s.must(t, "run", "-s", id, "-d", "--run-id", "waiting", "--", "echo never")
	request(t, http.MethodDelete, s.server.url+"/session/"+id+"/run/waiting", "", nil)
	one.ends("run waiting ended before it began: canceled", "»")
	one.line("still input")
	one.ends("still input", "»")
	one.types("\x03")
	one.until("the end", func(screen string) bool {
		return strings.Contains(screen, "\ninterrupted 130") && strings.HasSuffix(screen, "\n$")
	})
	one.types("\x04")
	one.ended(0)
}

func testAttachView(t *testing.T, s shell) {
	id := s.session(t)
	term := s.attach(t, id, 80, "--view")
	term.types("echo typed\r\x04\t\x1b[A")
	s.must(t, "run", "-s", id, "--", "printf 'not typed'")
	term.ends("looking at "+id+": Ctrl-] detaches", "run 1 by ws: printf 'not typed'", "not typed")
	s.call(t, "run", "-s", id, "--", "echo; (exit 2)")
	term.until("the end", func(screen string) bool { return strings.Contains(screen, "\nexited 2 after ") })
	term.types("\x03")
	term.ended(0)
	if screen := term.screen(); strings.Contains(screen, "$ ") || strings.Contains(screen, "»") || strings.Contains(screen, "echo typed") {
		t.Errorf("%s", screen)
	}
	if runs := unmarshal[[]runInfo](t, s.must(t, "ls", id, "--json")); len(runs) != 2 {
		t.Errorf("%+v", runs)
	}
}

// Output that ends within a line, writes over it, or is not ASCII.
func testAttachLines(t *testing.T, s shell) {
	id := s.session(t)
	term := s.attach(t, id, 80)
	term.line("printf abc")
	term.ends("$ printf abc", "abc", "$")
	term.line(`for i in 1 2 3; do printf "\r$i of 3"; sleep 0.05; done; read x; echo; printf 'a\tb\rA\nlast'`)
	term.ends("3 of 3 »")
	term.line("")
	term.ends("3 of 3 »", "", "A       b", "last", "$")
	term.line(`printf '\xc3'; sleep 0.05; printf '\xbc\xe6\x97\xa5\nx\xff'`)
	term.ends("ü日", "x\ufffd", "$")
	term.line(`printf 'red: \e[31mred'; sleep 0.05; printf ' still'; read x; printf '\e[0m\n'`)
	term.ends("red: red still »")
	term.line("")
	term.ends("red: red still »", "", "$")
	term.line("head -c 200 /dev/zero | tr '\\0' x; read x")
	term.ends(strings.Repeat("x", 80), strings.Repeat("x", 80), strings.Repeat("x", 40)+" »")
	term.line("")
	term.until("the end", func(screen string) bool { return strings.HasSuffix(screen, "\n$") })
	term.line("echo 日本 | cat; printf 日本; read x")
	term.ends("日本", "日本", "»")
	term.types("\x03\x1d")
	term.ended(0)
}

func testAttachPaste(t *testing.T, s shell) {
	id := s.session(t)
	term := s.attach(t, id, 80)
	// Nothing of it is run before Enter, and then all of it as one.
	term.types("\x1b[200~for i in 1 2 3\ndo\r\n\techo $i\x03\n\ndone\n\n\x1b[201~")
	term.ends("$ for i in 1 2 3␊do␊␉echo $i␊␊done")
	if runs := s.must(t, "ls", "-q", id); runs != "" {
		t.Errorf("it has been run: %q", runs)
	}
	term.line("")
	term.ends("1", "2", "3", "$")
	if runs := unmarshal[[]runInfo](t, s.must(t, "ls", id, "--json")); len(runs) != 1 || runs[0].Code != "for i in 1 2 3\ndo\n\techo $i\n\ndone" {
		t.Errorf("%+v", runs)
	}
	// As input too.
	term.line("cat -A")
	term.ends("»")
	term.types("\x1b[200~a\tb\nc\x1b[201~\r")
	term.ends("a^Ib$", "c$", "»")
	term.types("\x04")
	term.until("the end", func(screen string) bool { return strings.HasSuffix(screen, "\n$") })
	// Much; and too much typed, of which a part must not be run.
	const much = 1 << 20
	term.types("\x1b[200~x=" + strings.Repeat("y", much) + "\x1b[201~\r")
	term.until("the end", func(screen string) bool { return strings.HasSuffix(screen, "\n$") })
	term.line("echo ${#x} characters")
	term.shows("1048576 characters")
	term.types("echo run; : " + strings.Repeat("z", 5000))
	term.line("")
	term.until("a refusal", func(screen string) bool { return strings.Contains(screen, "the line was longer than can be typed") })
	term.line("echo end")
	screen := term.ends("$ echo end", "end", "$")
	if strings.Contains(screen, "\nrun\n") {
		t.Error("a part of a line was run")
	}
	term.types("\x1d")
	term.ended(0)
}

func testAttachNarrow(t *testing.T, s shell) {
	id := s.session(t)
	term := s.attach(t, id, 20)
	term.line("echo twenty columns are few")
	term.ends("$ echo twenty column", "s are few", "twenty columns are f", "ew", "$")
	term.resize(40, 24)
	term.types("echo now there are forty of them, and no more")
	term.ends("$ echo now there are forty of them, and", "no more")
	s.must(t, "run", "-s", id, "--", "echo meanwhile")
	term.ends("meanwhile", "$ echo now there are forty of them, and", "no more")
	term.line("")
	term.ends("$ echo now there are forty of them, and", "no more", "now there are forty of them, and no more", "$")
	term.types("\x1d")
	term.ended(0)
}

// Characters of two columns, and those of several code points.
func testAttachWide(t *testing.T, s shell) {
	id := s.session(t)
	term := s.attach(t, id, 20)
	term.types("echo 日本語\x02\x1b[DX")
	term.ends("$ echo 日X本語")
	term.types("\x7f\x7f\x05語")
	term.ends("$ echo 本語語")
	term.line("")
	term.ends("$ echo 本語語", "本語語", "$")
	term.types("echo 一二三四五六七")
	term.ends("$ echo 一二三四五六", "七")
	s.must(t, "run", "-s", id, "--", "echo 同時")
	term.ends("同時", "$ echo 一二三四五六", "七")
	term.types("\x01\x06\x06\x06\x06\x06_") // the row is full, and one column more does not fit
	term.ends("$ echo _一二三四五六", "七")
	term.types("\x1b[3~\x1b[3~\x05八九十\x7f\x7f")
	term.ends("$ echo _三四五六七八") // which is as wide as the terminal
	term.line("")
	term.ends("$ echo _三四五六七八", "_三四五六七八", "$")
	term.types("\x1b[A\x15echo a\u0301\u0323e\u0301\x7fé 👩\u200d👩\u200d👧\x7f🇩🇪")
	term.ends("$ echo a\u0301\u0323é 🇩🇪")
	term.types("\x1b語") // behind Escape one can go on
	term.line("")
	term.ends("$ echo a\u0301\u0323é 🇩🇪語", "a\u0301\u0323é 🇩🇪語", "$")
	term.types("\x1d")
	term.ended(0)
}

// Nothing that output says may act on the terminal beyond its own line.
func testAttachHarmless(t *testing.T, s shell) {
	id := s.session(t)
	// What Up finds, and what is said of the runs of others.
	s.must(t, "run", "-s", id, "--", ": '\x1b[6n'")
	term := s.attach(t, id, 80)
	term.types("\x1b[A\x15")
	term.line(`printf '\e[6n\e[c\x05\e]0;title\a\e]52;c;eA==\e\\\e[?1049h\e[2J\e[H\e(0\x0e\xc2\x9b6n\e[31mred\e[0m\e]open\nnext\n'`)
	term.ends("6nred", "next", "$") // of a C1 sequence, the rest is text
	term.line("head -c 200000 " + os.Args[0] + "; echo; echo end")
	term.ends("end", "$")
	term.line("echo last")
	term.ends("last", "$")
	term.types("\x1d")
	term.ended(0)
	raw := string(term.written())
	for _, bad := range []string{"\x1b[6n", "\x1b[c", "\x05", "\x1b]", "\x1b[?1049h", "\x1b[2J", "\x1b(0", "\x0e", "\xc2\x9b"} {
		if strings.Contains(raw, bad) {
			t.Errorf("%q came through", bad)
		}
	}
}

func testAttachFlood(t *testing.T, s shell) {
	id := s.session(t)
	term := s.attach(t, id, 80)
	term.line("yes | head -c 3000000; echo flooded; read x; yes")
	term.ends("flooded", "»")
	term.line("")
	term.shows("y")
	term.types("\x03")
	term.until("the end", func(screen string) bool { return strings.HasSuffix(screen, "\n$") })
	term.line("echo here")
	term.ends("here", "$")
	term.types("\x1d")
	term.ended(0)
}

func testAttachCut(t *testing.T, s shell) {
	proxy := newCutter(t, s.server.url, 0)
	there := shell{s.bin, s.server, []string{"TANDEM_URL=" + proxy.url()}}
	id := s.session(t)
	term := there.attach(t, id, 80)
	term.line("x=kept; echo started; read y; echo $y")
	term.ends("started", "»")
	proxy.cut()
	term.until("the loss", func(screen string) bool { return strings.Contains(screen, "the connection was lost, trying again") })
	term.line("an answer")
	term.ends("an answer", "$")
	term.line("echo $x")
	term.ends("kept", "$")
	term.types("\x1d")
	term.ended(0)
}

func testAttachSessionEnds(t *testing.T, s shell) {
	id := s.session(t)
	term := s.attach(t, id, 80)
	term.line("printf partial; sleep 1000")
	term.ends("partial »")
	s.must(t, "rm", id)
	term.ended(0)
	term.until("why", func(screen string) bool {
		return strings.Contains(screen, "partial\nsession_closed after ") && strings.HasSuffix(screen, "the session has ended")
	})
}

// Whoever wants to go can, also when the server does not answer.
func testAttachServerStopped(t *testing.T, s shell) {
	stuck := shell{bin: s.bin, server: startProgram(t, s.bin)}
	id := strings.TrimSpace(stuck.must(t, "new"))
	term := stuck.attach(t, id, 80)
	stuck.server.stop()
	term.line("echo never")
	term.ends("$ echo never", "»")
	term.types("\x03\x1d")
	term.ended(0)
	stuck.server.signal(syscall.SIGCONT)
}

func testAttachPiped(t *testing.T, s shell) {
	id := s.session(t, "--name", "piped")
	d := s.feed(t, strings.NewReader("x=5\necho $x; printf '\\033[6n\\377'\n\necho bad >&2\nread y\necho last"), "attach", id)
	if d.stdout != "5\n\x1b[6n\xfflast\n" || d.code != 0 || !strings.Contains(d.stderr, "attached to piped") || !strings.Contains(d.stderr, "\nbad\n") {
		t.Errorf("%+v", d)
	}
}
