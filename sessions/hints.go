package sessions

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
)

// What code may do to its shell is guessed by its words, and more often too much than too little:
// nothing but time is lost by that. Code can also hide its words; what that does to the driver
// shows later.
var (
	// hasty is code after which something may be run or recorded before tame is: then its
	// options must be taken off by the very line that ran it.
	hasty = []string{"history", "PROMPT_COMMAND", "TMOUT"}

	// sourcing may run code of elsewhere.
	sourcing = []string{"source", ". ", ".\t", ".\\"}

	// copying may make the shell keep a descriptor of the run's output, or run such code.
	copying = append([]string{"&", "exec"}, sourcing...)

	// ending may end the shell without a word, or with an EXIT trap of its own in place of ours.
	ending = []string{"exec", "kill", "trap"}

	// trapping may set a trap, ownTraps one that the driver must know of before the next run.
	trapping = append([]string{"trap", "eval"}, sourcing...)
	ownTraps = []string{"DEBUG", "EXIT"}

	// telling makes functions or aliases, which may stand for plainBuiltins, or switches something on by
	// which those do other in the driver's own line than where code is sourced.
	telling = []string{"()", "( ", "(\t", "function", "alias", "ALIASES", "shopt", "set -", "errexit", "xtrace"}

	// ownTelling asks by itself where it stands, or evaluates what it is given, where there may be any
	// code.
	ownTelling = []string{"$_", "$?", "LINENO", "FUNCNAME", "BASH_", "RANDOM", "OPTIND", "HISTCMD", "SECONDS"}

	// meddling may disable or replace what quickLine is made of, keep the shell from having its own
	// stdout back after the code, leave it too few descriptors, or give the user prompts.
	// meddlingWord finds the same words where they are whole, and a dot where it is no argument:
	// it takes longer, and is asked where one of them has been found.
	meddling     = append([]string{"builtin", "declare", "enable", "eval", "exec", "limit", "PROMPT_COMMAND", "PS1", "readonly", "trap", "typeset"}, sourcing...)
	meddlingWord = regexp.MustCompile(`\b(builtin|declare|enable|eval|PROMPT_COMMAND|PS1|prlimit|readonly|source|trap|typeset|ulimit)\b|` +
		`\bexec\b.*[<>]&\S*-|` +
		`((?m:^)|[;&|(){}!"'=\x60]|[=<>]\S*\s|\b(then|do|else|elif|if|while|until|time|command(\s+-p)?)\s)\s*["'\\]*\.[\s\\]`)
)

// trapWord is in code that sets a trap.
var trapWord = regexp.MustCompile(`\btrap\b`)

// mentions reports whether any of the words is in code.
func mentions(code string, words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(code, w) })
}

// meddles reports whether code is meddling.
func meddles(code string) bool {
	return mentions(code, meddling) && (len(code) > 4<<10 || meddlingWord.MatchString(code))
}

// meddlesAs reports whether a variable, NAME=VALUE, has such code, or brings some into the
// shell by its name.
func meddlesAs(variable string) bool {
	return strings.HasPrefix(variable, "BASH_FUNC_") || meddles(variable)
}

// tellsAs reports whether a variable, NAME=VALUE, that a shell begins with switches such things on.
func tellsAs(variable string) bool { return strings.HasPrefix(variable, "BASHOPTS=") }

// plainBuiltins neither start a child nor wait for one, nor leave the code. In a line that it has read
// itself bash is more interactive than in a file that it sources: it would say on the code's stderr
// that it exits, or when a child has died of a signal that there is no terminal. Nor do they look at
// their stdin, which is the driver's there. That leaves out what evaluates an arithmetic expression
// or a subscript, in which there may be a command: let, and of some versions printf -v and unset.
var plainBuiltins = []string{":", "cd", "dirs", "echo", "export", "false", "popd", "pushd", "pwd", "shift", "true", "type", "umask"}

// plainCommand reports whether code, which has no blanks around it, is assignments or one of
// plainBuiltins, in plain words. Such code can stand in the driver's own line: it is free of syntax
// errors, ends where the line goes on, and does the same there as in a file that is sourced, but for
// what telling and ownTelling are about.
func plainCommand(code string) bool {
	const most = 512 // the shell reads its commands in blocks of 1,024 bytes
	if len(code) > most || mentions(code, ownTelling) || strings.IndexFunc(code, func(c rune) bool { return !plain(c) }) >= 0 {
		return false
	}
	for word := range strings.FieldsSeq(code) {
		if !assignment.MatchString(word) {
			return slices.Contains(plainBuiltins, word)
		}
	}
	return code != ""
}

var assignment = regexp.MustCompile(`^[A-Za-z_]\w*\+?=`)

// plain is what quotes nothing, and makes neither an operator nor a comment, nor ends a command.
func plain(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(" \t$%*+,-./:=?@^_~", c)
}

// mayTrap reports whether a shell in this state may have a trap for SIGINT while it runs code.
func (c *checkpoint) mayTrap(code string) bool {
	if bytes.Contains(c.traps, []byte("SIGINT")) {
		return true
	}
	setters := trapSetters(string(c.functions))
	if len(setters) == 0 {
		return false
	}
	unseen := slices.Contains(setters, "command_not_found_handle") || mentions(code, trapping)
	return unseen || mentions(code, setters) || mentions(string(c.aliases), setters) || mentions(string(c.traps), setters)
}

// functionHead is where declare -f has a function begin.
var functionHead = regexp.MustCompile(`(?m)^(\S+) \(\) \n\{ $`)

// trapSetters are those of the functions, as declare -f shows them, that may set a trap: they say
// so, or name others that do.
func trapSetters(functions string) (names []string) {
	if !strings.Contains(functions, "trap") {
		return nil
	}
	bodies := map[string]string{}
	heads := functionHead.FindAllStringSubmatchIndex(functions, -1)
	for i, h := range heads {
		end := len(functions)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		name, body := functions[h[2]:h[3]], functions[h[1]:end]
		if trapWord.MatchString(body) {
			names = append(names, name)
		} else {
			bodies[name] = body
		}
	}
	for found := len(names) > 0; found; {
		found = false
		for name, body := range bodies {
			if mentions(body, names) {
				names, found = append(names, name), true
				delete(bodies, name)
			}
		}
	}
	return names
}
