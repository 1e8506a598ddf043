package sessions

import (
	"os/exec"
	"strings"
	"testing"
)

func TestMeddles(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"true":                              false,
		"cd .. && make -j4":                 false,
		"git add . && git commit -m x":      false,
		"find . -name '*.go'; ls . ..":      false,
		"echo Hello. World resources":       false,
		"./configure; evaluate; x=1.5 ":     false,
		`grep -r "a. b" .`:                  false,
		"enable -n test":                    true,
		"x; builtin cd /":                   true,
		". ./env":                           true,
		"  .\tenv":                          true,
		"cd x && . env":                     true,
		"if true; then . env; fi":           true,
		"{ . env; }":                        true,
		"A=1 . env":                         true,
		`\. env`:                            true,
		"source env":                        true,
		"declare -i _":                      true,
		"f() { eval x; }":                   true,
		"PS1='$ '":                          true,
		"trap 'x' INT":                      true,
		"exec 12>&-":                        true,
		"exec {fd}<&-; true":                true,
		"exec 3>&12-":                       true,
		"exec >log 2>&1":                    false,
		"find . -exec rm {} +; limits":      false,
		"ulimit -n 2":                       true,
		strings.Repeat("echo a. b\n", 1000): true,
	} {
		if got := meddles(code); got != want {
			t.Errorf("%q: %t, want %t", cut(code), got, want)
		}
	}
}

func TestPlainWords(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"":                             true,
		"true":                         true,
		"cd /tmp\n\tls -la ~/x *.go\n": true,
		"A=1 make -j4 test=a,b+c":      true,
		"echo $HOME $1 50% a@b?":       true,
		"git show HEAD^ --stat":        true,
		"echo if":                      true,
		"A=1 fi":                       true,
		"fi":                           false,
		"true\n\tdone x":               false,
		"time ls":                      false,
		"echo $?":                      false,
		"echo ${x}":                    false,
		"echo 'a'":                     false,
		`echo "a"`:                     false,
		`echo \a`:                      false,
		"echo `a`":                     false,
		"a; b":                         false,
		"a | b":                        false,
		"a &":                          false,
		"a > b":                        false,
		"a < b":                        false,
		"(a)":                          false,
		"{ a":                          false,
		"! a":                          false,
		"[ a ]":                        false,
		"a # b":                        false,
		"a\rb":                         false,
		"é":                            false,
	} {
		if got := plainWords(code); got != want {
			t.Errorf("%q: %t, want %t", code, got, want)
		}
	}
}

// FuzzPlainWords checks that bash finds nothing wrong with the syntax of such code.
func FuzzPlainWords(f *testing.F) {
	for _, word := range append(reserved, "true", "a=1 fi", "in\n\n do", "$", "$a^ ~", "=", "%1", "a\n\tb", "-") {
		f.Add(word)
	}
	f.Fuzz(func(t *testing.T, code string) {
		if !plainWords(code) {
			return
		}
		bash := exec.Command("bash", "-n", "/dev/stdin")
		bash.Stdin = strings.NewReader(code)
		if out, err := bash.CombinedOutput(); err != nil {
			t.Errorf("%q: %v: %s", code, err, out)
		}
	})
}

func TestMayTrap(t *testing.T) {
	t.Parallel()
	const setter = "setter () \n{ \n    trap x INT\n}\n"
	const functions = "caller () \n{ \n    echo; setter\n}\n" + setter + "top-most () \n{ \n    : $(caller)\n}\nother () \n{ \n    echo traps\n}\n"
	for _, c := range []struct {
		state checkpoint
		code  string
		want  bool
	}{
		{checkpoint{}, "true", false},
		{checkpoint{traps: []byte("trap -- 'x' SIGINT\n")}, "true", true},
		{checkpoint{traps: []byte("trap -- 'x' SIGTERM\n")}, "true", false},
		{checkpoint{functions: []byte(functions)}, "while :; do other; done", false},
		{checkpoint{functions: []byte(functions)}, "x; setter 1", true},
		{checkpoint{functions: []byte(functions)}, "caller", true},
		{checkpoint{functions: []byte(functions)}, "top-most &", true},
		{checkpoint{functions: []byte(functions)}, "eval $x", true},
		{checkpoint{functions: []byte(functions)}, ". ./lib", true},
		{checkpoint{functions: []byte(functions), aliases: []byte("alias c='caller'\n")}, "c", true},
		{checkpoint{functions: []byte(functions), traps: []byte("trap -- 'caller' ERR\n")}, "false", true},
		{checkpoint{functions: []byte("other () \n{ \n    echo traps\n}\n")}, "eval $x", false},
		{checkpoint{functions: []byte("command_not_found_handle () \n{ \n    setter\n}\n" + setter)}, "nosuch", true},
	} {
		if got := c.state.mayTrap(c.code); got != c.want {
			t.Errorf("%q: %t, want %t", c.code, got, c.want)
		}
	}
}
