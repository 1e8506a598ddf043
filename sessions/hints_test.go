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
		"2>/dev/null . env":                 true,
		"command -p . env":                  true,
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

func TestPlainCommand(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"true":                                  true,
		"cd /tmp":                               true,
		"A=1 export B=$A":                       true,
		"A=1":                                   true,
		"A=1 B+=$x":                             true,
		"echo\t$HOME $1 50% a@b? ~/x *.go exit": true,
		"echo if":                               true,
		"":                                      false,
		"true\ntrue":                            false,
		"ls":                                    false,
		"/bin/echo":                             false,
		"wait":                                  false,
		"let x":                                 false,
		"printf -v $x a":                        false,
		"unset $x":                              false,
		"RANDOM=x":                              false,
		"A=1 OPTIND=x true":                     false,
		"exit":                                  false,
		"A=1 exit 3":                            false,
		"fi":                                    false,
		"time echo":                             false,
		"$x 3":                                  false,
		"A=1 $x":                                false,
		"echo$y 3":                              false,
		"$x=3":                                  false,
		"=x $y":                                 false,
		"echo $LINENO":                          false,
		"A=$LINENO":                             false,
		"echo $BASH_SOURCE":                     false,
		"echo $?":                               false,
		"echo $_":                               false,
		"echo ${x}":                             false,
		"echo 'a'":                              false,
		`echo "a"`:                              false,
		`echo \a`:                               false,
		"echo `a`":                              false,
		"echo; b":                               false,
		"echo | b":                              false,
		"echo &":                                false,
		"echo > b":                              false,
		"echo < b":                              false,
		"echo (a)":                              false,
		"{ echo":                                false,
		"! true":                                false,
		"echo a # b":                            false,
		"true\r":                                false,
		"echo é":                                false,
		"echo " + strings.Repeat("x", 1000):     false,
	} {
		if got := plainCommand(code); got != want {
			t.Errorf("%q: %t, want %t", cut(code), got, want)
		}
	}
}

// FuzzPlainCommand checks that such code is one command to bash, and ends where the driver's line
// goes on: what is said after it is run.
func FuzzPlainCommand(f *testing.F) {
	for _, code := range []string{"true", "a=1 cd", "a=1", "echo in do fi", "type $ $a^ ~", "echo %1", "type\tb", "x+=1 umask -"} {
		f.Add(code)
	}
	f.Fuzz(func(t *testing.T, code string) {
		if code = strings.Trim(code, " \t\n"); !plainCommand(code) {
			return
		}
		bash := exec.Command("bash", "--norc", "-c", "f() { { "+code+"; } 0</dev/null; printf x; }; declare -f f")
		out, err := bash.CombinedOutput()
		if err != nil || strings.Count(string(out), ";\n") != 1 || !strings.HasSuffix(string(out), "} < /dev/null;\n    printf x\n}\n") {
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
