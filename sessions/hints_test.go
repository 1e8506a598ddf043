package sessions

import (
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
