package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"tandem/sessions"
	"tandem/sessions/sessionstest"
)

// complete completes a line in which | is the cursor, at the end where there is none.
func complete(t testing.TB, s *sessions.Session, marked string) *sessions.Completions {
	t.Helper()
	c, err := s.Complete(t.Context(), strings.Replace(marked, "|", "", 1), cursor(marked))
	if err != nil {
		t.Fatalf("complete %q: %v", marked, err)
	}
	return c
}

func cursor(marked string) int {
	before, _, _ := strings.Cut(marked, "|")
	return utf8.RuneCountInString(before)
}

// must runs what sets a test up.
func must(t testing.TB, s *sessions.Session, code string) {
	t.Helper()
	if r := sessionstest.Run(t, s, code); r.Code() != 0 || r.Stderr != "" {
		t.Fatalf("%s: %d %q", code, r.Code(), r.Stderr)
	}
}

func TestComplete(t *testing.T) {
	t.Parallel()
	const files = `touch 'foo bar' foo2 é1 é2x 👍🏽up -- -dash 'a$b' $'nl\nx' 'nl y' d.x e.x; mkdir dir1 sub; touch sub/deep1 sub/deep2; `
	m := sessionstest.New(t, sessions.Config{})
	for name, c := range map[string]struct {
		set   string
		line  string // | is the cursor
		after string // the line after Tab, likewise
		word  string // what items replace
		items []string
	}{
		"several files":          {line: "cat fo", after: "cat foo|", word: "fo", items: []string{`foo\ bar`, "foo2"}},
		"one file":               {line: "cat 'a", after: "cat 'a$b' |", word: "'a", items: []string{`'a$b'`}},
		"dollar in a name":       {line: "cat a", after: `cat a\$b |`, word: "a", items: []string{`a\$b`}},
		"one directory":          {line: "cd dir", after: "cd dir1/|", word: "dir", items: []string{"dir1/"}},
		"in a directory":         {line: "cat sub/d", after: "cat sub/deep|", word: "sub/d", items: []string{"sub/deep1", "sub/deep2"}},
		"nothing":                {line: "cat zz", after: "cat zz|", items: []string{}},
		"double quotes":          {line: `cat "fo`, after: `cat "foo|`, word: `"fo`, items: []string{`"foo bar"`, "foo2"}},
		"closed behind":          {line: `cat "foo |" x`, after: `cat "foo bar"| x`, word: `"foo "`, items: []string{`"foo bar"`}},
		"single quotes":          {line: `cat 'fo`, after: `cat 'foo|`, word: `'fo`, items: []string{`'foo bar'`, "foo2"}},
		"backslash":              {line: `cat foo\ b`, after: `cat foo\ bar |`, word: `foo\ b`, items: []string{`foo\ bar`}},
		"mid-line":               {line: "cat fo| zz", after: "cat foo| zz", word: "fo", items: []string{`foo\ bar`, "foo2"}},
		"mid-word":               {line: "cat f|x", after: "cat foo|x", word: "f", items: []string{`foo\ bar`, "foo2"}},
		"multibyte":              {line: "cat é1 é", after: "cat é1 é|", word: "é", items: []string{"é1", "é2x"}},
		"multibyte before":       {line: "cat ééé fo| é", after: "cat ééé foo| é", word: "fo", items: []string{`foo\ bar`, "foo2"}},
		"emoji":                  {line: "cat 👍", after: "cat 👍🏽up |", word: "👍", items: []string{"👍🏽up"}},
		"newline in a name":      {line: "cat nl", after: "cat nl|", word: "nl", items: []string{"'nl\nx'", `nl\ y`}},
		"newline in the line":    {line: "true\ncat fo", after: "true\ncat foo|", word: "fo", items: []string{`foo\ bar`, "foo2"}},
		"tab in the line":        {line: "true\tfo", after: "true\tfoo|", word: "fo", items: []string{`foo\ bar`, "foo2"}},
		"leading dash":           {line: "cat -", after: "cat -dash |", word: "-", items: []string{"-dash"}},
		"option's value":         {line: "ls --x=fo", after: "ls --x=foo|", word: "fo", items: []string{`foo\ bar`, "foo2"}},
		"control characters":     {line: "cat '\x18\x03\x1b[A' sub/deep1 d", after: "cat '\x18\x03\x1b[A' sub/deep1 d|", word: "d", items: []string{"d.x", "dir1"}},
		"variable":               {set: "long_a=1 long_b=2", line: "echo $long", after: "echo $long_|", word: "$long", items: []string{"$long_a", "$long_b"}},
		"variable in braces":     {set: "long_a=1", line: "echo ${long", after: "echo ${long_a} |", word: "${long", items: []string{"${long_a}"}},
		"home":                   {set: `HOME=$PWD/sub`, line: "cat ~/de", after: "cat ~/deep|", word: "~/de", items: []string{"~/deep1", "~/deep2"}},
		"after cd":               {set: "cd sub", line: "cat de", after: "cat deep|", word: "de", items: []string{"deep1", "deep2"}},
		"function as a command":  {set: "my_func() { :; }", line: "my_f", after: "my_func |", word: "my_f", items: []string{"my_func"}},
		"alias as a command":     {set: "alias my_alias=ls", line: "true; my_a", after: "true; my_alias |", word: "my_a", items: []string{"my_alias"}},
		"builtin as a command":   {set: "PATH=", line: "compg", after: "compgen |", word: "compg", items: []string{"compgen"}},
		"keyword as a command":   {set: "PATH=", line: "functio", after: "function |", word: "functio", items: []string{"function"}},
		"in a substitution":      {line: "echo $(compge", after: "echo $(compgen |", word: "compge", items: []string{"compgen"}},
		"nocaseglob":             {set: "shopt -s nocaseglob", line: "cat FO", after: "cat FO|", items: []string{}},
		"word list":              {set: "complete -W 'aa ab b' c", line: "c a", after: "c a|", word: "a", items: []string{"aa", "ab"}},
		"no progcomp":            {set: "complete -W 'aa' c; shopt -u progcomp", line: "c a", after: `c a\$b |`, word: "a", items: []string{`a\$b`}},
		"filter":                 {set: "complete -f -X '!*.x' c", line: "c ", after: "c |", word: "", items: []string{"d.x", "e.x"}},
		"extglob filter":         {set: "shopt -s extglob; complete -f -X '!@(d|sub).x' c", line: "c\u0020", after: "c d.x |", word: "", items: []string{"d.x"}},
		"function":               {set: `_c() { COMPREPLY=("$COMP_CWORD-${COMP_WORDS[1]}-$COMP_POINT-$1-$3"); }; complete -F _c c`, line: "c x é", after: "c x 2-x-5-c-x |", word: "é", items: []string{"2-x-5-c-x"}},
		"nospace":                {set: `_c() { compopt -o nospace; COMPREPLY=(key=); }; complete -F _c c`, line: "c k", after: "c key=|", word: "k", items: []string{"key="}},
		"function's file names":  {set: `_c() { COMPREPLY=('foo bar' foo2 sub); }; complete -o filenames -F _c c`, line: "c x", after: "c x|", word: "x", items: []string{`foo\ bar`, "foo2", "sub"}},
		"nothing, then default":  {set: `_c() { COMPREPLY=(); }; complete -o default -F _c c`, line: "c fo", after: "c foo|", word: "fo", items: []string{`foo\ bar`, "foo2"}},
		"nothing, then bash's":   {set: `v_one=; complete -o bashdefault -W '' c`, line: "c $v_o", after: "c $v_one |", word: "$v_o", items: []string{"$v_one"}},
		"candidates with spaces": {set: `_c() { COMPREPLY=("see this" "see that's" "see"); }; complete -o nosort -F _c c`, line: "c s", after: "c see|", word: "s", items: []string{"see this", "see that's", "see"}},
		"loader":                 {set: `_l() { complete -W "loaded-$1" "$1"; return 124; }; complete -D -F _l`, line: "thing l", after: "thing loaded-thing |", word: "l", items: []string{"loaded-thing"}},
		"reads stdin":            {set: `_c() { read -r x; COMPREPLY=("read$x$?"); }; complete -F _c c`, line: "c ", after: "c read1 |", word: "", items: []string{"read1"}},
		"prints":                 {set: `_c() { echo out; echo err >&2; COMPREPLY=(x); }; complete -F _c c`, line: "c ", after: "c x |", word: "", items: []string{"x"}},
		"COMP_WORDBREAKS":        {set: `COMP_WORDBREAKS=${COMP_WORDBREAKS//:}; complete -W 'a:b a:c' c`, line: "c a:", after: "c a:|", word: "a:", items: []string{"a:b", "a:c"}},
		"colon":                  {set: `complete -W 'b c' c`, line: "c a:", after: "c a:|", word: "", items: []string{"b", "c"}},
		"empty line":             {set: "PATH=; unset -f $(compgen -A function); shopt -s no_empty_cmd_completion", line: "", after: "|", items: []string{}},
		"directory's name":       {set: `mkdir "it's"; cd "it's"; touch q`, line: "cat ", after: "cat q |", word: "", items: []string{"q"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sessionstest.Session(t, m)
			must(t, s, files+c.set)
			got := complete(t, s, c.line)
			if line := strings.Replace(c.after, "|", "", 1); got.Line != line || got.Point != cursor(c.after) {
				t.Errorf("line %q, cursor at %d; want %q", got.Line, got.Point, c.after)
			}
			asked := []rune(strings.Replace(c.line, "|", "", 1))
			if got.Start > got.End || got.End > len(asked) || string(asked[got.Start:got.End]) != c.word {
				t.Errorf("items replace %d to %d, want %q", got.Start, got.End, c.word)
			}
			if got.Items == nil || !slices.Equal(got.Items, c.items) || got.Truncated {
				t.Errorf("items %q, truncated %v; want %q", got.Items, got.Truncated, c.items)
			}
		})
	}
}

// Whatever a session has done to its shell, its helper completes.
func TestCompleteInAnyState(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	for _, set := range []string{
		"set -u", "set -e", "set -x", "set -v", "set -f", "set -C", "set -T -E", "set -o posix", "set -o vi", "set -k", "set -H", "set -o history", "set -m",
		"IFS=fo", "IFS=", "unset IFS", "readonly ro=1 HISTFILE=/dev/null", "readonly PS1='$(exit 3)'", "mine=$$ PROMPT_COMMAND='[ $$ = $mine ] || sleep 9'", "mine=$$ PS1='$([ $$ = $mine ] || sleep 9)'", "mine=$$ PS0='$([ $$ = $mine ] || sleep 9)'",
		"printf() { :; }; bind() { :; }; complete() { :; }; exec() { :; }; enable() { :; }; test() { :; }", "builtin() { :; }; unset() { :; }",
		"shopt -s expand_aliases; alias printf=: bind=: complete=: builtin=: .=: case=: exec=:", "enable -n printf bind test exec",
		"LC_ALL=C", "LC_ALL=POSIX; readonly LC_ALL", "LANG=C; unset LC_ALL", "TERM=dumb", "unset TERM", "INPUTRC=/nonexistent", "TMOUT=1",
		"mine=$$; trap '[ $$ = $mine ] || sleep 9' DEBUG EXIT RETURN", "set -- one 'two three'", "shopt -s histverify failglob nullglob dotglob cdspell direxpand; shopt -u sourcepath",
		"READLINE_LINE=x READLINE_POINT=1", "enable -n builtin . eval declare set unset", "GLOBIGNORE='*'", "umask 777", "COLUMNS=3 LINES=1", "exec >/dev/null 2>&1",
		"HISTFILE=/dev/full; HISTSIZE=5", "BASH_ENV=/nonexistent ENV=/nonexistent", "large=$(printf '%0300000d' 1)",
	} {
		t.Run(set, func(t *testing.T) {
			t.Parallel()
			s := sessionstest.Session(t, m)
			must(t, s, "touch é_file1 é_file2 fox")
			sessionstest.Run(t, s, set)
			if got := complete(t, s, "cat é| x"); got.Line != "cat é_file x" || got.Point != 10 || fmt.Sprint(got.Items, got.Start, got.End) != "[é_file1 é_file2] 4 5" {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestCompleteLeavesNoTrace(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	s := sessionstest.Session(t, m)
	must(t, s, `_c() { made=1; made_f() { :; }; shopt -s dotglob; cd /; history -s traced; alias made_a=x; sleep 60 & COMPREPLY=(x); }
complete -F _c c; set -o history; history -c; RANDOM=7; v=$RANDOM; export E=1`)
	const show = `echo "$? $_ $v $RANDOM"; declare -p | grep -v '^declare -[a-z-]* \(BASH\|_=\|EPOCH\|SRANDOM\|SECONDS\|LINENO\|RANDOM\|PIPESTATUS\|FUNCNAME\)'; declare -f; alias; shopt; set -o; jobs; history | grep traced; pwd; ls -a; complete -p; ! :`
	twin := sessionstest.Session(t, m)
	must(t, twin, "cd "+quoted(s.Info().Cwd)+`; _c() { made=1; made_f() { :; }; shopt -s dotglob; cd /; history -s traced; alias made_a=x; sleep 60 & COMPREPLY=(x); }
complete -F _c c; set -o history; history -c; RANDOM=7; v=$RANDOM; export E=1`)
	for _, s := range []*sessions.Session{s, twin} {
		sessionstest.Run(t, s, "(exit 5)")
	}
	_, before, err := s.Attach(sessions.AttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := complete(t, s, "c "); !slices.Equal(got.Items, []string{"x"}) {
		t.Errorf("%+v", got)
	}
	r, after, err := s.Attach(sessions.AttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if after.Pos != before.Pos {
		t.Errorf("%d positions in the journal", after.Pos-before.Pos)
	}
	got, want := sessionstest.Run(t, s, show), sessionstest.Run(t, twin, show)
	ignore := func(out string) (lines []string) {
		for line := range strings.Lines(out) {
			if !strings.Contains(line, "OLDPWD") && !strings.Contains(line, "HISTCMD") && !strings.Contains(line, " PPID") && !strings.Contains(line, "DIRSTACK") {
				lines = append(lines, line)
			}
		}
		return lines
	}
	if g, w := ignore(got.Stdout), ignore(want.Stdout); !slices.Equal(g, w) {
		t.Errorf("the session is\n%q\nwithout a completion\n%q", g, w)
	}
}

func quoted(s string) string { return "'" + s + "'" }

func TestCompleteManyFiles(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	s := sessionstest.Session(t, m)
	for i := range 5000 {
		if err := os.WriteFile(filepath.Join(s.Info().Cwd, fmt.Sprintf("file %04d", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := complete(t, s, "cat f")
	if got.Line != `cat file\ ` || len(got.Items) != sessions.MaxCandidates || !got.Truncated || got.Items[999] != `file\ 0999` {
		t.Errorf("%d items, truncated %v, line %q", len(got.Items), got.Truncated, got.Line)
	}
	must(t, s, "x=$(printf '%0100000d' 0); _c() { COMPREPLY=({1..9}$x); }; complete -F _c c")
	if got := complete(t, s, "c "); len(got.Items) != 2 || !got.Truncated || len(got.Items[1]) != 100001 {
		t.Errorf("nine large: %d", len(got.Items))
	}
	must(t, s, "touch foo2")
	line := strings.Repeat("é ", 1500) + "foo" // readline takes time that grows with the square
	if got := complete(t, s, line); got.Line != line+"2 " || got.Start != utf8.RuneCountInString(line)-3 {
		t.Errorf("a long line: %d to %d, %q", got.Start, got.End, got.Items)
	}
}

func TestCompleteRefuses(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	s := sessionstest.Session(t, m)
	for name, c := range map[string]struct {
		line  string
		point int
		want  error
	}{
		"NUL":            {"a\x00", 0, sessions.ErrInvalid},
		"not UTF-8":      {"a\xff", 0, sessions.ErrInvalid},
		"negative":       {"a", -1, sessions.ErrInvalid},
		"beyond the end": {"é", 2, sessions.ErrInvalid},
		"too long":       {strings.Repeat("x", sessions.MaxLine+1), 0, sessions.ErrTooLarge},
	} {
		if _, err := s.Complete(t.Context(), c.line, c.point); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := sessionstest.Submit(t, s, sessions.RunRequest{Code: "read x", Stdin: sessions.OpenStdin})
	if _, err := s.Complete(t.Context(), "ls", 2); !errors.Is(err, sessions.ErrBusy) {
		t.Errorf("queued: %v", err)
	}
	<-r.Started()
	if _, err := s.Complete(t.Context(), "ls", 2); !errors.Is(err, sessions.ErrBusy) {
		t.Errorf("while a run is on: %v", err)
	}
	if err := r.CloseStdin(); err != nil {
		t.Fatal(err)
	}
	<-r.Done()
	must(t, s, "touch foo2")
	if got := complete(t, s, "cat fo"); got.Line != "cat foo2 " {
		t.Errorf("afterwards: %+v", got)
	}
	if err := m.Delete(s.ID()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Complete(t.Context(), "ls", 2); !errors.Is(err, sessions.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// hang is a completion that tells where it is and then takes for ever, with a process that
// has left its process group.
const hang = `_c() { ( trap '' TERM; setsid sleep 1000 & ) ; : >"$PWD/begun"; sleep 1000; }; complete -F _c c`

// hanging starts a completion that hangs and returns what becomes of it.
func hanging(t *testing.T, s *sessions.Session, ctx context.Context) <-chan error {
	t.Helper()
	must(t, s, hang)
	res := make(chan error, 1)
	go func() {
		_, err := s.Complete(ctx, "c ", 2)
		res <- err
	}()
	begun := filepath.Join(s.Info().Cwd, "begun")
	sessionstest.Await(t, "the completion has begun", func() bool { _, err := os.Stat(begun); return err == nil })
	return res
}

func TestCompleteTakesTooLong(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	s := sessionstest.Session(t, m)
	start := time.Now()
	res := hanging(t, s, t.Context())
	run := time.Now()
	must(t, s, "echo meanwhile; touch foo2")
	if took := time.Since(run); took > time.Second {
		t.Errorf("a run took %v meanwhile", took)
	}
	if err := <-res; !errors.Is(err, sessions.ErrRuntime) || err.Error() != "completion took longer than 3 s" {
		t.Errorf("%v", err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	if got := inDir(s.Info().Cwd); len(got) > 1 {
		t.Errorf("left: %q", got)
	}
	if got := complete(t, s, "cat fo"); got.Line != "cat foo2 " {
		t.Errorf("afterwards: %+v", got)
	}
}

// inDir returns the command lines of the processes that are in a directory.
func inDir(dir string) (found []string) {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, l := range links {
		if d, err := os.Readlink(l); err == nil && d == dir {
			cmd, _ := os.ReadFile(filepath.Join(filepath.Dir(l), "cmdline"))
			found = append(found, string(cmd))
		}
	}
	return found
}

func TestCompleteIsCancelled(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	s := sessionstest.Session(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	res := hanging(t, s, ctx)
	waiting := make(chan error, 1)
	go func() {
		_, err := s.Complete(ctx, "ls", 2)
		waiting <- err
	}()
	cancel()
	for _, c := range []<-chan error{res, waiting} {
		if err := <-c; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
	if got := inDir(s.Info().Cwd); len(got) > 1 {
		t.Errorf("left: %q", got)
	}
	must(t, s, "rm begun")
	res = hanging(t, s, t.Context())
	if err := m.Delete(s.ID()); err != nil {
		t.Fatal(err)
	}
	if err := <-res; !errors.Is(err, sessions.ErrClosed) {
		t.Errorf("%v", err)
	}
	if got := inDir(s.Info().Cwd); len(got) > 0 {
		t.Errorf("left: %q", got)
	}
}

func TestCompleteAtOnce(t *testing.T) {
	t.Parallel()
	m := sessionstest.New(t, sessions.Config{})
	s := sessionstest.Session(t, m)
	must(t, s, "touch foo2")
	res := make(chan string, 8)
	for range cap(res) {
		go func() {
			c, err := s.Complete(t.Context(), "cat fo", 6)
			if err != nil {
				res <- err.Error()
				return
			}
			res <- c.Line
		}()
	}
	for range cap(res) {
		if got := <-res; got != "cat foo2 " {
			t.Error(got)
		}
	}
}

func BenchmarkComplete(b *testing.B) {
	m := sessionstest.New(b, sessions.Config{})
	s := sessionstest.Session(b, m)
	must(b, s, "touch foo1 foo2")
	for b.Loop() {
		if _, err := s.Complete(b.Context(), "cat fo", 6); err != nil {
			b.Fatal(err)
		}
	}
}
